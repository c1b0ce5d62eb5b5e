// SPDX-License-Identifier: MIT
// Exercises a processor and a kernel from user mode and prints what must be the same everywhere: floating point, signals,
// processes, memory protection, threads, clocks, self-modifying code. `exercise NAME` runs one part, without NAME all.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/** Values the compiler must not compute by itself. */
static volatile double one = 1.0, three = 3.0, zero = 0.0;
static volatile long double long_one = 1.0L, long_three = 3.0L;

static void print_bits(const char *label, double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  printf("%s %016llx %.17g\n", label, (unsigned long long)bits, value);
}

static void sse_double(void) {
  print_bits("third", one / three);
  print_bits("inf", one / zero);
  print_bits("nan is nan", (zero / zero) != (zero / zero));
  print_bits("sqrt2", sqrt(2 * one));
  print_bits("denormal", DBL_MIN * one / 1024);
  print_bits("huge", DBL_MAX * one * 2);
  double sum = 0;
  for (int i = 1; i <= 20000; i++) sum += one / ((double)i * i);
  print_bits("sum", sum);
  print_bits("sin", sin(one));
  print_bits("exp", exp(one));
  print_bits("pow", pow(three, 0.5 * one));
  print_bits("fmod", fmod(1e17 * one, 3.7));
  print_bits("rint", rint(2.5 * one) + nearbyint(-3.5 * one) + floor(-0.5 * one) + ceil(0.2 * one) + trunc(-1.9 * one));
  float single = 0;
  for (int i = 0; i < 1000; i++) single += (float)(one / 3) * (float)i;
  print_bits("single", single);
  printf("convert %lld %d %llu %d\n", (long long)(1e15 * one + 0.5), (int)(-2.9 * one), (unsigned long long)(1.8e19 * one),
         (int)(float)(16777217 * one));
  // Four lanes at a time, and integers in vector registers.
  typedef float vec4 __attribute__((vector_size(16)));
  typedef int32_t int4 __attribute__((vector_size(16)));
  vec4 a = {1, 2, 3, 4}, b = {(float)one, 0.5f, 0.25f, -0.75f};
  int4 mask = a > b + 1.5f;
  for (int i = 0; i < 100; i++) a = a * b + (vec4){1, 1, 1, 1} - a / (b + 10.0f);
  printf("vector %a %a %a %a mask %d %d %d %d\n", a[0], a[1], a[2], a[3], mask[0], mask[1], mask[2], mask[3]);
}

static void print_long(const char *label, long double value) {
  unsigned char bytes[16] = {0};
  memcpy(bytes, &value, 10);
  printf("%s ", label);
  for (int i = 9; i >= 0; i--) printf("%02x", bytes[i]);
  printf(" %.21Lg\n", value);
}

static void x87_long_double(void) {
  print_long("third", long_one / long_three);
  print_long("sqrt3", sqrtl(long_three));
  print_long("sum", long_one + LDBL_EPSILON);
  print_long("product", (1 + LDBL_EPSILON * long_one) * (1 - LDBL_EPSILON * long_one));
  long double factorial = long_one;
  for (int i = 2; i <= 200; i++) factorial *= i;
  print_long("200!", factorial);
  print_long("tiny", LDBL_MIN * long_one / 4096);
  print_long("fmod", fmodl(1e300L * long_one, 3.25L));
  print_long("rint", rintl(2.5L * long_one) + floorl(-0.5L * long_one) * 100);
  printf("convert %lld %d\n", (long long)(9.2e18L * long_one), (int)(-7.99L * long_one));
  printf("compare %d %d %d\n", long_one < long_three, long_one == long_three, long_one > long_three);
  char text[64];
  snprintf(text, sizeof text, "%.30Lf", long_one / long_three);
  print_long(text, strtold(text, NULL));
  uint16_t control = 0;
  __asm__ volatile("fnstcw %0" : "=m"(control));
  printf("control word %04x\n", control);
}

static void x87_transcendental(void) {
  // Within a few units of the last place: printed with fewer digits than there are.
  printf("sin %.15Lg\n", sinl(long_one));
  printf("atan2 %.15Lg\n", atan2l(long_one, long_three));
  printf("exp %.15Lg\n", expl(long_one));
  printf("log %.15Lg\n", logl(long_three));
  printf("pow %.15Lg\n", powl(long_three, 0.1L * long_one));
  printf("tan %.15Lg\n", tanl(long_one));
}

static sigjmp_buf back;
static volatile sig_atomic_t seen_signal, seen_code;
static void *volatile seen_address;

