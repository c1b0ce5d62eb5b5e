// SPDX-License-Identifier: MIT
// The bench workloads' common interface: one function per row, taking an amount of work and returning a checksum.

#ifndef PARAVANE_BENCH_WORKLOADS_H
#define PARAVANE_BENCH_WORKLOADS_H

#include <stddef.h>
#include <stdint.h>

// Every workload is deterministic: the same amount gives the same checksum on every engine, and one that differs is a bug of the engine.
uint64_t run_integer(uint32_t iterations);
uint64_t run_sha256(uint32_t mebibytes);
uint64_t run_nbody(uint32_t kilosteps);
uint64_t run_matmul(uint32_t products);
uint64_t run_copy(uint32_t rounds);
uint64_t run_chase(uint32_t kiloloads);
uint64_t run_faults(uint32_t mebibytes);
uint64_t run_getppid(uint32_t kilocalls);
uint64_t run_pipe(uint32_t round_trips);
uint64_t run_fork(uint32_t children);
uint64_t run_gzip(uint32_t mebibytes);

// The absolute path of this program, for the workload that executes it again, and of a static busybox.
extern const char *own_path;
extern const char *busybox_path;

// Instructions `run(amount)` executes on this CPU in user mode (a few of the counting itself included).
uint64_t count_instructions(uint64_t (*run)(uint32_t amount), uint32_t amount);

// Ends the program with a message; for host or guest failures that make a figure meaningless.
_Noreturn void fail(const char *what);

// xorshift64*: a fixed pseudo-random sequence from a non-zero state.
static inline uint64_t next_random(uint64_t *state) {
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545f4914f6cdd1dull;
}

// FNV-1a over bytes, continued from `hash`.
static inline uint64_t hash_bytes(uint64_t hash, const void *data, size_t size) {
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++) hash = (hash ^ bytes[i]) * 0x100000001b3ull;
    return hash;
}
#define HASH_START 0xcbf29ce484222325ull

#endif
