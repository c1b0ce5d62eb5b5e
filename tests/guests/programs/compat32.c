// SPDX-License-Identifier: MIT
// A 32-bit program without a C library: system calls by int 0x80, 32-bit arithmetic and addressing, a segment register that
// the kernel set up (set_thread_area), and a forked child. Prints what must be the same on any kernel that runs 32-bit programs.

typedef unsigned int u32;

static int call(int number, u32 a, u32 b, u32 c) {
  int result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
  return result;
}

static void print(const char *text) {
  u32 length = 0;
  while (text[length] != 0) length++;
  call(4, 1, (u32)text, length);
}

static void print_hex(const char *label, u32 value) {
  char digits[10];
  for (int i = 0; i < 8; i++) digits[i] = "0123456789abcdef"[(value >> (28 - 4 * i)) & 15];
  digits[8] = '\n';
  digits[9] = 0;
  print(label);
  print(digits);
}

/** struct user_desc of set_thread_area. */
struct descriptor {
  u32 entry, base, limit, flags;
};

static u32 cells[4] = {0x11111111, 0x22222222, 0x33333333, 0x44444444};

void _start(void) {
  volatile u32 seed = 1;
  u32 x = seed;
  for (int i = 0; i < 1000; i++) x = x * 1103515245u + 12345u;
  print_hex("arithmetic ", x);
  unsigned long long wide = (unsigned long long)x * x;
  print_hex("product ", (u32)(wide >> 32));
  u32 carry;
  __asm__("addl %1, %0; adcl $0, %0" : "=r"(carry) : "r"(x), "0"(0xffffffff));
  print_hex("carry ", carry);
  u32 decimal = 0x0a7f;
  __asm__("aaa" : "+a"(decimal));
  print_hex("ascii adjust ", decimal);
  decimal = 0x0508;
  __asm__("aad" : "+a"(decimal));
  print_hex("before division ", decimal);

  // 0x51: a 32-bit data segment, limit in pages, usable.
  struct descriptor area = {0xffffffff, (u32)cells, 0xfffff, 0x51};
  if (call(243, (u32)&area, 0, 0) == 0) {
    u32 got;
    __asm__ volatile("movw %w1, %%gs; movl %%gs:8, %0" : "=r"(got) : "r"((area.entry << 3) | 3));
    print_hex("through gs ", got);
  } else
    print("set_thread_area failed\n");

  int child = call(2, 0, 0, 0);
  if (child == 0) {
    u32 got;
    __asm__ volatile("movl %%gs:4, %0" : "=r"(got));
    print_hex("child through gs ", got);
    call(1, 5, 0, 0);
  }
  u32 status = 0;
  call(7, child, (u32)&status, 0);
  print_hex("child status ", status);
  double root;
  __asm__("fldl %1; fsqrt; fstpl %0" : "=m"(root) : "m"((double){2.0}));
  print_hex("square root ", (u32)(root * 1e9));
  call(1, 0, 0, 0);
}
