// SPDX-License-Identifier: MIT
// Windows: bytes around a base register that were found to lie in one mapped page, so that neighbouring accesses need no TLB look-up of their own.

import type { Local } from '../wasm/function.ts';
import { ST } from '../cpu/layout.ts';
import type { Region, RegionBlock, RegionInstruction } from './region.ts';

/** Bytes that code accesses around a base, relative to what the base is when the code begins: [low, high). */
export interface Reach {
  low: number;
  high: number;
  accesses: number;
  isWritten: boolean;
  /** Relative to the stack pointer. */
  isStack: boolean;
}

/** Accesses further apart than this do not share a window: they would cross pages too often. */
const widest = 512;

/** A value that addresses are relative to. It never changes: a register that is written gets another anchor. */
export class Anchor {
  readonly reach: Reach | undefined;
  /** What is known to be readable, and writable, in the code being emitted. */
  read: Window | undefined;
  write: Window | undefined;

  constructor(reach?: Reach) {
    this.reach = reach;
  }

  /** A window through which the access can go. */
  windowFor(offset: number, bytes: number, kind: 'read' | 'write'): Window | undefined {
    const covers = (w: Window | undefined) => w && w.low <= offset && offset + bytes <= w.high;
    if (covers(this[kind])) return this[kind];
    return kind === 'read' && covers(this.write) ? this.write : undefined;
  }
}

/** [low, high) relative to the anchor lies in one page, at `host`. */
export interface Window {
  readonly low: number;
  readonly high: number;
  readonly host: Local;
}

/** What a register is before an instruction: `delta` bytes behind the base of its reach. */
interface Position {
  readonly reach: Reach;
  readonly delta: number;
}

/** Number of the stack pointer. */
export const rsp = 4;
const fullWidth = 64;

function grow(position: Position, offset: number, bytes: number, isWrite: boolean): void {
  const { reach } = position;
  const at = position.delta + offset;
  const low = Math.min(reach.low, at);
  const high = Math.max(reach.high, at + bytes);
  if (reach.accesses > 0 && high - low > widest) return;
  if (reach.accesses === 0) {
    reach.low = at;
    reach.high = at + bytes;
  } else {
    reach.low = low;
    reach.high = high;
  }
  reach.accesses++;
  reach.isWritten ||= isWrite;
}

/**
 * Looks ahead for what each register will be used to reach. Only a forecast: whatever it says, a window is checked when it is made. (Implicit
 * writes of registers are not looked for.)
 */
export class Forecast {
  private readonly starts = new Map<RegionBlock, readonly Position[]>();
  private readonly changes = new Map<RegionInstruction, { register: number; position: Position }[]>();

  /** `follows` lists the blocks that can only be reached from a block: they go on with its registers. */
  constructor(region: Region, isStart: (n: number) => boolean, follows: (n: number) => readonly number[]) {
    region.blocks.forEach((_, n) => {
      if (isStart(n))
        this.scan(
          region,
          n,
          Array.from({ length: 16 }, (_, register) => newPosition(register)),
          follows,
        );
    });
  }

  /** What register `n` will reach from the begin of a block on. */
  atStart(block: RegionBlock, register: number): Reach | undefined {
    return this.starts.get(block)?.[register]!.reach;
  }

  /** Registers that an instruction gives a new base, with what they will reach. */
  behind(i: RegionInstruction): readonly { readonly register: number; readonly position: { readonly reach: Reach } }[] {
    return this.changes.get(i) ?? [];
  }

  private scan(region: Region, n: number, entry: readonly Position[], follows: (n: number) => readonly number[]): void {
    const block = region.blocks[n]!;
    this.starts.set(block, entry);
    const positions = [...entry];
    for (const i of block.instructions) this.step(i, positions);
    for (const next of follows(n)) this.scan(region, next, positions, follows);
  }

  private step(i: RegionInstruction, positions: Position[]): void {
    const { name, access, ownMemory } = i.entry.insn;
    const [first, second] = i.operands;
    const isPlain = i.addressSize === 64 && i.segment < 4 && !i.ripRelative && i.base !== ST.zero;
    const memory = i.operands.find((o) => o.category === 'm');
    if (memory && isPlain && i.index === ST.zero && !ownMemory)
      grow(positions[i.base >> 3]!, i.dispLow, memory.bits / 8, /[wx]/.test(access[i.operands.indexOf(memory)] ?? ''));
    const move = (register: number, by: number) => {
      const { reach, delta } = positions[register]!;
      positions[register] = { reach, delta: delta + by };
    };
    const renew = (register: number, position = newPosition(register)) => {
      positions[register] = position;
      const list = this.changes.get(i);
      if (list) list.push({ register, position });
      else this.changes.set(i, [{ register, position }]);
    };
    if (name.startsWith('push') || name.startsWith('call')) {
      move(rsp, -8);
      grow(positions[rsp]!, 0, 8, true);
      return;
    }
    if (name === 'pop' || name.startsWith('ret')) {
      grow(positions[rsp]!, 0, 8, false);
      move(rsp, 8);
      if (name === 'pop' && first) renew(first.value >> 3);
      return;
    }
    const target = first?.category === 'r' && /[wx]/.test(access[0] ?? '') ? first.value >> 3 : -1;
    if (target >= 0 && first!.bits === fullWidth) {
      const by = second?.category === 'i' ? second.value : name === 'inc' || name === 'dec' ? 1 : undefined;
      if (by !== undefined && /^(add|inc)$/.test(name)) return move(target, by);
      if (by !== undefined && /^(sub|dec)$/.test(name)) return move(target, -by);
      if (name === 'mov' && second?.category === 'r') return renew(target, positions[second.value >> 3]!);
      if (name === 'lea' && isPlain && i.index === ST.zero) {
        const { reach, delta } = positions[i.base >> 3]!;
        return renew(target, { reach, delta: delta + i.dispLow });
      }
    }
    i.operands.forEach((o, k) => {
      if (o.category === 'r' && /[wx]/.test(access[k] ?? '')) renew(o.value >> 3);
    });
  }
}

const newPosition = (register: number): Position => ({
  reach: { low: 0, high: 0, accesses: 0, isWritten: false, isStack: register === rsp },
  delta: 0,
});
