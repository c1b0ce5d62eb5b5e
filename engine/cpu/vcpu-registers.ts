// SPDX-License-Identifier: MIT
// A vCPU's state block as TypeScript sees it: registers, flags, operating mode (layout: layout.ts).

import type { Mode } from '../x86/stage.ts';
import { JumpTable, scratchOffset, ST, vcpuBlockBytes } from './layout.ts';
import type { MachineMemory } from './memory.ts';

export const modeIndex = (mode: Mode): number => (mode === 64 ? 0 : mode === 32 ? 1 : 2);

function evenParity(byte: number): boolean {
  const folded = byte ^ (byte >> 4);
  return ((0x9669 >> (folded & 15)) & 1) === 1;
}

export class VCpuRegisters {
  readonly mem: MachineMemory;
  readonly id: number;
  /** Host address of the state block. */
  readonly base: number;
  /** Host address of the area that `copyIn` copies to. */
  readonly scratch: number;

  constructor(mem: MachineMemory, id: number) {
    this.mem = mem;
    this.id = id;
    this.base = mem.layout.vcpus + id * vcpuBlockBytes;
    this.scratch = this.base + scratchOffset;
  }

  regLo(n: number): number {
    return this.mem.u32[(this.base + ST.gpr + n * 8) >>> 2]!;
  }
  regHi(n: number): number {
    return this.mem.u32[(this.base + ST.gpr + n * 8 + 4) >>> 2]!;
  }
  reg(n: number): bigint {
    return this.mem.u64[(this.base + ST.gpr + n * 8) >>> 3]!;
  }
  setReg(n: number, value: bigint): void {
    this.mem.u64[(this.base + ST.gpr + n * 8) >>> 3] = BigInt.asUintN(64, value);
  }
  get ripLo(): number {
    return this.get(ST.rip);
  }
  get ripHi(): number {
    return this.get(ST.rip + 4);
  }
  setRip(lo: number, hi: number): void {
    this.set(ST.rip, lo);
    this.set(ST.rip + 4, hi);
  }

  /** A u32 field of the state block. */
  get(offset: number): number {
    return this.mem.u32[(this.base + offset) >>> 2]!;
  }
  set(offset: number, value: number): void {
    this.mem.u32[(this.base + offset) >>> 2] = value;
  }

  /** The architectural RFLAGS image, low 32 bits. */
  getRflags(): number {
    const { i32, u32 } = this.mem;
    const at = this.base >>> 2;
    let flags = u32[at + (ST.sysFlags >>> 2)]! | 2;
    if (u32[at + (ST.fc >>> 2)]) flags |= 1;
    const parity = u32[at + (ST.fp >>> 2)]! & 0xff;
    if (evenParity(parity)) flags |= 4;
    flags |= u32[at + (ST.fa >>> 2)]! & 0x10;
    if (u32[at + (ST.fz >>> 2)] === 0 && u32[at + (ST.fz >>> 2) + 1] === 0) flags |= 0x40;
    if (i32[at + (ST.fs >>> 2) + 1]! < 0) flags |= 0x80;
    if (i32[at + (ST.fo >>> 2)]! < 0) flags |= 0x800;
    return flags >>> 0;
  }

  setRflags(value: number): void {
    const { u32 } = this.mem;
    const at = this.base >>> 2;
    u32[at + (ST.sysFlags >>> 2)] = (value & ~0x8d5) | 2;
    u32[at + (ST.fc >>> 2)] = value & 1;
    u32[at + (ST.fp >>> 2)] = value & 4 ? 0 : 1;
    u32[at + (ST.fa >>> 2)] = value & 0x10;
    u32[at + (ST.fz >>> 2)] = value & 0x40 ? 0 : 1;
    u32[at + (ST.fz >>> 2) + 1] = 0;
    u32[at + (ST.fs >>> 2)] = 0;
    u32[at + (ST.fs >>> 2) + 1] = value & 0x80 ? 0x80000000 : 0;
    u32[at + (ST.fo >>> 2)] = value & 0x800 ? 0x80000000 : 0;
  }

  /** Operating mode of the code segment. */
  get mode(): Mode {
    return this.get(ST.mode) as Mode;
  }
  setMode(mode: Mode): void {
    this.set(ST.mode, mode);
    this.set(ST.jumpTable, this.base + JumpTable.offset + modeIndex(mode) * JumpTable.bytes);
  }
}