static void on_fault(int signal_number, siginfo_t *info, void *context) {
  (void)context;
  seen_signal = signal_number;
  seen_code = info->si_code;
  seen_address = info->si_addr;
  siglongjmp(back, 1);
}

static void catch_faults(int flags) {
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | flags};
  int signals[] = {SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGBUS};
  for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, NULL);
}

/** Runs a statement that faults, then prints what the handler was told. */
#define FAULTING(label, relative_to, statement)                                                              \
  do {                                                                                                       \
    seen_signal = 0;                                                                                         \
    if (sigsetjmp(back, 1) == 0) {                                                                           \
      statement;                                                                                             \
      puts(label " did not fault");                                                                          \
    } else                                                                                                   \
      printf(label " signal %d code %d address +%lx\n", seen_signal, seen_code,                              \
             (unsigned long)((char *)seen_address - (char *)(relative_to)));                                 \
  } while (0)

static char *const fixed = (char *)0x20000000;
/** Nobody tells the compiler that this is no address. */
static volatile int *volatile fixed_null;

static void copy_up(void *to, const void *from, long count) {
  __asm__ volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
}

static void faults(void) {
  catch_faults(0);
  char *page = mmap(fixed, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  memset(page, 0x90, 3 * 4096);
  mprotect(page + 4096, 4096, PROT_READ);
  mprotect(page + 8192, 4096, PROT_NONE);
  volatile char *bytes = page;
  volatile int divisor = 0, result;
  FAULTING("null", 0, (void)fixed_null[2]);
  FAULTING("read-only", page, bytes[4100] = 1);
  FAULTING("no access", page, (void)bytes[8192 + 17]);
  FAULTING("crossing", page, *(volatile uint64_t *)(page + 8188));
  FAULTING("write crossing", page, *(volatile uint32_t *)(page + 4094) = 5);
  printf("nothing of it written: %02x %02x\n", (unsigned char)bytes[4094], (unsigned char)bytes[4095]);
  FAULTING("not executable", page, ((void (*)(void))(page + 64))());
  FAULTING("non-canonical", 0, (void)*(volatile char *)0x8000000000000000ul);
  FAULTING("divide by zero", copy_up, result = 7 / divisor);
  divisor = -1;
  volatile int lowest = INT32_MIN;
  FAULTING("divide overflow", copy_up, result = lowest / divisor);
  FAULTING("undefined opcode", copy_up, __asm__ volatile("ud2"));
  FAULTING("breakpoint", 0, __asm__ volatile("int3"));
  FAULTING("privileged", 0, __asm__ volatile("hlt"));
  FAULTING("string in the middle", page, copy_up(page + 4096 - 24, page, 64));
  (void)result;
  // After all this ordinary work goes on, with the mask restored.
  sigset_t mask;
  sigprocmask(SIG_BLOCK, NULL, &mask);
  printf("blocked %d\n", sigismember(&mask, SIGSEGV));
}

static void on_alternate_stack(int signal_number) {
  char here;
  stack_t stack;
  sigaltstack(NULL, &stack);
  printf("signal %d on the alternate stack: %d\n", signal_number,
         &here >= (char *)stack.ss_sp && &here < (char *)stack.ss_sp + stack.ss_size);
}

static void count_up(int signal_number) {
  (void)signal_number;
  seen_signal++;
}

/** Steps the program counter over the two bytes of UD2 and changes a register behind the program's back. */
static void step_over(int signal_number, siginfo_t *info, void *context) {
  (void)signal_number, (void)info;
  ucontext_t *user = context;
  user->uc_mcontext.gregs[REG_RIP] += 2;
  user->uc_mcontext.gregs[REG_RAX] = 4711;
}

static void signals(void) {
  stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
  sigaltstack(&stack, NULL);
  struct sigaction action = {.sa_handler = on_alternate_stack, .sa_flags = SA_ONSTACK};
  sigaction(SIGUSR1, &action, NULL);
  raise(SIGUSR1);

  struct sigaction stepping = {.sa_sigaction = step_over, .sa_flags = SA_SIGINFO};
  sigaction(SIGILL, &stepping, NULL);
  long rax = 1;
  double kept = one / three;
  __asm__ volatile("ud2" : "+a"(rax), "+x"(kept));
  printf("resumed with %ld, %.3f\n", rax, kept);

  seen_signal = 0;
  signal(SIGALRM, count_up);
  struct itimerval timer = {{0, 20000}, {0, 20000}};
  setitimer(ITIMER_REAL, &timer, NULL);
  double spin = 0;
  while (seen_signal < 5) spin += one;
  memset(&timer, 0, sizeof timer);
  setitimer(ITIMER_REAL, &timer, NULL);
  printf("interrupted while spinning: %d\n", spin > 1000);

  sigset_t set, old;
  sigemptyset(&set);
  sigaddset(&set, SIGALRM);
  sigprocmask(SIG_BLOCK, &set, &old);
  seen_signal = 0;
  raise(SIGALRM);
  int before = seen_signal;
  sigprocmask(SIG_SETMASK, &old, NULL);
  printf("blocked %d then delivered %d\n", before, seen_signal);
}

static void processes(const char *self) {
  int to_child[2], from_child[2];
  if (pipe(to_child) != 0 || pipe(from_child) != 0) exit(1);
  pid_t child = fork();
  if (child == 0) {
    dup2(to_child[0], 0);
    dup2(from_child[1], 1);
    for (int i = 0; i < 2; i++) close(to_child[i]), close(from_child[i]);
    execl(self, self, "echo-upper", (char *)NULL);
    _exit(127);
  }
  close(to_child[0]), close(from_child[1]);
  if (write(to_child[1], "through a pipe\n", 15) != 15) exit(1);
  close(to_child[1]);
  char buffer[64] = {0};
  size_t length = 0;
  for (ssize_t n; (n = read(from_child[0], buffer + length, sizeof buffer - 1 - length)) > 0;) length += n;
  int status;
  waitpid(child, &status, 0);
  printf("child said: %sstatus %d\n", buffer, WEXITSTATUS(status));

  // Copy on write: what the child writes stays its own.
  int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int *own = mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (int i = 0; i < 64; i++) own[i * 1024] = i;
  for (int round = 0; round < 20; round++) {
    child = fork();
    if (child == 0) {
      for (int i = 0; i < 64; i++) own[i * 1024] += 1000, *shared += own[i * 1024];
      _exit(round);
    }
    waitpid(child, &status, 0);
    if (WEXITSTATUS(status) != round) printf("round %d: %d\n", round, status);
  }
  int sum = 0;
  for (int i = 0; i < 64; i++) sum += own[i * 1024];
  printf("own %d shared %d\n", sum, *shared);

  child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    *fixed_null = 1;
  }
  waitpid(child, &status, 0);
  printf("killed by signal %d\n", WTERMSIG(status));
}

