// SPDX-License-Identifier: MIT
// Random programs of SSE arithmetic: chains of it over registers, memory and shuffles, through branches and loops, with numbers of all sizes.

import type { Random } from '../oracle/random.ts';
import { CODE, DATA, DATA_PAGES, FUEL, STACK, Writer, type Program } from './program.ts';
import { rbx } from './registers.ts';

const rcx = 1;
const rsp = 4;
const r15 = 15;

/** Prefixes of the four shapes: packed single and double, scalar single and double. */
const shapes = { ps: 0, pd: 0x66, ss: 0xf3, sd: 0xf2 } as const;
type ShapeName = keyof typeof shapes;

/** Exponents around which something changes: what counts as ordinary in each format, products of such, the ends of the formats. */
const doubleExponents = [64, 127, 128, 129, 250, 372, 436, 500, 744, 900, 947, 948, 999, 1000, 1001, 1021, 1022];
const singleExponents = [16, 31, 32, 33, 48, 63, 64, 73, 96, 97, 119, 120, 121, 125, 126];

function double(r: Random, usual: number, size: number): bigint {
  const sign = BigInt(r.below(2)) << 63n;
  const fraction = r.chance(0.3) ? 0n : r.u64() & 0xf_ffff_ffff_ffffn;
  const dice = r.chance(usual) ? 0 : 1 + r.below(10);
  if (dice === 0) return sign | (BigInt(1023 + size - r.below(size === 0 ? 20 : 4)) << 52n) | fraction;
  if (dice <= 5) {
    const exponent = r.pick(doubleExponents) * r.pick([1, -1]) + r.below(3) - 1;
    return sign | (BigInt(Math.min(2046, Math.max(1, 1023 + exponent))) << 52n) | fraction;
  }
  if (dice === 6) return sign;
  if (dice === 7) return sign | fraction;
  if (dice === 8) return sign | 0x7ff0_0000_0000_0000n;
  if (dice === 9) return sign | 0x7ff0_0000_0000_0000n | fraction;
  return r.u64();
}

function single(r: Random, usual: number, size: number): number {
  const sign = r.below(2) * 0x8000_0000;
  const fraction = r.chance(0.3) ? 0 : r.below(0x80_0000);
  const dice = r.chance(usual) ? 0 : 1 + r.below(10);
  if (dice === 0) return sign + (127 + size / 4 - r.below(size === 0 ? 8 : 2)) * 0x80_0000 + fraction;
  if (dice <= 5) {
    const exponent = r.pick(singleExponents) * r.pick([1, -1]) + r.below(3) - 1;
    return sign + Math.min(254, Math.max(1, 127 + exponent)) * 0x80_0000 + fraction;
  }
  if (dice === 6) return sign;
  if (dice === 7) return sign + fraction;
  if (dice === 8) return sign + 0x7f80_0000;
  if (dice === 9) return sign + 0x7f80_0000 + fraction;
  return r.u32();
}

/** Which numbers there are: shares of usual ones and of singles, and the exponent of the usual ones (of singles a quarter of it). */
interface Mixture {
  readonly usual: number;
  readonly singles: number;
  readonly size: number;
}

/** Fills memory with numbers of either format, 16 bytes of one at a time. */
function fill(r: Random, bytes: Uint8Array, { usual, singles, size }: Mixture): void {
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < bytes.length; at += 16) {
    if (r.chance(singles)) for (let n = 0; n < 16; n += 4) view.setUint32(at + n, single(r, usual, size), true);
    else for (let n = 0; n < 16; n += 8) view.setBigUint64(at + n, double(r, usual, size), true);
  }
}

/** An instruction 0F `opcode` with an XMM register and another, or 16 aligned bytes of memory. `prefix`: 0 for none. */
function vector(w: Writer, r: Random, prefix: number, opcode: number, memory: number): void {
  const isMemory = r.chance(memory);
  const register = r.below(8);
  w.modrm([0x0f, opcode], register, isMemory ? { base: rbx, disp: 16 * r.below(32) } : r.below(8), { prefix });
}

