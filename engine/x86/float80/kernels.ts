// SPDX-License-Identifier: MIT
// The shared functions of the x87 descriptions (Intel SDM volume 1, chapter 8); all take the state block's address first.

export * from './stack-arithmetic.ts';
export * from './stack-data.ts';
