// SPDX-License-Identifier: MIT
// Integer workload: linked-list sorting, small-matrix arithmetic, a scanner's state machine and bitwise CRC, in about equal parts.

#include "workloads.h"

#include <string.h>

static uint16_t crc16(uint16_t crc, uint16_t value) {
    for (int bit = 0; bit < 16; bit++) {
        const unsigned carry = (crc ^ value) & 1u;
        crc >>= 1;
        value >>= 1;
        if (carry) crc ^= 0xa001u;
    }
    return crc;
}

// --- lists ---

enum { NODES = 96 };

struct node {
    struct node *next;
    int16_t key, tag;
};

static struct node *reverse(struct node *list) {
    struct node *done = NULL;
    while (list != NULL) {
        struct node *next = list->next;
        list->next = done;
        done = list;
        list = next;
    }
    return done;
}

// Bottom-up merge sort, stable; `by_tag` chooses the field.
static struct node *sort(struct node *list, int by_tag) {
    for (int width = 1;; width *= 2) {
        struct node *left = list, *tail = NULL;
        int merges = 0;
        list = NULL;
        while (left != NULL) {
            struct node *right = left;
            int left_count = 0, right_count = width;
            merges++;
            while (left_count < width && right != NULL) {
                left_count++;
                right = right->next;
            }
            while (left_count > 0 || (right_count > 0 && right != NULL)) {
                struct node *take;
                int from_left;
                if (left_count == 0) from_left = 0;
                else if (right_count == 0 || right == NULL) from_left = 1;
                else from_left = by_tag ? left->tag <= right->tag : left->key <= right->key;
                if (from_left) {
                    take = left;
                    left = left->next;
                    left_count--;
                } else {
                    take = right;
                    right = right->next;
                    right_count--;
                }
                if (tail != NULL) tail->next = take;
                else list = take;
                tail = take;
            }
            left = right;
        }
        tail->next = NULL;
        if (merges <= 1) return list;
    }
}

static uint16_t lists(uint16_t crc, uint64_t *random) {
    static struct node nodes[NODES];
    for (int i = 0; i < NODES; i++) {
        nodes[i].next = i + 1 < NODES ? &nodes[i + 1] : NULL;
        nodes[i].key = (int16_t)next_random(random);
        nodes[i].tag = (int16_t)i;
    }
    struct node *list = sort(reverse(nodes), 0);
    for (int round = 0; round < 12; round++) {
        const int16_t wanted = (int16_t)(next_random(random) % NODES);
        struct node *p = list;
        while (p != NULL && p->tag != wanted) p = p->next;
        if (p != NULL) crc = crc16(crc, (uint16_t)p->key);
        list = reverse(list);
    }
    list = sort(list, 1);
    for (const struct node *p = list; p != NULL; p = p->next) crc = crc16(crc, (uint16_t)p->key);
    return crc;
}

// --- matrices ---

enum { SIDE = 12 };

static uint16_t matrices(uint16_t crc, uint64_t *random) {
    static int16_t a[SIDE][SIDE], b[SIDE][SIDE];
    static int32_t c[SIDE][SIDE];
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
            const uint64_t r = next_random(random);
            a[i][j] = (int16_t)(r & 0xff);
            b[i][j] = (int16_t)(r >> 8 & 0xff);
        }
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < SIDE; i++)
            for (int j = 0; j < SIDE; j++) {
                int32_t sum = 0;
                for (int k = 0; k < SIDE; k++) {
                    const int32_t product = a[i][k] * b[k][j];
                    sum += (product >> 2 & 0xf) * (product >> 5 & 0x7f);
                }
                c[i][j] = sum;
            }
        int32_t total = 0;
        for (int i = 0; i < SIDE; i++)
            for (int j = 0; j < SIDE; j++) {
                total += c[i][j] > c[j][i] ? 10 : c[i][j] & 3;
                a[i][j] = (int16_t)(a[i][j] + (c[i][j] & 7) - round);
            }
        crc = crc16(crc, (uint16_t)total);
    }
    return crc;
}

// --- a scanner of numbers ---

enum state { START, SIGN, INTEGER, POINT, FRACTION, EXPONENT, EXPONENT_SIGN, SCALE, INVALID, STATES };

static enum state step(enum state s, char c) {
    const int digit = c >= '0' && c <= '9';
    switch (s) {
        case START: return digit ? INTEGER : c == '+' || c == '-' ? SIGN : c == '.' ? POINT : INVALID;
        case SIGN: return digit ? INTEGER : c == '.' ? POINT : INVALID;
        case INTEGER: return digit ? INTEGER : c == '.' ? FRACTION : c == 'e' ? EXPONENT : INVALID;
        case POINT: return digit ? FRACTION : INVALID;
        case FRACTION: return digit ? FRACTION : c == 'e' ? EXPONENT : INVALID;
        case EXPONENT: return digit ? SCALE : c == '+' || c == '-' ? EXPONENT_SIGN : INVALID;
        case EXPONENT_SIGN: return digit ? SCALE : INVALID;
        case SCALE: return digit ? SCALE : INVALID;
        default: return INVALID;
    }
}

static uint16_t scan(uint16_t crc, uint64_t *random) {
    static const char *const words[] = {"5012", "-874", "+122", "35.54400", ".1234500", "-110.700", "+0.64400",
                                        "5.500e+3", "-.123e-2", "-87e+832", "+0.6e-12", "T0.3e-1F", "-T.T++Tq", "1T3.4e4z"};
    enum { TEXT = 640, WORDS = sizeof words / sizeof *words };
    static char text[TEXT];
    size_t length = 0;
    for (;;) {
        const char *word = words[next_random(random) % WORDS];
        const size_t size = strlen(word);
        if (length + size + 1 >= TEXT) break;
        memcpy(text + length, word, size);
        length += size;
        text[length++] = ',';
    }
    uint16_t finals[STATES] = {0}, visits[STATES] = {0};
    for (int round = 0; round < 2; round++) {
        enum state s = START;
        for (size_t i = 0; i < length; i++) {
            if (text[i] == ',') {
                finals[s]++;
                s = START;
            } else if (s != INVALID) {
                s = step(s, text[i]);
                visits[s]++;
            }
        }
        for (size_t i = (size_t)round; i < length; i += 17)
            if (text[i] != ',') text[i] ^= 1;
    }
    for (int i = 0; i < STATES; i++) crc = crc16(crc16(crc, finals[i]), visits[i]);
    return crc;
}

uint64_t run_integer(uint32_t iterations) {
    uint64_t random = 0x9e3779b97f4a7c15ull, hash = HASH_START;
    uint16_t crc = 0;
    for (uint32_t i = 0; i < iterations; i++) {
        crc = lists(crc, &random);
        crc = matrices(crc, &random);
        crc = scan(crc, &random);
        hash = (hash ^ crc) * 0x100000001b3ull;
    }
    return hash;
}
