// SPDX-License-Identifier: MIT
// Kernel workloads: the cheapest system call, two processes exchanging a byte over pipes, and starting a program.

#define _GNU_SOURCE
#include "workloads.h"

#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

uint64_t run_getppid(uint32_t kilocalls) {
    const long first = syscall(SYS_getppid);
    uint64_t same = 0;
    for (uint64_t i = 0; i < (uint64_t)kilocalls * 1000; i++) same += syscall(SYS_getppid) == first;
    return same;
}

static int wait_for(pid_t child) {
    int status;
    if (waitpid(child, &status, 0) != child) fail("waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

uint64_t run_pipe(uint32_t round_trips) {
    int there[2], back[2];
    if (pipe(there) != 0 || pipe(back) != 0) fail("pipe");
    const pid_t child = fork();
    if (child < 0) fail("fork");
    unsigned char byte;
    if (child == 0) {
        close(there[1]);
        while (read(there[0], &byte, 1) == 1) {
            byte = (unsigned char)(byte * 5 + 1);
            if (write(back[1], &byte, 1) != 1) _exit(1);
        }
        _exit(0);
    }
    close(there[0]);
    close(back[1]);
    uint64_t hash = HASH_START;
    byte = 1;
    for (uint32_t i = 0; i < round_trips; i++) {
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) fail("pipe");
        hash = hash_bytes(hash, &byte, 1);
    }
    close(there[1]);
    close(back[0]);
    if (wait_for(child) != 0) fail("child");
    return hash;
}

uint64_t run_fork(uint32_t children) {
    uint64_t good = 0;
    for (uint32_t i = 0; i < children; i++) {
        const pid_t child = fork();
        if (child < 0) fail("fork");
        if (child == 0) {
            execl(own_path, own_path, "nothing", (char *)NULL);
            _exit(127);
        }
        good += wait_for(child) == 0;
    }
    return good;
}