function instruction(w: Writer, r: Random, own: ShapeName): void {
  const shape = shapes[r.chance(0.85) ? own : r.pick(['ps', 'pd', 'ss', 'sd'] as const)];
  const isScalar = shape >= 0xf2;
  const dice = r.below(100);
  if (dice < 55) vector(w, r, shape, r.pick([0x58, 0x58, 0x59, 0x59, 0x59, 0x5c, 0x5c, 0x5e]), 0.3);
  else if (dice < 60) vector(w, r, shape, 0x51, 0.2);
  else if (dice < 64) vector(w, r, shape, r.pick([0x5d, 0x5f]), 0.2);
  else if (dice < 74) vector(w, r, isScalar ? shape : shapes.pd, isScalar ? r.pick([0x10, 0x11]) : 0x28, 0.5);
  else if (dice < 77) vector(w, r, 0, 0x29, 1);
  else if (dice < 84) vector(w, r, r.pick([0, 0x66]), r.pick([0x14, 0x15]), 0.2);
  else if (dice < 86) vector(w, r, r.pick([0, 0x66]), r.pick([0x12, 0x16]), 1);
  else if (dice < 88) vector(w, r, 0, r.pick([0x12, 0x16]), 0);
  else if (dice < 90) {
    vector(w, r, r.pick([0, 0x66]), 0xc6, 0);
    w.put(r.below(256));
  } else if (dice < 91) vector(w, r, 0xf2, 0x12, 0.3);
  else if (dice < 92) {
    vector(w, r, 0x66, 0x70, 0);
    w.put(r.below(256));
  } else if (dice < 94) vector(w, r, r.pick([0, 0x66]), 0x57, 0);
  else if (dice < 95) vector(w, r, r.pick([0x66, 0xf2]), r.pick([0xd0, 0x7c, 0x7d]), 0.2);
  else if (dice < 97) vector(w, r, r.pick([0xf2, 0xf3]), 0x5a, 0.2);
  else if (dice < 98) w.modrm([0x0f, 0x2a], r.below(8), rcx, { prefix: 0xf2, wide: true });
  else vector(w, r, 0xf3, 0x7e, 0.3);
}

/** A program that ends: pieces of arithmetic, some of them passed over by a comparison, some repeated. */
export function makeFloatingProgram(r: Random): Program {
  const w = new Writer();
  w.at = r.chance(0.3) ? 0x1000 - 20 - r.below(200) : r.below(0x400);
  const start = w.at;
  const own = r.pick(['sd', 'sd', 'pd', 'ss', 'ps'] as const);
  const pieces = 1 + r.below(6);
  for (let n = 0; n < pieces; n++) {
    // mov ecx, times
    w.put(0xb9);
    w.imm(1 + r.below(6), 4);
    const from = w.at;
    let over = 0;
    const isPassedOver = r.chance(0.4);
    if (isPassedOver) {
      vector(w, r, r.pick([0, 0x66]), 0x2e, 0);
      w.put(0x70 | r.pick([2, 3, 6, 7, 10, 11]), 0);
      over = w.at;
    }
    for (let k = r.below(r.chance(0.3) ? 14 : 6); k > 0; k--) instruction(w, r, own);
    if (isPassedOver && w.at - over < 128) w.bytes[over - 1] = w.at - over;
    // dec ecx; jnz from
    if (r.chance(0.3)) {
      w.put(0xff, 0xc9, 0x0f, 0x85);
      const back = from - (w.at + 4);
      w.imm(back, 4);
    }
  }
  w.put(0xcc);
  return { code: w.bytes, blocks: [CODE + start], modifiesCode: false, flags: 2, ...makeFloatingInput(r) };
}

/** The numbers to compute with, and how MXCSR is set: mostly such that translated code may use WebAssembly's arithmetic. */
export function makeFloatingInput(r: Random): Pick<Program, 'registers' | 'xmm' | 'data' | 'budget' | 'mxcsr'> {
  const registers = new Array<bigint>(16).fill(0n);
  registers[rcx] = BigInt(r.below(12));
  registers[rbx] = BigInt(DATA);
  registers[rsp] = BigInt(STACK + 0x800);
  registers[r15] = BigInt(FUEL + 0x800);
  // All of them large, or small: products of several soon come to an end of the format.
  const size = r.pick([0, 0, 0, 124, -124]);
  const mixture = { usual: r.pick([0.5, 0.9, 0.98, 1]), singles: r.pick([0, 0.2, 0.8, 1]), size };
  const xmm = new Uint8Array(256);
  fill(r, xmm, mixture);
  const data = new Uint8Array(DATA_PAGES * 4096);
  fill(r, data, mixture);
  // Flush to zero and denormals as zeros; precision not noted yet; another rounding; an unmasked exception.
  const mxcsr = r.chance(0.75) ? 0x1fa0 : r.pick([0x9fe0, 0x1f80, 0x3fa0, 0x7fa0, 0x1ea0, 0x1f20, 0x1da0]);
  return { registers, xmm, data, budget: r.pick([5, 40, 1000]), mxcsr };
}
