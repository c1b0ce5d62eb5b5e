// SPDX-License-Identifier: MIT
// Numbers of the host operations: generated code names them by number, the host's table (host-ops.ts) by name.

const names: string[] = [];
const numbers = new Map<string, number>();

/** The number of a host operation, given out at its first use. */
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

/** Takes over the numbering of an interpreter built elsewhere, so that code generated now agrees with it. Throws when numbers were given out differently. */
export function adoptHostOpNumbers(built: readonly string[]): void {
  built.forEach((name, n) => {
    if (hostOpNumber(name) !== n)
      throw new Error(`host operation ${name} has two numbers: the interpreter was built by another version`);
  });
}
