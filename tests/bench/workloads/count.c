// SPDX-License-Identifier: MIT
// Counts the instructions of a workload natively with the trap flag (Intel SDM vol. 3, 18.3.1.4): the "M" of the bench's MIPS, from no engine's own counter.

#define _GNU_SOURCE
#include "workloads.h"

#include <signal.h>
#include <string.h>

static volatile uint64_t traps;

static void on_trap(int signal_number) {
    (void)signal_number;
    traps++;
}

uint64_t count_instructions(uint64_t (*run)(uint32_t amount), uint32_t amount) {
    struct sigaction action, before;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_trap;
    if (sigaction(SIGTRAP, &action, &before) != 0) fail("sigaction");
    traps = 0;
    // The 128 bytes below the stack pointer belong to the function (System V ABI, red zone): step over them.
    __asm__ volatile("sub $128, %%rsp\n\tpushfq\n\torq $0x100, (%%rsp)\n\tpopfq\n\tadd $128, %%rsp" ::: "memory", "cc");
    run(amount);
    __asm__ volatile("sub $128, %%rsp\n\tpushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq\n\tadd $128, %%rsp" ::: "memory", "cc");
    sigaction(SIGTRAP, &before, NULL);
    return traps;
}
