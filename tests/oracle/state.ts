// SPDX-License-Identifier: MIT
// Initial state of a case: registers, flags, x87/SSE image, and the content of the data pages.

import { BASE_BYTES, DATA_BASE, PAGE } from './case.ts';
import type { Mode } from './case.ts';
import { double, extended, integer, single } from './random.ts';
import type { Random } from './random.ts';

/** Memory of a batch: regions of integers, floats, text, repeated and zero bytes, so that every kind of operand finds its data. */
export function baseImage(r: Random): Uint8Array {
  const bytes = new Uint8Array(BASE_BYTES);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < BASE_BYTES; at += 64) {
    const kind = r.below(9);
    const repeated = integer(r);
    for (let i = at; i < at + 64; i += 8) {
      if (kind === 0) view.setBigUint64(i, integer(r), true);
      else if (kind === 1) view.setBigUint64(i, double(r), true);
      else if (kind === 2) {
        view.setUint32(i, single(r), true);
        view.setUint32(i + 4, single(r), true);
      } else if (kind === 3 && i % 16 === 0) putExtended(view, i, extended(r));
      else if (kind === 4) view.setBigUint64(i, repeated, true);
      else if (kind === 5) for (let k = 0; k < 8; k++) bytes[i + k] = r.chance(0.1) ? 0 : 0x61 + r.below(4);
      else if (kind === 6) view.setBigUint64(i, r.u64(), true);
      else if (kind === 7) view.setBigUint64(i, BigInt.asUintN(64, BigInt(r.below(64) - 32)), true);
    }
  }
  return bytes;
}

function putExtended(view: DataView, at: number, [exponent, significand]: readonly [number, bigint]): void {
  view.setBigUint64(at, significand, true);
  view.setUint16(at + 8, exponent, true);
}

/** An address in or near the data pages at which `bytes` bytes are accessed. `tame`: nearly always accessible. */
export function dataAddress(r: Random, bytes: number, tame: boolean): number {
  const size = Math.max(bytes, 1);
  const align = r.chance(0.6) ? size & -size : 1;
  const aligned = (a: number): number => a - (a % align);
  const choice = r.below(tame ? 40 : 20);
  // Straddling or touching an edge at `edge`.
  const near = (edge: number): number => edge - size + r.below(2 * size + 1);
  if (choice < 3) return DATA_BASE + near(PAGE);
  if (choice === 3) return DATA_BASE + 4 * PAGE + aligned(r.below(PAGE - size + 1));
  if (tame || choice < 14) return DATA_BASE + aligned(r.below(2 * PAGE - size + 1));
  switch (choice) {
    case 14:
    case 15:
      return DATA_BASE + 2 * PAGE + aligned(r.below(PAGE - size + 1));
    case 16:
      return DATA_BASE + near(2 * PAGE);
    case 17:
      return DATA_BASE + near(r.pick([0, 3 * PAGE, 4 * PAGE, 5 * PAGE]));
    case 18:
      return DATA_BASE + r.pick([3 * PAGE, 5 * PAGE, -PAGE]) + r.below(PAGE);
    default:
      return DATA_BASE + aligned(r.below(2 * PAGE - size + 1));
  }
}

/** Sixteen registers. Some point into the data pages; the stack pointer nearly always does. */
export function registers(r: Random, mode: Mode): BigUint64Array {
  const gpr = new BigUint64Array(16);
  for (let n = 0; n < 16; n++) {
    if (mode === 32 && n > 7) continue;
    const pointer = n === 4 ? 0.95 : n === 3 || (n >= 5 && n <= 7) ? 0.65 : 0.2;
    gpr[n] = r.chance(pointer) ? BigInt(pointerInto(r, n === 4)) : integer(r);
    if (mode === 32) gpr[n] &= 0xffffffffn;
  }
  return gpr;
}

function pointerInto(r: Random, stack: boolean): number {
  const a = dataAddress(r, 8, r.chance(0.8));
  return stack && r.chance(0.8) ? a - (a % 8) : a;
}

/** Status flags at random, sometimes DF; IF is what user mode sees. */
export function initialFlags(r: Random): number {
  return (r.u32() & 0x8d5) | 0x202 | (r.chance(0.15) ? 0x400 : 0);
}

const QUIET_CONTROL = 0x037f;

/** FXSAVE64 image. x87 and SSE exceptions are mostly masked; when not, pending ones are allowed too. */
export function fxImage(r: Random): Uint8Array {
  const bytes = new Uint8Array(512);
  const view = new DataView(bytes.buffer);
  const control = r.chance(0.55)
    ? QUIET_CONTROL
    : 0x40 | (r.u32() & (r.chance(0.5) ? 0x0f00 : 0x0f3f)) | (r.chance(0.6) ? 0x3f : 0);
  let status = (r.below(8) << 11) | (r.u32() & 0x4700);
  const flags = r.chance(0.6) ? 0 : r.u32() & 0x3f;
  const pending = flags & ~control;
  if (pending === 0) status |= flags;
  else if (r.chance(0.1)) status |= flags | 0x8080;
  else status |= flags & control;
  if (status & 1 && r.chance(0.5)) status |= 0x40;
  view.setUint16(0, control, true);
  view.setUint16(2, status, true);
  bytes[4] = r.chance(0.5) ? 0xff : r.chance(0.3) ? 0 : r.u32() & 0xff;
  const mxcsr = r.chance(0.6) ? 0x1f80 : (r.u32() & 0xe07f) | (r.chance(0.75) ? 0x1f80 : r.u32() & 0x1f80);
  view.setUint32(24, mxcsr, true);
  view.setUint32(28, 0xffff, true);
  for (let n = 0; n < 8; n++) putExtended(view, 32 + 16 * n, extended(r));
  for (let n = 0; n < 16; n++) vector(r, view, 160 + 16 * n);
  return bytes;
}

function vector(r: Random, view: DataView, at: number): void {
  switch (r.below(5)) {
    case 0:
      for (let i = 0; i < 16; i += 8) view.setBigUint64(at + i, double(r), true);
      return;
    case 1:
      for (let i = 0; i < 16; i += 4) view.setUint32(at + i, single(r), true);
      return;
    case 2:
      for (let i = 0; i < 16; i += 8) view.setBigUint64(at + i, integer(r), true);
      return;
    case 3: {
      const small = r.below(3);
      for (let i = 0; i < 16; i++)
        view.setUint8(
          at + i,
          small === 0 ? 0x61 + r.below(4) : small === 1 ? r.below(20) : r.pick([0, 0x7f, 0x80, 0xff]),
        );
      return;
    }
    default:
      for (let i = 0; i < 16; i += 4) view.setUint32(at + i, r.u32(), true);
  }
}
