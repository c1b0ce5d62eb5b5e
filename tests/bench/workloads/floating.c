// SPDX-License-Identifier: MIT
// Double-precision workloads: a five-body gravity simulation (divide, square root, dependent chains) and matrix products (multiply, add, loads).

#include "workloads.h"

#include <string.h>

enum { BODIES = 5 };

struct body {
    double position[3], velocity[3], mass;
};

static inline double square_root(double x) {
    double result;
    // Inline so that a libm which chooses by CPUID cannot change what is measured.
    __asm__("sqrtsd %1, %0" : "=x"(result) : "x"(x));
    return result;
}

uint64_t run_nbody(uint32_t kilosteps) {
    // A made-up planetary system: a heavy centre and four light bodies on near-circular orbits.
    struct body bodies[BODIES] = {
        {{0, 0, 0}, {0, 0, 0}, 40.0},
        {{5, 0.25, -0.125}, {0.5, 2.75, 0.0625}, 0.0390625},
        {{-0.5, 9, 0.375}, {-2.0, 0.25, 0.03125}, 0.01171875},
        {{-14, -3, 0.75}, {0.25, -1.625, -0.015625}, 0.001953125},
        {{2, -21, -0.5}, {1.375, 0.125, 0.0078125}, 0.0029296875},
    };
    const double dt = 0.001;
    for (uint32_t step = 0; step < kilosteps * 1000u; step++) {
        for (int i = 0; i < BODIES; i++) {
            struct body *a = &bodies[i];
            for (int j = i + 1; j < BODIES; j++) {
                struct body *b = &bodies[j];
                const double dx = a->position[0] - b->position[0];
                const double dy = a->position[1] - b->position[1];
                const double dz = a->position[2] - b->position[2];
                const double distance2 = dx * dx + dy * dy + dz * dz;
                const double pull = dt / (distance2 * square_root(distance2));
                const double from_b = b->mass * pull, from_a = a->mass * pull;
                a->velocity[0] -= dx * from_b, a->velocity[1] -= dy * from_b, a->velocity[2] -= dz * from_b;
                b->velocity[0] += dx * from_a, b->velocity[1] += dy * from_a, b->velocity[2] += dz * from_a;
            }
        }
        for (int i = 0; i < BODIES; i++)
            for (int axis = 0; axis < 3; axis++) bodies[i].position[axis] += dt * bodies[i].velocity[axis];
    }
    return hash_bytes(HASH_START, bodies, sizeof bodies);
}

uint64_t run_matmul(uint32_t products) {
    enum { SIDE = 256 };
    static double a[SIDE][SIDE], b[SIDE][SIDE], c[SIDE][SIDE];
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
            a[i][j] = (double)((i * 31 + j * 17) % 101) / 101.0;
            b[i][j] = (double)((i * 13 + j * 29) % 103) / 103.0 - 0.5;
        }
    for (uint32_t n = 0; n < products; n++) {
        memset(c, 0, sizeof c);
        for (int i = 0; i < SIDE; i++)
            for (int k = 0; k < SIDE; k++) {
                const double factor = a[i][k];
                for (int j = 0; j < SIDE; j++) c[i][j] += factor * b[k][j];
            }
        // The next product depends on this one, and stays in range.
        for (int i = 0; i < SIDE; i++) a[i][(i + (int)n) % SIDE] = c[i][i] * (1.0 / SIDE);
    }
    return hash_bytes(HASH_START, c, sizeof c);
}
