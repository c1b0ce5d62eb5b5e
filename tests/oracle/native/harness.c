// SPDX-License-Identifier: MIT
// Runs short user-mode instruction sequences on the real CPU and reports the state each one ends in (Linux, x86-64).
//
// Protocol (little-endian, records packed, all lengths multiples of 8; twin of ../case.ts):
//   stdin:  BatchHeader, base image of the four data pages, then `count` case records
//   stdout: BatchHeader, then `count` result records, in the same order
// repeated until end of file. A batch is read whole before it runs, and answered whole.
//
// A case enters by iretq, which loads flags, code segment and stack pointer in one step, so every register including
// rsp belongs to the case. It leaves through the jump that follows its code (to STUB), or through a signal handler on
// an alternate stack. The save area has a fixed address below 2 GiB: the leaving code needs no free register.

#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE 4096u
#define DATA_BASE 0x10000000u   // pages: 0,1 read-write; 2 read-only; 3 hole; 4 read-write; 5 hole
#define CODE_BASE 0x10010000u   // pages: 0,1 read-write-execute; 2 hole
#define STUB_BASE 0x3f7a4000u   // where a case goes when it ends: +0 in 64-bit code, +0x100 in 32-bit code
#define SAVE_BASE 0x3f7a5000u
#define CODE_FILL 0xcc
#define MAGIC 0x4f565021u       // "!PVO"
#define TERMINATOR 5u           // jmp rel32

enum { STATUS_DONE = 0, STATUS_EXCEPTION = 1, STATUS_TIMEOUT = 2 };

struct batch_header {
  uint32_t magic, count, bytes, reserved;
};
struct case_head {
  uint32_t bytes, mode, code_offset, code_bytes, patches, reserved;
  uint64_t gpr[16], rflags;
  uint8_t fx[512];
};
struct patch {
  uint32_t offset, bytes;
  uint8_t data[16];
};
struct result_head {
  uint32_t bytes, status, vector, error;
  uint64_t cr2, rip, gpr[16], rflags;
  uint8_t fx[512];
  uint32_t changes, reserved;
};
struct change {
  uint32_t address, reserved;
  uint64_t value;
};

// Offsets are used by the assembly below.
struct save_area {
  uint64_t in_gpr[16];   // 0x000
  uint64_t in_rflags;    // 0x080
  uint64_t in_rip;       // 0x088
  uint64_t in_cs;        // 0x090
  uint64_t host_rsp;     // 0x098
  uint64_t leave;        // 0x0a0 address of oracle_leave, for the stub's indirect jump
  uint64_t pad[11];
  uint64_t out_gpr[16];  // 0x100
  uint64_t out_rflags;   // 0x180
  uint64_t pad2[15];
  uint8_t in_fx[512];    // 0x200
  uint8_t out_fx[512];   // 0x400
};
#define SAVE ((struct save_area *)(uintptr_t)SAVE_BASE)

void oracle_enter(void);
void oracle_leave(void);
void oracle_unwind(void);

// gpr order: rax rcx rdx rbx rsp rbp rsi rdi r8..r15 (the encoding order).
__asm__(
    ".text\n"
    ".set S, 0x3f7a5000\n"
    ".globl oracle_enter\n"
    "oracle_enter:\n"
    "  push %rbx\n  push %rbp\n  push %r12\n  push %r13\n  push %r14\n  push %r15\n"
    "  mov %rsp, S+0x098\n"
    "  fxrstor64 S+0x200\n"
    "  pushq $0x2b\n"
    "  pushq S+0x020\n"
    "  pushq S+0x080\n"
    "  pushq S+0x090\n"
    "  pushq S+0x088\n"
    "  mov S+0x000, %rax\n  mov S+0x008, %rcx\n  mov S+0x010, %rdx\n  mov S+0x018, %rbx\n"
    "  mov S+0x028, %rbp\n  mov S+0x030, %rsi\n  mov S+0x038, %rdi\n"
    "  mov S+0x040, %r8\n  mov S+0x048, %r9\n  mov S+0x050, %r10\n  mov S+0x058, %r11\n"
    "  mov S+0x060, %r12\n  mov S+0x068, %r13\n  mov S+0x070, %r14\n  mov S+0x078, %r15\n"
    "  iretq\n"
    ".globl oracle_leave\n"
    "oracle_leave:\n"
    "  mov %rax, S+0x100\n  mov %rcx, S+0x108\n  mov %rdx, S+0x110\n  mov %rbx, S+0x118\n"
    "  mov %rsp, S+0x120\n  mov %rbp, S+0x128\n  mov %rsi, S+0x130\n  mov %rdi, S+0x138\n"
    "  mov %r8,  S+0x140\n  mov %r9,  S+0x148\n  mov %r10, S+0x150\n  mov %r11, S+0x158\n"
    "  mov %r12, S+0x160\n  mov %r13, S+0x168\n  mov %r14, S+0x170\n  mov %r15, S+0x178\n"
    "  mov S+0x098, %rsp\n"
    "  pushfq\n  popq S+0x180\n"
    "  fxsave64 S+0x400\n"
    ".globl oracle_unwind\n"
    "oracle_unwind:\n"
    // Also after a signal: sigreturn leaves NT as the case set it, and the next iretq would fault.
    "  pushq $0x202\n  popfq\n"
    "  fninit\n"
    "  movl $0x1f80, -8(%rsp)\n  ldmxcsr -8(%rsp)\n"
    "  pop %r15\n  pop %r14\n  pop %r13\n  pop %r12\n  pop %rbp\n  pop %rbx\n"
    "  ret\n");

