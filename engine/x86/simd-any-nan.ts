// SPDX-License-Identifier: MIT
// For tests: of several NaNs a dot product gives one, and which depends on the order in which products are added, which each processor's maker chose.

/** DPPS or DPPD, by the start of its name. */
export const isDotProduct = (name: string): boolean => /^dpp[sd]\b/.test(name);

/** The 16 bytes of two results of that dot product are the same but for which NaN it is. */
export function sameButForNans(name: string, a: Uint8Array, b: Uint8Array): boolean {
  const numbers = ({ buffer }: Uint8Array<ArrayBuffer>): Float32Array | Float64Array =>
    name.startsWith('dpps') ? new Float32Array(buffer) : new Float64Array(buffer);
  const others = numbers(b.slice());
  return numbers(a.slice()).every((value, i) => Object.is(value, others[i]));
}
