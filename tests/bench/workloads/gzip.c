// SPDX-License-Identifier: MIT
// Compression workload: busybox gzip, an ordinary program from Debian, over text-like data kept in memory files.

#define _GNU_SOURCE
#include "workloads.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

// Words from a fixed vocabulary with some numbers between them: compresses to about a third, as logs and sources do.
static void fill_text(char *text, size_t size) {
    static const char *const words[] = {"the ",    "kernel ", "page ",   "return ", "struct ", "of ",     "vcpu ", "if (",
                                        "event ",  "table ",  "error\n", "memory ", "guest ",  "static ", "int ",  "a ",
                                        "domain ", "frame ",  "and ",    "for (",   "entry ",  "= ",      ";\n",   "device "};
    uint64_t random = 0x2b992ddfa23249d6ull;
    size_t at = 0;
    while (at < size) {
        const uint64_t r = next_random(&random);
        char number[12];
        const char *piece = words[(r >> 8) % (sizeof words / sizeof *words)];
        if ((r & 7) == 0) {
            uint32_t value = (uint32_t)(r >> 40);
            int n = 0;
            do number[n++] = (char)('0' + value % 10), value /= 10;
            while (value != 0);
            number[n++] = ' ';
            number[n] = 0;
            piece = number;
        }
        size_t length = strlen(piece);
        if (length > size - at) length = size - at;
        memcpy(text + at, piece, length);
        at += length;
    }
}

uint64_t run_gzip(uint32_t mebibytes) {
    const size_t size = (size_t)mebibytes << 20;
    const int in = memfd_create("in", 0), out = memfd_create("out", 0);
    if (in < 0 || out < 0 || ftruncate(in, (off_t)size) != 0) fail("memfd_create");
    char *text = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, in, 0);
    if (text == MAP_FAILED) fail("mmap");
    fill_text(text, size);
    munmap(text, size);

    const pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        if (dup2(in, 0) < 0 || dup2(out, 1) < 0) _exit(126);
        execl(busybox_path, "busybox", "gzip", "-c", (char *)NULL);
        _exit(127);
    }
    int status;
    if (waitpid(child, &status, 0) != child || status != 0) fail("busybox gzip");

    const off_t packed = lseek(out, 0, SEEK_END);
    if (packed <= 10) fail("gzip output");
    const unsigned char *bytes = mmap(NULL, (size_t)packed, PROT_READ, MAP_SHARED, out, 0);
    if (bytes == MAP_FAILED) fail("mmap");
    // Without the 10-byte header, which may hold a time (RFC 1952 section 2.3).
    const uint64_t hash = hash_bytes(HASH_START, bytes + 10, (size_t)packed - 10);
    close(in);
    close(out);
    return hash;
}
