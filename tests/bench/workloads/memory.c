// SPDX-License-Identifier: MIT
// Memory workloads: large fills and copies, dependent loads over more memory than the caches and TLB hold, and first touches of fresh pages.

#define _GNU_SOURCE
#include "workloads.h"

#include <string.h>
#include <sys/mman.h>

static void *map(size_t size) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) fail("mmap");
    return p;
}

uint64_t run_copy(uint32_t rounds) {
    // Through pointers the compiler cannot see into, so that libc's own routines do the work, as in every program.
    void *(*volatile fill)(void *, int, size_t) = memset;
    void *(*volatile copy)(void *, const void *, size_t) = memcpy;
    const size_t size = 32u << 20;
    unsigned char *from = map(size), *to = map(size);
    uint64_t hash = HASH_START;
    for (uint32_t round = 0; round < rounds; round++) {
        fill(from, (int)round + 1, size);
        from[(round * 4099u) % size] = 0xa5;
        copy(to, from, size);
        for (size_t i = round; i < size; i += 65521) hash = hash_bytes(hash, to + i, 1);
    }
    munmap(from, size);
    munmap(to, size);
    return hash;
}

uint64_t run_chase(uint32_t kiloloads) {
    enum { COUNT = (64 << 20) / 16 };
    struct link {
        uint32_t next, pad[3];
    };
    struct link *links = map(COUNT * sizeof *links);
    // One cycle through all links in pseudo-random order: a full-period linear congruential step (Hull-Dobell: odd increment, multiplier = 1 mod 4).
    for (uint32_t i = 0; i < COUNT; i++) links[i].next = (i * 2891336453u + 1013904223u) % COUNT;
    uint64_t sum = 0;
    uint32_t at = 0;
    for (uint64_t n = 0; n < (uint64_t)kiloloads * 1000; n++) {
        at = links[at].next;
        sum += at ^ (uint32_t)n;
    }
    munmap(links, COUNT * sizeof *links);
    return sum;
}

uint64_t run_faults(uint32_t mebibytes) {
    const size_t size = 16u << 20;
    uint64_t sum = 0;
    for (uint32_t done = 0; done < mebibytes; done += 16) {
        unsigned char *pages = map(size);
        // Two faults per 4 KiB page on every engine, whatever the kernel thinks of large pages: gcc reads before it writes, so the zero page comes first.
        madvise(pages, size, MADV_NOHUGEPAGE);
        for (size_t i = 0; i < size; i += 4096) {
            pages[i] = (unsigned char)(i >> 12);
            sum += pages[i] + pages[i + 4095];
        }
        munmap(pages, size);
    }
    return sum;
}
