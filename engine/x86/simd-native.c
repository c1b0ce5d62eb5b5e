// SPDX-License-Identifier: MIT
// Runs single MMX and SSE instructions on the real processor for simd-native.test.ts: records in, records out (x86-64 Linux).

#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

// Offsets are used by the assembly below and by the test.
struct record {
  uint8_t xmm[3][16];          // 0: xmm0-xmm2
  uint64_t mm[3];              // 48: mm0-mm2
  uint64_t rax, rcx, rdx, rdi; // 72
  uint64_t flags;              // 104
  uint32_t mxcsr;              // 112
  int32_t vector;              // 116: exception, -1 none
  uint64_t code_bytes;         // 120
  uint8_t code[16];            // 128
  uint8_t memory[128];         // 144
  uint64_t offset;             // 272: of the memory operand (rsi) in memory
};

static struct record state;
static uint8_t memory[4096] __attribute__((aligned(4096)));
static sigjmp_buf recovery;
static volatile int32_t fault_vector;
static volatile uint32_t fault_mxcsr;

static void on_fault(int number, siginfo_t *info, void *context) {
  (void)info;
  fault_vector = number == SIGFPE ? 19 : number == SIGILL ? 6 : 13;
  fault_mxcsr = ((ucontext_t *)context)->uc_mcontext.fpregs->mxcsr;
  siglongjmp(recovery, 1);
}

static void run(void *code, void *operand) {
  register void *target asm("r12") = code;
  asm volatile(
      "push %%rbp\n sub $256, %%rsp\n"
      "movups 0(%%rbx), %%xmm0\n movups 16(%%rbx), %%xmm1\n movups 32(%%rbx), %%xmm2\n"
      "movq 48(%%rbx), %%mm0\n movq 56(%%rbx), %%mm1\n movq 64(%%rbx), %%mm2\n"
      "mov 72(%%rbx), %%rax\n mov 80(%%rbx), %%rcx\n mov 88(%%rbx), %%rdx\n mov 96(%%rbx), %%rdi\n"
      "ldmxcsr 112(%%rbx)\n pushq 104(%%rbx)\n popfq\n"
      "call *%%r12\n"
      "pushfq\n popq 104(%%rbx)\n stmxcsr 112(%%rbx)\n"
      "mov %%rax, 72(%%rbx)\n mov %%rcx, 80(%%rbx)\n mov %%rdx, 88(%%rbx)\n mov %%rdi, 96(%%rbx)\n"
      "movups %%xmm0, 0(%%rbx)\n movups %%xmm1, 16(%%rbx)\n movups %%xmm2, 32(%%rbx)\n"
      "movq %%mm0, 48(%%rbx)\n movq %%mm1, 56(%%rbx)\n movq %%mm2, 64(%%rbx)\n"
      "emms\n cld\n movl $0x1f80, (%%rsp)\n ldmxcsr (%%rsp)\n"
      "add $256, %%rsp\n pop %%rbp\n"
      :
      : "b"(&state), "S"(operand), "r"(target)
      : "rax", "rcx", "rdx", "rdi", "r8", "r9", "r10", "r11", "r13", "r14", "r15", "xmm0", "xmm1", "xmm2", "memory", "cc");
}

int main(void) {
  uint8_t *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (code == MAP_FAILED) return 1;
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigaction(SIGFPE, &action, NULL);
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGILL, &action, NULL);
  while (fread(&state, sizeof state, 1, stdin) == 1) {
    struct record given = state;
    memcpy(code, state.code, state.code_bytes);
    code[state.code_bytes] = 0xc3;
    memcpy(memory, state.memory, sizeof state.memory);
    state.vector = -1;
    if (sigsetjmp(recovery, 1) == 0) {
      run(code, memory + state.offset);
    } else {
      uint32_t standard = 0x1f80;
      asm volatile("emms\n ldmxcsr %0" : : "m"(standard));
      state = given;
      state.vector = fault_vector;
      state.mxcsr = fault_mxcsr;
    }
    memcpy(state.memory, memory, sizeof state.memory);
    if (fwrite(&state, sizeof state, 1, stdout) != 1) return 1;
  }
  return 0;
}
