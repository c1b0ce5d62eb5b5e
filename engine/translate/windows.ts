// SPDX-License-Identifier: MIT
// Windows: bytes around a base register that were found to lie in one mapped page, so that neighbouring accesses need no TLB look-up of their own.

import type { Local } from '../wasm/function.ts';
import { ST } from '../cpu/layout.ts';
import type { Instruction } from '../x86/types.ts';
import type { Region, RegionBlock, RegionInstruction } from './region.ts';

/** Bytes that code accesses around a base, relative to what the base is when the code begins: [low, high). */
export interface Reach {
  low: number;
  high: number;
  accesses: number;
  isWritten: boolean;
  /** The block of the first of them also writes: a look-up for writing serves both. */
  isSurelyWritten: boolean;
  firstBlock: RegionBlock | undefined;
  /** Relative to the stack pointer. */
  isStack: boolean;
}

/** Accesses further apart than this do not share a window: they would cross pages too often. */
const widest = 512;

/** A value that addresses are relative to. It never changes: a register that is written gets another anchor. */
export class Anchor {
  readonly reach: Reach | undefined;
  /** The value that it was `base` bytes behind when both were known: the same origin and base mean the same address. */
  readonly origin: object;
  readonly base: number;
  /** What is known to be readable, and writable, in the code being emitted. */
  read: Window | undefined;
  write: Window | undefined;
  /** It is a multiple of 16. */
  isAligned = false;

