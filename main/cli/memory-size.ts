// SPDX-License-Identifier: MIT
// Sizes of memory as people write them on the command line.
import { pvError } from '../../engine/errors.ts';

const UNITS: Readonly<Record<string, number>> = { k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 };

/** Bytes of a size such as 512M or 1.5G; a bare number counts MiB. Throws PvError. */
export function parseMemorySize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(?:([kmg])i?b?)?$/i.exec(text.trim());
  const bytes = match === null ? NaN : Number(match[1]) * UNITS[(match[2] ?? 'm').toLowerCase()];
  if (!Number.isSafeInteger(bytes) || bytes === 0) {
    throw pvError('usage', { detail: `"${text}" is no size of memory; write for example 512M or 1G` });
  }
  return bytes;
}