static int echo_upper(void) {
  for (int c; (c = getchar()) != EOF;) putchar(c >= 'a' && c <= 'z' ? c - 32 : c);
  fflush(stdout);
  return 7;
}

static void memory(void) {
  size_t size = 8 << 20;
  unsigned char *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uint32_t seed = 12345;
  for (size_t i = 0; i < size; i += 61) area[i] = (unsigned char)(seed = seed * 1664525 + 1013904223);
  unsigned char *moved = mremap(area, size, 2 * size, MREMAP_MAYMOVE);
  memmove(moved + size / 2 + 3, moved, size);
  uint64_t hash = 14695981039346656037u;
  for (size_t i = 0; i < 2 * size; i += 17) hash = (hash ^ moved[i]) * 1099511628211u;
  printf("hash %016llx\n", (unsigned long long)hash);
  madvise(moved, size, MADV_DONTNEED);
  printf("dropped %d kept %d\n", moved[61 * 7], moved[size + 3]);
  munmap(moved, 2 * size);
  char path[] = "/tmp/exerciseXXXXXX";
  int file = mkstemp(path);
  unlink(path);
  if (ftruncate(file, 3 * 4096) != 0) exit(1);
  char *mapped = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  strcpy(mapped + 4090, "across pages");
  char text[16] = {0};
  ssize_t got = pread(file, text, 12, 4090);
  printf("file %zd %s\n", got, text);
  close(file);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int turn, counter;
static __thread int of_thread;
static volatile long atomic_counter;

static void *add(void *argument) {
  int id = (int)(intptr_t)argument;
  of_thread = id;
  for (int i = 0; i < 20000; i++) {
    pthread_mutex_lock(&mutex);
    counter++;
    pthread_mutex_unlock(&mutex);
    __atomic_fetch_add(&atomic_counter, id, __ATOMIC_SEQ_CST);
  }
  return (void *)(intptr_t)(of_thread * 10);
}

static void *take_turns(void *argument) {
  int id = (int)(intptr_t)argument;
  for (int i = 0; i < 200; i++) {
    pthread_mutex_lock(&mutex);
    while (turn % 3 != id) pthread_cond_wait(&condition, &mutex);
    turn++;
    pthread_cond_broadcast(&condition);
    pthread_mutex_unlock(&mutex);
  }
  return NULL;
}

static void threads(void) {
  pthread_t thread[4];
  long results = 0;
  for (int i = 0; i < 4; i++) pthread_create(&thread[i], NULL, add, (void *)(intptr_t)(i + 1));
  for (int i = 0; i < 4; i++) {
    void *result;
    pthread_join(thread[i], &result);
    results += (intptr_t)result;
  }
  printf("counted %d atomically %ld results %ld\n", counter, atomic_counter, results);
  for (int i = 0; i < 3; i++) pthread_create(&thread[i], NULL, take_turns, (void *)(intptr_t)i);
  for (int i = 0; i < 3; i++) pthread_join(thread[i], NULL);
  printf("turns %d\n", turn);
}

static int64_t nanoseconds(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void clocks(void) {
  int64_t last = nanoseconds(CLOCK_MONOTONIC), backwards = 0, still = 0;
  for (int i = 0; i < 200000; i++) {
    int64_t now = nanoseconds(CLOCK_MONOTONIC);
    backwards += now < last;
    still += now == last;
    last = now;
  }
  printf("backwards %d mostly moving %d\n", (int)backwards, still < 180000);
  int64_t start = nanoseconds(CLOCK_MONOTONIC), wall = nanoseconds(CLOCK_REALTIME);
  struct timespec wait = {0, 50000000};
  nanosleep(&wait, NULL);
  int64_t slept = nanoseconds(CLOCK_MONOTONIC) - start, wall_slept = nanoseconds(CLOCK_REALTIME) - wall;
  printf("slept %d %d\n", slept >= 50000000 && slept < 2000000000, wall_slept >= 49000000 && wall_slept < 2000000000);
  printf("year %d\n", wall / 1000000000 > 1735689600);
  struct rusage usage;
  volatile double work = 1;
  do {
    for (int i = 0; i < 100000; i++) work = work * 1.0000001;
    getrusage(RUSAGE_SELF, &usage);
  } while (usage.ru_utime.tv_sec == 0 && usage.ru_utime.tv_usec < 50000);
  puts("CPU time runs");
}

static void self_modifying(void) {
  unsigned char *code = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int (*function)(void) = (int (*)(void))code;
  // mov $imm32, %eax; ret
  code[0] = 0xb8, code[5] = 0xc3;
  long sum = 0;
  for (int i = 0; i < 1000; i++) {
    memcpy(code + 1, &i, 4);
    sum += function();
  }
  printf("rewritten between calls %ld\n", sum);
  // Writes the immediate operand of the next instruction, then runs it: movl %edi, 1f+1(%rip); 1: mov $0, %eax; ret
  static const unsigned char next[] = {0x89, 0x3d, 1, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0xc3};
  memcpy(code + 4090, next, sizeof next);
  int (*patching)(int) = (int (*)(int))(code + 4090);
  sum = 0;
  for (int i = 0; i < 1000; i++) sum += patching(i * 3);
  printf("rewritten just ahead, across a page %ld\n", sum);
  mprotect(code, 8192, PROT_READ | PROT_EXEC);
  printf("still runs %d\n", patching == NULL ? 0 : function());
  munmap(code, 8192);
  unsigned char *again = mmap(code, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  static const unsigned char other[] = {0xb8, 42, 0, 0, 0, 0xc3};
  memcpy(again, other, sizeof other);
  printf("other code at the same place %d\n", ((int (*)(void))again)());
}

static void int80(void) {
  long result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
  printf("getpid by int 0x80 %d\n", result == getpid());
  // Arguments are taken from 32-bit registers: write(1, text, 5) with the text below 4 GiB.
  char *text = mmap(fixed + 0x100000, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  memcpy(text, "low!\n", 5);
  fflush(stdout);
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(4L), "b"(1L), "c"(text), "d"(5L) : "memory", "r8", "r9", "r10", "r11");
  printf("written %ld\n", result);
}

int main(int count, char **arguments) {
  setvbuf(stdout, NULL, _IOLBF, 4096);
  const char *only = count > 1 ? arguments[1] : NULL;
  if (only != NULL && strcmp(only, "echo-upper") == 0) return echo_upper();
#define PART(name, call)                           \
  if (only == NULL || strcmp(only, name) == 0) { \
    call;                                          \
  }
  PART("sse-double", sse_double())
  PART("x87-long-double", x87_long_double())
  PART("x87-transcendental", x87_transcendental())
  PART("faults", faults())
  PART("signals", signals())
  PART("processes", processes(arguments[0]))
  PART("memory", memory())
  PART("threads", threads())
  PART("clocks", clocks())
  PART("self-modifying", self_modifying())
  PART("int80", int80())
  fflush(stdout);
  return 0;
}