static volatile uint32_t current_case;
static volatile int running;
static struct result_head outcome;

static void put(const void *bytes, size_t length, int fd) {
  const uint8_t *p = bytes;
  while (length) {
    ssize_t n = write(fd, p, length);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) _exit(3);
    p += n;
    length -= (size_t)n;
  }
}

static void die(const char *what, uint64_t value) {
  char line[160];
  int n = snprintf(line, sizeof line, "oracle harness: %s 0x%llx (case %u)\n", what, (unsigned long long)value, current_case);
  put(line, (size_t)n, 2);
  _exit(2);
}

static void *map_at(uint32_t address, uint32_t bytes, int protection) {
  void *want = (void *)(uintptr_t)address;
  void *got = mmap(want, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (got != want) die("cannot map", address);
  return got;
}

// Restores the interrupted context as the harness's own: flags clean, 64-bit code, back in oracle_enter's caller.
static void return_to_harness(ucontext_t *uc) {
  greg_t *g = uc->uc_mcontext.gregs;
  g[REG_RIP] = (greg_t)(uintptr_t)oracle_unwind;
  g[REG_RSP] = (greg_t)SAVE->host_rsp;
  g[REG_EFL] = 0x202;
  g[REG_CSGSFS] = (g[REG_CSGSFS] & ~(greg_t)0xffff) | 0x33;
  running = 0;
}

static void record(const ucontext_t *uc, uint32_t status) {
  static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  const greg_t *g = uc->uc_mcontext.gregs;
  outcome.status = status;
  outcome.vector = (uint32_t)g[REG_TRAPNO];
  outcome.error = (uint32_t)g[REG_ERR];
  outcome.cr2 = outcome.vector == 14 ? (uint64_t)g[REG_CR2] : 0;
  outcome.rip = (uint64_t)g[REG_RIP];
  outcome.rflags = (uint64_t)g[REG_EFL];
  for (int i = 0; i < 16; i++) outcome.gpr[i] = (uint64_t)g[order[i]];
  memcpy(outcome.fx, uc->uc_mcontext.fpregs, 512);
}

static void clear_alignment_check(void) {
  // The kernel enters handlers with the case's AC flag; compiled code may access memory unaligned.
  __asm__ volatile("pushfq\n andl $~0x40000, (%%rsp)\n popfq" ::: "memory", "cc");
}

static void on_fault(int number, siginfo_t *info, void *context) {
  clear_alignment_check();
  (void)info;
  ucontext_t *uc = context;
  uint64_t rip = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
  if (!running || (rip >= (uintptr_t)oracle_enter && rip < (uintptr_t)oracle_unwind)) die("fault outside a case at", rip);
  (void)number;
  record(uc, STATUS_EXCEPTION);
  return_to_harness(uc);
}

// A case still running at a second tick does not end: reported as such, compared by nobody.
static void on_tick(int number, siginfo_t *info, void *context) {
  static uint32_t seen_case, seen;
  clear_alignment_check();
  (void)number;
  (void)info;
  ucontext_t *uc = context;
  if (!running || seen_case != current_case) {
    seen_case = current_case;
    seen = 0;
    return;
  }
  uint64_t rip = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
  if (++seen < 2 || rip >= STUB_BASE) return;
  record(uc, STATUS_TIMEOUT);
  return_to_harness(uc);
}

static int get(void *bytes, size_t length) {
  uint8_t *p = bytes;
  size_t done = 0;
  while (done < length) {
    ssize_t n = read(0, p + done, length - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) die("read", (uint64_t)errno);
    if (n == 0) return done == 0 ? 0 : (die("stream ends early", done), 0);
    done += (size_t)n;
  }
  return 1;
}

// Areas a case may write, with their content before the case; compared after it and put back.
static struct {
  uint8_t *live;
  uint8_t shadow[2 * PAGE];
  uint32_t bytes;
} areas[3];

static void poke(uint32_t address, const void *bytes, uint32_t length) {
  memcpy((void *)(uintptr_t)address, bytes, length);
  for (int a = 0; a < 3; a++) {
    uint32_t at = address - (uint32_t)(uintptr_t)areas[a].live;
    if (at < areas[a].bytes) memcpy(areas[a].shadow + at, bytes, length);
  }
}

static uint8_t *out;
static size_t out_bytes, out_capacity;

static void *reserve(size_t length) {
  if (out_bytes + length > out_capacity) {
    out_capacity = (out_bytes + length) * 2;
    out = realloc(out, out_capacity);
    if (!out) die("out of memory", out_capacity);
  }
  void *at = out + out_bytes;
  out_bytes += length;
  return at;
}

static void run_case(const struct case_head *c) {
  const struct patch *patches = (const struct patch *)(c + 1);
  const uint8_t *code = (const uint8_t *)(patches + c->patches);
  const uint32_t end = c->code_offset + c->code_bytes;
  if (end > 2 * PAGE) die("code outside its pages", end);
  uint8_t saved[16][16];
  if (c->patches > 16) die("too many patches", c->patches);
  for (uint32_t i = 0; i < c->patches; i++) {
    if (patches[i].bytes > 16 || patches[i].offset + patches[i].bytes > 5 * PAGE) die("bad patch", patches[i].offset);
    memcpy(saved[i], (void *)(uintptr_t)(DATA_BASE + patches[i].offset), patches[i].bytes);
    poke(DATA_BASE + patches[i].offset, patches[i].data, patches[i].bytes);
  }
  poke(CODE_BASE + c->code_offset, code, c->code_bytes);
  // Code that fills its pages to the last byte runs into the hole instead of the terminator.
  uint32_t stub = STUB_BASE + (c->mode == 32 ? 0x100 : 0);
  uint8_t jump[TERMINATOR] = {0xe9};
  int32_t distance = (int32_t)(stub - (CODE_BASE + end + TERMINATOR));
  memcpy(jump + 1, &distance, 4);
  uint32_t jump_bytes = end + TERMINATOR <= 2 * PAGE ? TERMINATOR : 2 * PAGE - end;
  poke(CODE_BASE + end, jump, jump_bytes);

  memcpy(SAVE->in_gpr, c->gpr, sizeof c->gpr);
  memcpy(SAVE->in_fx, c->fx, 512);
  SAVE->in_rflags = c->rflags;
  SAVE->in_rip = CODE_BASE + c->code_offset;
  SAVE->in_cs = c->mode == 32 ? 0x23 : 0x33;
  outcome.status = STATUS_DONE;
  // 32-bit code needs usable data segments; 64-bit code ignores them. The case before may have loaded others, by a jump into its middle.
  __asm__ volatile("mov %0, %%ds\n mov %0, %%es" ::"r"(0x2b));
  running = 1;
  oracle_enter();
  running = 0;
  if (outcome.status == STATUS_DONE) {
    outcome.vector = outcome.error = 0;
    outcome.cr2 = 0;
    outcome.rip = CODE_BASE + end;
    outcome.rflags = SAVE->out_rflags;
    memcpy(outcome.gpr, SAVE->out_gpr, sizeof outcome.gpr);
    memcpy(outcome.fx, SAVE->out_fx, 512);
  }

  size_t at = out_bytes;
  reserve(sizeof outcome);
  outcome.changes = 0;
  for (int a = 0; a < 3; a++) {
    if (memcmp(areas[a].live, areas[a].shadow, areas[a].bytes) == 0) continue;
    for (uint32_t i = 0; i < areas[a].bytes; i += 8) {
      uint64_t now, before;
      memcpy(&now, areas[a].live + i, 8);
      memcpy(&before, areas[a].shadow + i, 8);
      if (now == before) continue;
      struct change *change = reserve(sizeof *change);
      *change = (struct change){.address = (uint32_t)(uintptr_t)areas[a].live + i, .value = now};
      outcome.changes++;
      memcpy(areas[a].live + i, &before, 8);
    }
  }
  outcome.bytes = (uint32_t)(out_bytes - at);
  memcpy(out + at, &outcome, sizeof outcome);

  for (uint32_t i = c->patches; i-- > 0;) poke(DATA_BASE + patches[i].offset, saved[i], patches[i].bytes);
  memset(areas[2].live + c->code_offset, CODE_FILL, c->code_bytes + jump_bytes);
  memset(areas[2].shadow + c->code_offset, CODE_FILL, c->code_bytes + jump_bytes);
}

static void prepare(void) {
  map_at(DATA_BASE, 3 * PAGE, PROT_READ | PROT_WRITE);
  map_at(DATA_BASE + 4 * PAGE, PAGE, PROT_READ | PROT_WRITE);
  uint8_t *code = map_at(CODE_BASE, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
  memset(code, CODE_FILL, 2 * PAGE);
  uint8_t *stub = map_at(STUB_BASE, PAGE, PROT_READ | PROT_WRITE);
  map_at(SAVE_BASE, PAGE, PROT_READ | PROT_WRITE);
  SAVE->leave = (uint64_t)(uintptr_t)oracle_leave;
  // 64-bit: jmp *[SAVE.leave], absolute. 32-bit: a far jump to that through the 64-bit code segment.
  static const uint8_t to_leave[] = {0xff, 0x24, 0x25, 0xa0, 0x50, 0x7a, 0x3f};
  static const uint8_t to_64[] = {0xea, 0x00, 0x40, 0x7a, 0x3f, 0x33, 0x00};
  memcpy(stub, to_leave, sizeof to_leave);
  memcpy(stub + 0x100, to_64, sizeof to_64);
  if (mprotect(stub, PAGE, PROT_READ | PROT_EXEC)) die("mprotect", (uint64_t)errno);

  areas[0].live = (uint8_t *)(uintptr_t)DATA_BASE;
  areas[0].bytes = 2 * PAGE;
  areas[1].live = (uint8_t *)(uintptr_t)(DATA_BASE + 4 * PAGE);
  areas[1].bytes = PAGE;
  areas[2].live = code;
  areas[2].bytes = 2 * PAGE;
  memset(areas[2].shadow, CODE_FILL, sizeof areas[2].shadow);

  stack_t alternate = {.ss_sp = malloc(65536), .ss_size = 65536};
  if (sigaltstack(&alternate, NULL)) die("sigaltstack", (uint64_t)errno);
  struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigaddset(&fault.sa_mask, SIGALRM);
  static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
    if (sigaction(faults[i], &fault, NULL)) die("sigaction", (uint64_t)errno);
  struct sigaction tick = {.sa_sigaction = on_tick, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
  if (sigaction(SIGALRM, &tick, NULL)) die("sigaction", (uint64_t)errno);
  struct itimerval every = {{0, 20000}, {0, 20000}};
  if (setitimer(ITIMER_REAL, &every, NULL)) die("setitimer", (uint64_t)errno);
}

// The read-only page is written through a moment of writability, once per batch and only when it changes.
static void load_base(const uint8_t *base) {
  uint8_t *data = (uint8_t *)(uintptr_t)DATA_BASE;
  memcpy(data, base, 2 * PAGE);
  if (mprotect(data + 2 * PAGE, PAGE, PROT_READ | PROT_WRITE)) die("mprotect", (uint64_t)errno);
  memcpy(data + 2 * PAGE, base + 2 * PAGE, PAGE);
  if (mprotect(data + 2 * PAGE, PAGE, PROT_READ)) die("mprotect", (uint64_t)errno);
  memcpy(data + 4 * PAGE, base + 3 * PAGE, PAGE);
  memcpy(areas[0].shadow, base, 2 * PAGE);
  memcpy(areas[1].shadow, base + 3 * PAGE, PAGE);
}

int main(void) {
  prepare();
  static uint8_t base[4 * PAGE];
  struct batch_header header;
  uint8_t *in = NULL;
  while (get(&header, sizeof header)) {
    if (header.magic != MAGIC) die("bad magic", header.magic);
    in = realloc(in, header.bytes ? header.bytes : 1);
    if (!in) die("out of memory", header.bytes);
    if (!get(base, sizeof base) || (header.bytes && !get(in, header.bytes))) die("stream ends early", 0);
    load_base(base);
    out_bytes = 0;
    reserve(sizeof header);
    const uint8_t *p = in;
    for (current_case = 0; current_case < header.count; current_case++) {
      const struct case_head *c = (const struct case_head *)p;
      run_case(c);
      p += c->bytes;
    }
    struct batch_header answer = {MAGIC, header.count, (uint32_t)(out_bytes - sizeof header), 0};
    memcpy(out, &answer, sizeof answer);
    put(out, out_bytes, 1);
  }
  return 0;
}
