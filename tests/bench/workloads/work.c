// SPDX-License-Identifier: MIT
// The bench's guest program: runs one workload between two console markers, on which the harness samples the VM process's CPU time.

#define _GNU_SOURCE
#include "workloads.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

const char *own_path;
const char *busybox_path = "/bin/busybox";

static const struct {
    const char *name;
    uint64_t (*run)(uint32_t amount);
} workloads[] = {
    {"integer", run_integer}, {"sha256", run_sha256},   {"nbody", run_nbody}, {"matmul", run_matmul},
    {"copy", run_copy},       {"chase", run_chase},     {"gzip", run_gzip},   {"getppid", run_getppid},
    {"pipe", run_pipe},       {"fork", run_fork},       {"faults", run_faults},
};

_Noreturn void fail(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t monotonic_ns(void) {
    struct timespec t;
    if (clock_gettime(CLOCK_MONOTONIC, &t) != 0) fail("clock_gettime");
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// CPU time of this process and of the children it has waited for.
static uint64_t cpu_ns(void) {
    uint64_t sum = 0;
    const int who[] = {RUSAGE_SELF, RUSAGE_CHILDREN};
    for (int i = 0; i < 2; i++) {
        struct rusage u;
        if (getrusage(who[i], &u) != 0) fail("getrusage");
        sum += (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000u;
        sum += (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000u;
    }
    return sum;
}

static void pause_ms(long ms) {
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

// The harness needs a moment to see a marker and to read the process's CPU time; the guest sleeps meanwhile, so the delay costs no accuracy.
enum { MARKER_PAUSE_MS = 150 };

static void begin(const char *name) {
    printf("BENCH begin %s\n", name);
    fflush(stdout);
    pause_ms(MARKER_PAUSE_MS);
}

static void end(const char *name, uint64_t checksum, uint64_t wall, uint64_t cpu) {
    printf("BENCH end %s %016llx %llu %llu\n", name, (unsigned long long)checksum, (unsigned long long)wall, (unsigned long long)cpu);
    fflush(stdout);
    pause_ms(MARKER_PAUSE_MS);
}

static int run_workload(const char *name, uint32_t amount) {
    for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++) {
        if (strcmp(workloads[i].name, name) != 0) continue;
        begin(name);
        const uint64_t wall = monotonic_ns(), cpu = cpu_ns();
        const uint64_t checksum = workloads[i].run(amount);
        const uint64_t cpu_after = cpu_ns();
        end(name, checksum, monotonic_ns() - wall, cpu_after - cpu);
        return 0;
    }
    fprintf(stderr, "work: no workload is called %s\n", name);
    return 2;
}

// An idle guest: everything settles first, then nothing runs for `seconds`.
static int run_idle(uint32_t seconds) {
    pause_ms(2000);
    begin("idle");
    pause_ms((long)seconds * 1000);
    end("idle", 0, (uint64_t)seconds * 1000000000u, 0);
    return 0;
}

// Touches the guest's free memory until `keep` MiB remain, so that the VM process's size less the guest's RAM is what the engine itself needs.
static int run_memory(uint32_t keep) {
    const size_t chunk = 1 << 20;
    struct sysinfo info;
    begin("memory");
    for (;;) {
        if (sysinfo(&info) != 0) fail("sysinfo");
        if ((uint64_t)info.freeram * info.mem_unit < ((uint64_t)keep << 20)) break;
        unsigned char *p = malloc(chunk);
        if (p == NULL) break;
        for (size_t i = 0; i < chunk; i += 4096) p[i] = 1;
        __asm__ volatile("" : : "r"(p) : "memory");
    }
    printf("BENCH untouched %llu\n", (unsigned long long)info.freeram * info.mem_unit);
    end("memory", 0, 0, 0);
    return 0;
}

static int run_count(const char *name, uint32_t amount) {
    for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++) {
        if (strcmp(workloads[i].name, name) != 0) continue;
        printf("%llu\n", (unsigned long long)count_instructions(workloads[i].run, amount));
        return 0;
    }
    fprintf(stderr, "work: no workload is called %s\n", name);
    return 2;
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "count") == 0) return run_count(argv[2], (uint32_t)strtoul(argv[3], NULL, 10));
    if (argc == 2 && strcmp(argv[1], "nothing") == 0) return 0;
    if (argc < 3) {
        fputs("usage: work WORKLOAD AMOUNT [BUSYBOX] | work count WORKLOAD AMOUNT\n", stderr);
        return 2;
    }
    own_path = argv[0];
    if (argc > 3) busybox_path = argv[3];
    const uint32_t amount = (uint32_t)strtoul(argv[2], NULL, 10);
    if (strcmp(argv[1], "idle") == 0) return run_idle(amount);
    if (strcmp(argv[1], "memory") == 0) return run_memory(amount);

    // A guest has one virtual CPU: natively, too, everything shares one.
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
    return run_workload(argv[1], amount);
}
