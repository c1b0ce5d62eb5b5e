// SPDX-License-Identifier: MIT
// What the registers of random programs are for.

/** Points to the data. */
export const rbx = 3;
/** Registers that random instructions write. */
export const FREE = [0, 1, 2, 5, 6, 7, 8, 9, 10, 11, 12] as const;