  constructor(reach?: Reach, from?: { readonly origin: object; readonly base: number }) {
    this.reach = reach;
    this.origin = from?.origin ?? this;
    this.base = from?.base ?? 0;
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

/**
 * What an instruction does with its registers: bits of the operands that it writes, bits of the registers that it writes without naming them, and
 * what kind it is, by its name or that of others like it.
 */
interface Effect {
  readonly writes: number;
  readonly implicit: number;
  readonly kind: string;
}

const rax = 1 << 0;
const rcx = 1 << 1;
const rdx = 1 << 2;
const rbx = 1 << 3;
const rbp = 1 << 5;
const rsi = 1 << 6;
const rdi = 1 << 7;

/** By name, the registers that an instruction writes without naming them. */
const implicitWrites: readonly (readonly [RegExp, number])[] = [
  [/^(push|pop|call|ret)/, 1 << rsp],
  [/^(enter|leave)$/, (1 << rsp) | rbp],
  [/^(cbw|lahf|xlat|cmpxchg)$/, rax],
  [/^cwd$/, rdx],
  [/^(mul|imul-wide|div|idiv|rdtsc|cmpxchg8b|cmpxchg16b)$/, rax | rdx],
  [/^rdtscp$/, rax | rcx | rdx],
  [/^cpuid$/, rax | rcx | rdx | rbx],
  [/^(loop|pcmp[ei]stri)/, rcx],
  [/^(rep[a-z]*-)?(movs|cmps|stos|lods|scas)$/, rax | rcx | rsi | rdi],
];

const effects = new Map<Instruction, Effect>();

function effectOf(insn: Instruction): Effect {
  let effect = effects.get(insn);
  if (!effect) {
    const { name, access } = insn;
    let writes = 0;
    for (let k = 0; k < access.length; k++) if (/[wx]/.test(access[k]!)) writes |= 1 << k;
    const kind = /^(push|call)/.test(name) ? 'push' : name.startsWith('ret') ? 'ret' : name;
    // Its description looks itself at what its operand is.
    if (name === 'pop-operand') writes |= 1;
    const implicit = implicitWrites.find(([names]) => names.test(name))?.[1] ?? 0;
    effects.set(insn, (effect = { writes, implicit, kind }));
  }
  return effect;
}

/** Bits of the general registers that an instruction may write. */
export function registersWritten({ entry, operands }: RegionInstruction): number {
  const { writes, implicit } = effectOf(entry.insn);
  let bits = implicit;
  for (let k = 0; k < operands.length; k++) {
    const o = operands[k]!;
    if (o.category === 'r' && (writes & (1 << k)) !== 0) bits |= 1 << (o.value >> 3);
  }
  return bits;
}

/** A register to which an instruction adds a number, in 64 bits. */
export function stepOf(i: RegionInstruction): { readonly register: number; readonly by: number } | undefined {
  const [first, second] = i.operands;
  if (first?.category !== 'r' || first.bits !== fullWidth) return undefined;
  const register = first.value >> 3;
  const by = second?.category === 'i' ? second.value : undefined;
  switch (effectOf(i.entry.insn).kind) {
    case 'inc':
      return { register, by: 1 };
    case 'dec':
      return { register, by: -1 };
    case 'add':
      return by === undefined ? undefined : { register, by };
    case 'sub':
      return by === undefined ? undefined : { register, by: -by };
    case 'lea':
      return isPlain(i) && i.base >> 3 === register ? { register, by: i.dispLow } : undefined;
    default:
      return undefined;
  }
}

/** What an instruction does with the operand in memory that it names: undefined where there is none, or something that only its description knows. */
export function accessOf(i: RegionInstruction): { readonly bytes: number; readonly isWrite: boolean } | undefined {
  if (i.addressSize !== 64 || i.segment >= 4 || i.ripRelative) return undefined;
  const k = i.operands.findIndex((o) => o.category === 'm');
  const { writes, implicit } = effectOf(i.entry.insn);
  if (k < 0 || !/[rwx]/.test(i.entry.insn.access[k]!)) return undefined;
  // Its address may be that of behind the change.
  if ((implicit & (1 << rsp)) !== 0) return undefined;
  return { bytes: i.operands[k]!.bits / 8, isWrite: (writes & (1 << k)) !== 0 };
}

/** The address is a register and a displacement. */
const isPlain = (i: RegionInstruction): boolean =>
  i.addressSize === 64 && i.segment < 4 && !i.ripRelative && i.base !== ST.zero && i.index === ST.zero;

/** The operand in memory with such an address, -1 = none. */
const plainOperand = (i: RegionInstruction): number =>
  isPlain(i) && !i.entry.insn.ownMemory ? i.operands.findIndex((o) => o.category === 'm') : -1;

/** By register, the bytes around it that a block accesses as long as it is none of `written` (bits). */
export function reachedBy(block: RegionBlock, written: number): Map<number, Reach> {
  const positions = new Map<number, Position>();
  for (const i of block.instructions) {
    const k = plainOperand(i);
    const register = i.base >> 3;
    if (k < 0 || (written & (1 << register)) !== 0) continue;
    const position = positions.get(register) ?? newPosition(register);
    positions.set(register, position);
    grow(position, i.dispLow, i.operands[k]!.bits / 8, (effectOf(i.entry.insn).writes & (1 << k)) !== 0, block);
  }
  return new Map([...positions].map(([register, { reach }]) => [register, reach]));
}

function grow(position: Position, offset: number, bytes: number, isWrite: boolean, block: RegionBlock): void {
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
  reach.firstBlock ??= block;
  reach.isSurelyWritten ||= isWrite && reach.firstBlock === block;
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
    for (const i of block.instructions) this.step(i, positions, block);
    for (const next of follows(n)) this.scan(region, next, positions, follows);
  }

  private step(i: RegionInstruction, positions: Position[], block: RegionBlock): void {
    const { writes, kind } = effectOf(i.entry.insn);
    const { operands } = i;
    const plain = plainOperand(i);
    if (plain >= 0) {
      const isWrite = (writes & (1 << plain)) !== 0;
      grow(positions[i.base >> 3]!, i.dispLow, operands[plain]!.bits / 8, isWrite, block);
    }
    const [first, second] = operands;
    if (kind === 'push') {
      move(positions, rsp, -8);
      grow(positions[rsp]!, 0, 8, true, block);
      return;
    }
    if (kind === 'pop' || kind === 'ret') {
      grow(positions[rsp]!, 0, 8, false, block);
      move(positions, rsp, 8);
      if (kind === 'pop' && first) this.renew(i, positions, first.value >> 3);
      return;
    }
    const stepped = stepOf(i);
    if (stepped) return move(positions, stepped.register, stepped.by);
    if (first?.category === 'r' && (writes & 1) !== 0 && first.bits === fullWidth) {
      const target = first.value >> 3;
      if (kind === 'mov' && second?.category === 'r')
        return this.renew(i, positions, target, positions[second.value >> 3]!);
      if (kind === 'lea' && isPlain(i)) {
        const { reach, delta } = positions[i.base >> 3]!;
        return this.renew(i, positions, target, { reach, delta: delta + i.dispLow });
      }
    }
    for (let k = 0; k < operands.length; k++) {
      const o = operands[k]!;
      if (o.category === 'r' && (writes & (1 << k)) !== 0) this.renew(i, positions, o.value >> 3);
    }
  }

  /** The instruction gives a register another base. */
  private renew(i: RegionInstruction, positions: Position[], register: number, position = newPosition(register)): void {
    positions[register] = position;
    const list = this.changes.get(i);
    if (list) list.push({ register, position });
    else this.changes.set(i, [{ register, position }]);
  }
}

function move(positions: Position[], register: number, by: number): void {
  const { reach, delta } = positions[register]!;
  positions[register] = { reach, delta: delta + by };
}

const newPosition = (register: number): Position => ({
  reach: {
    low: 0,
    high: 0,
    accesses: 0,
    isWritten: false,
    isSurelyWritten: false,
    firstBlock: undefined,
    isStack: register === rsp,
  },
  delta: 0,
});
