// SPDX-License-Identifier: MIT
// Runs single x87 instructions on the processor of the host: records on standard input, results on standard output (for the tests of float80).
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

struct record {
  uint8_t length, code[15];
  uint64_t flags, rax; /* rax on output: bits 32-63 hold the signal, 0 = none */
  uint8_t image[160];  /* head and registers of an FXSAVE area */
  uint8_t memory[128];
};

static sigjmp_buf back;
static void caught(int signal) { siglongjmp(back, signal); }

int main(void) {
  static struct record r;
  static uint8_t area[512] __attribute__((aligned(16)));
  uint8_t *code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (code == MAP_FAILED) return 2;
  signal(SIGILL, caught);
  signal(SIGFPE, caught);
  signal(SIGSEGV, caught);
  /* fxrstor [rsi]; mov rax,[rcx+8]; push [rcx]; popfq */
  static const uint8_t before[] = {0x0f, 0xae, 0x0e, 0x48, 0x8b, 0x41, 0x08, 0xff, 0x31, 0x9d};
  /* pushfq; pop [rcx]; mov [rcx+8],rax; fxsave [rsi]; fnclex; ret */
  static const uint8_t after[] = {0x9c, 0x8f, 0x01, 0x48, 0x89, 0x41, 0x08, 0x0f, 0xae, 0x06, 0xdb, 0xe2, 0xc3};
  static char outBuffer[1 << 16];
  setvbuf(stdout, outBuffer, _IOFBF, sizeof outBuffer);
  while (fread(&r, sizeof r, 1, stdin) == 1) {
    uint8_t *p = code;
    memcpy(p, before, sizeof before), p += sizeof before;
    memcpy(p, r.code, r.length), p += r.length;
    memcpy(p, after, sizeof after);
    __asm__ volatile("fxsave %0" : "=m"(area));
    memcpy(area, r.image, 24);
    memcpy(area + 32, r.image + 32, 128);
    int caughtSignal = sigsetjmp(back, 1);
    if (caughtSignal == 0) {
      ((void (*)(void *, void *, void *, void *))code)(r.memory, area, 0, &r.flags);
      memcpy(r.image, area, 160);
      r.rax &= 0xffffffff;
    } else
      r.rax = (uint64_t)caughtSignal << 32;
    fwrite(&r, sizeof r, 1, stdout);
  }
  return 0;
}
