// SPDX-License-Identifier: MIT
// Numbers of the host operations: generated code names them by number, the host's table (host-ops.ts) by name.

const names: string[] = [];
const numbers = new Map<string, number>();

/** The number of a host operation, given out at its first use. Names are used in the order of the descriptions, so every build agrees. */
export function hostOpNumber(name: string): number {
  let n = numbers.get(name);
  if (n === undefined) {
    n = names.push(name) - 1;
    numbers.set(name, n);
  }
  return n;
}

/** All names given out so far, by number. */
export const hostOpNames: readonly string[] = names;
