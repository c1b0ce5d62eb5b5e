// SPDX-License-Identifier: MIT
// Turns decoded instructions into micro-op records: chooses handlers, fuses compare and branch, drops dead flags.

import { decoded, type Decoded } from '../x86/decode.ts';
import type { Entry } from '../x86/encoding.ts';
import type { Mode } from '../x86/stage.ts';
import { catalog, handlerKey, pairIndex, special, type Handler } from './catalog.ts';
import { allFlags, flagSet, type FlagSet } from './flag-sets.ts';
import { jumpLink, outerHeader } from './interpreter.ts';
import { BlockHeader, Link, ST, Stale, Uop } from './layout.ts';
import type { MachineMemory } from './memory.ts';

const pageBytes = 4096;

/** Handlers by decoded shape, per encoding: filled as shapes appear. */
const known = new Map<Entry, (Handler | undefined)[]>();
/** Modes, sizes of addresses, sizes of operations, memory or not. */
const shapeCount = 3 * 3 * 4 * 2;
/** Of 16, 32 and 64 (modes, sizes of addresses) a number below 3; the others are as good. */
const widthCode = (bits: number): number => 6 - (31 - Math.clz32(bits));

function findHandler(d: Decoded, mode: Mode): Handler | undefined {
  // What an operand can be is a register or memory, by the same bits for all; the rest is the encoding's.
  let shape = ((widthCode(mode) * 3 + widthCode(d.addressSize)) * 4 + (31 - Math.clz32(d.size)) - 3) * 2;
  for (let i = 0; i < d.operandCount; i++) if (d.operands[i]!.category === 'm') shape |= 1;
  let shapes = known.get(d.entry);
  if (!shapes) known.set(d.entry, (shapes = new Array<Handler | undefined>(shapeCount).fill(undefined)));
  let handler = shapes[shape];
  if (!handler) {
    const used = d.operands.slice(0, d.operandCount);
    const key = handlerKey(
      d.entry.insn,
      d.size,
      used.map((o) => o.category),
      used.map((o) => o.bits),
      mode,
      d.addressSize,
    );
    handler = catalog.byKey.get(key);
    shapes[shape] = handler;
  }
  return handler;
}

interface FlagUse {
  readonly writes: FlagSet;
  readonly mayWrite: FlagSet;
  readonly reads: FlagSet;
  readonly canFault: boolean;
}

/** By number of the handler, filled as they appear. */
const usesInline: (FlagUse | undefined)[] = catalog.inline.map(() => undefined);
const usesOutlined: (FlagUse | undefined)[] = catalog.outlined.map(() => undefined);

function flagUse(h: Handler): FlagUse {
  const uses = h.inline ? usesInline : usesOutlined;
  return (uses[h.id] ??= findFlagUse(h));
}

function findFlagUse({ insn, memoryAt }: Handler): FlagUse {
  const touchesMemory = (memoryAt > 0 && insn.name !== 'lea') || insn.perMode === true || insn.perAddress === true;
  return {
    writes: flagSet(insn.writes),
    mayWrite: flagSet(insn.mayWrite),
    reads: flagSet(insn.reads),
    canFault: touchesMemory || insn.faults === true || insn.ends === true || insn.ownMemory === true,
  };
}

/** Longest block, in instructions: bounds what a budget of 0 can run. */
export const maxBlockInstructions = 64;
/** Upper bound of the bytes that a block takes. */
export const maxBlockBytes = maxBlockInstructions * 96 + 64;

/** Bytes of the header that a block begins with, 0 for one without: such a block cannot be translated. */
export function headerBytes(mem: MachineMemory, record: number): number {
  const handler = mem.u16[record >>> 1]!;
  return handler === special.entry || handler === special.enterRegion ? BlockHeader.bytes : 0;
}

/** Writes the records of one block; call `begin`, `add` per instruction, `finish`. */
export class BlockWriter {
  private readonly mem: MachineMemory;
  private start = 0;
  private at = 0;
  private count = 0;
  private readonly records: number[] = [];
  private readonly handlers: (Handler | undefined)[] = [];
  ended = false;
  /** Page offset of the conditional branch that the block ends with, -1 = none, and where it counts its ways. */
  branchOffset = -1;
  branchLink = 0;

  constructor(mem: MachineMemory) {
    this.mem = mem;
  }

  /** `at`: host address, 8-byte aligned, with `maxBlockBytes` behind it. */
  begin(at: number): void {
    this.start = at;
    this.at = at;
    this.count = 0;
    this.records.length = 0;
    this.handlers.length = 0;
    this.ended = false;
    this.branchOffset = -1;
  }

  get instructions(): number {
    return this.count;
  }

  /** Offset of the link part in a record with `handler` as first field (records that exits report always have one). */
  linkOffset(handler: number): number {
    if (handler === special.jump) return jumpLink;
    return catalog.inline[handler]?.linkAt ?? 0;
  }

  /** Host address of the second page that a block's crossing check expects, 0 for ordinary blocks. */
  crossingPage(record: number): number {
    return this.mem.u16[record >>> 1] === special.crossing ? this.mem.u32[(record + 12) >>> 2]! : 0;
  }

  /** The record ends its block with a direct call. */
  isCall(record: number): boolean {
    return catalog.inline[this.mem.u16[record >>> 1]!]?.insn.name === 'call';
  }

  /** Makes a forgotten block of code in the frame at a host address harmless: whatever still leads to it will go on at its successor. */
  kill(record: number, frame: number): void {
    // Branches may go around the header.
    const body = record + headerBytes(this.mem, record);
    this.makeStale(body, frame | (body === record ? 0 : Stale.isBody));
    if (body !== record) this.makeStale(record, frame);
  }

  private makeStale(at: number, about: number): void {
    this.mem.u16[at >>> 1] = special.stale;
    this.mem.u32[(at + Stale.next) >>> 2] = about | Stale.isUnknown;
  }

  /** Stale records on the way from one, and the last one's frame; `frame` -1: that has a successor which is not stale. */
  staleFrom(record: number): { readonly records: readonly number[]; readonly frame: number } {
    const { u16, u32 } = this.mem;
    const records: number[] = [];
    for (let at = record; u16[at >>> 1] === special.stale;) {
      records.push(at);
      const next = u32[(at + Stale.next) >>> 2]!;
      if (next & Stale.isUnknown) return { records, frame: (next & -pageBytes) >>> 0 };
      at = next;
    }
    return { records, frame: -1 };
  }

  /** The block at `record` is what has come in the place of stale records. */
  succeed(stale: readonly number[], record: number): void {
    const { u32 } = this.mem;
    const isBody = (u32[(stale[stale.length - 1]! + Stale.next) >>> 2]! & Stale.isBody) !== 0;
    const next = record + (isBody ? headerBytes(this.mem, record) : 0);
    for (const at of stale) u32[(at + Stale.next) >>> 2] = next;
  }

  private u16(at: number, value: number): void {
    this.mem.u16[at >>> 1] = value;
  }

  private header(handler: number, off: number, a = 0, b = 0): number {
    const start = this.at;
    this.u16(start + Uop.handler, handler);
    this.u16(start + Uop.off, off);
    this.u16(start + Uop.r0, a);
    this.u16(start + Uop.r1, b);
    return start;
  }

  /** The header of a block that may be translated: it is looked at when it has been entered more than `count` times. */
  entry(off: number, count: number): void {
    const at = this.header(special.entry, off);
    this.mem.u32[(at + BlockHeader.entriesLeft) >>> 2] = count;
    this.at += BlockHeader.bytes;
  }

  /** The crossing check, first of its block, in front of an instruction that continues in the page at host address `second`. */
  crossing(off: number, second: number): void {
    // Its check must come first, and what it finds may differ from time to time: such a block is not translated.
    this.at = this.start;
    const at = this.header(special.crossing, off);
    this.mem.u32[(at + 8) >>> 2] = 0;
    this.mem.u32[(at + 12) >>> 2] = second;
    this.at += 16;
  }

  /** A record that raises an exception when reached (invalid opcode). */
  raise(off: number, vector: number, error: number): void {
    this.header(special.raise, off, vector, error);
    this.at += 8;
    this.count++;
    this.ended = true;
  }

  /** Adds the instruction in `decoded`, which starts at page offset `off`. False when no handler takes it (then #UD). */
  add(mode: Mode, off: number): boolean {
    const d = decoded;
    const usual = findHandler(d, mode);
    if (!usual) return false;
    this.count++;
    const next = off + d.length;
    const { insn } = d.entry;
    // Counted, but nothing to do: every function of a Linux kernel begins with one.
    if (insn.name === 'nop') return true;
    if (insn.name.charCodeAt(0) === 0x6a && usual.operands[0]?.category === 'j' && this.fuse(usual, d, off))
      return true;
    const memory = usual.memoryAt > 0 && this.memoryPart(d, mode, off, next, insn.stringSource === true);
    const isPlain = memory || (mode === 64 && usual.memoryAt > 0 && hasPlainAddress(d));
    const handler = (isPlain ? catalog.plain.get(usual) : undefined) ?? usual;
    let body = this.at;
    if (handler.inline) this.header(handler.id, off);
    else {
      this.header(special.outlined, off, handler.id, handler.length + outerHeader);
      body += outerHeader;
      this.mem.u32[body >>> 2] = 0;
      this.mem.u32[(body + 4) >>> 2] = 0;
    }
    this.records.push(this.at);
    this.handlers.push(handler);
    this.operands(handler, d, body);
    if (handler.memoryAt) this.memoryFields(d, body + handler.memoryAt, mode, next, memory, insn.stringSource === true);
    if (handler.linkAt)
      this.link(
        body + handler.linkAt,
        this.count,
        next,
        handler.operands[0]?.category === 'j' ? d.operands[0]!.value : 0,
      );
    if (handler.isConditional) this.endsWithBranch(off, body + handler.linkAt);
    this.at = body + handler.length;
    this.ended = insn.ends === true;
    return true;
  }

  private operands(handler: Handler, d: Decoded, body: number): void {
    for (let i = 0; i < handler.operands.length; i++) {
      const h = handler.operands[i]!;
      const o = d.operands[i]!;
      if (h.category === 'i') {
        const at = (body + h.field) >>> 2;
        this.mem.u32[at] = o.value;
        if (h.field === handler.immediateAt) this.mem.u32[at + 1] = o.high;
      } else if (h.field && h.category !== 'm') this.u16(body + h.field, o.value);
    }
  }

  private link(at: number, count: number, next: number, rel: number): void {
    this.u16(at + Link.count, count);
    this.u16(at + Link.next, next);
    this.mem.i32[(at + Link.rel) >>> 2] = rel;
    this.mem.u32[(at + Link.taken) >>> 2] = 0;
    this.mem.u32[(at + Link.notTaken) >>> 2] = 0;
    this.mem.u32[(at + Link.timesTaken) >>> 2] = 0;
    this.mem.u32[(at + Link.timesNotTaken) >>> 2] = 0;
  }

  /** Emits the address step that some operands need; true when it did, so that the record takes its address from ST.ea. */
  private memoryPart(d: Decoded, mode: Mode, off: number, next: number, stringSource: boolean): boolean {
    if (stringSource) return false;
    // Descriptions that use `addressPlus` wrap and check the sum themselves.
    if (d.entry.insn.perAddress && (mode !== 64 || d.addressSize !== 64)) return false;
    const ownOffsetOnly = d.entry.insn.name === 'lea';
    const segSlot = mode === 64 && d.segment < 4 ? ST.zero : ST.segBase + 8 * d.segment;
    if (mode !== 64) {
      const bytes = ownOffsetOnly ? 0 : accessBytes(d);
      this.addressStep(
        d.addressSize === 16 ? special.ea16 : special.ea32,
        off,
        d,
        ST.segBase + 8 * d.segment,
        bytes,
        writesMemory(d) ? 1 : 0,
      );
      return true;
    }
    if (d.ripRelative) {
      const displacement = d.dispLow + next;
      if (d.addressSize === 64 && displacement === (displacement | 0)) return false;
      this.immediateStep(
        off,
        d.addressSize === 64 ? ST.ripPage : ST.ripPage,
        ownOffsetOnly ? ST.zero : segSlot,
        displacement,
        Math.floor(displacement / 2 ** 32),
      );
      return true;
    }
    if (d.addressSize === 64) {
      if (d.dispHigh === d.dispLow >> 31) return false;
      this.immediateStep(off, ST.zero, ownOffsetOnly ? ST.zero : segSlot, d.dispLow, d.dispHigh);
      return true;
    }
    this.addressStep(special.ea67, off, d, ownOffsetOnly ? ST.zero : segSlot, 0, 0);
    return true;
  }

  private addressStep(handler: number, off: number, d: Decoded, segSlot: number, bytes: number, write: number): void {
    const at = this.header(handler, off, bytes, write);
    this.writeMemoryFields(at + Uop.base, d.base, d.index, d.scale, segSlot, d.dispLow);
    this.at += 16;
  }

  private immediateStep(off: number, base: number, segSlot: number, low: number, high: number): void {
    const at = this.header(special.eaImmediate, off);
    this.writeMemoryFields(at + Uop.base, base, ST.zero, 0, segSlot, 0);
    this.mem.i32[(at + 16) >>> 2] = low;
    this.mem.i32[(at + 20) >>> 2] = high;
    this.at += 24;
  }

  private writeMemoryFields(
    at: number,
    base: number,
    index: number,
    scale: number,
    segSlot: number,
    disp: number,
  ): void {
    const { u8 } = this.mem;
    u8[at] = base;
    u8[at + 1] = index;
    u8[at + 2] = scale;
    u8[at + 3] = segSlot;
    this.mem.i32[(at + 4) >>> 2] = disp;
  }

  private memoryFields(
    d: Decoded,
    at: number,
    mode: Mode,
    next: number,
    stepped: boolean,
    stringSource: boolean,
  ): void {
    if (stepped) {
      this.writeMemoryFields(at, ST.ea, ST.zero, 0, ST.zero, 0);
      return;
    }
    const segSlot = mode === 64 && d.segment < 4 ? ST.zero : ST.segBase + 8 * d.segment;
    if (stringSource) this.writeMemoryFields(at, ST.zero, ST.zero, 0, segSlot, 0);
    else if (d.ripRelative)
      this.writeMemoryFields(
        at,
        ST.ripPage,
        ST.zero,
        0,
        d.entry.insn.name === 'lea' ? ST.zero : segSlot,
        d.dispLow + next,
      );
    else
      this.writeMemoryFields(at, d.base, d.index, d.scale, d.entry.insn.name === 'lea' ? ST.zero : segSlot, d.dispLow);
  }

  private endsWithBranch(off: number, link: number): void {
    this.branchOffset = off;
    this.branchLink = link;
  }

  /** Turns the comparison just written and the branch in `decoded` into one record. */
  private fuse(branch: Handler, d: Decoded, off: number): boolean {
    const last = this.handlers.length - 1;
    const comparison = this.handlers[last];
    if (!comparison || !comparison.inline) return false;
    const record = this.records[last]!;
    if (record + comparison.length !== this.at) return false;
    const condition = conditionOf(branch);
    const fused = condition < 0 ? undefined : catalog.fused.get(comparison)?.get(condition);
    if (!fused) return false;
    this.u16(record + Uop.handler, fused.id);
    this.handlers[last] = fused;
    this.link(record + fused.linkAt, this.count, off + d.length, d.operands[0]!.value);
    this.endsWithBranch(off, record + fused.linkAt);
    this.at = record + fused.length;
    this.ended = true;
    return true;
  }

  /** Ends the block (falls through to page offset `next` unless the last instruction ended it) and returns the address behind it. */
  finish(off: number, next: number): number {
    if (!this.ended) {
      const at = this.header(special.jump, off);
      this.link(at + jumpLink, this.count, next, 0);
      this.at += jumpLink + Link.bytes;
    }
    let live = allFlags;
    let behind: Handler | undefined;
    let behindAt = 0;
    for (let i = this.handlers.length - 1; i >= 0; i--) {
      const h = this.handlers[i]!;
      const at = this.records[i]!;
      const use = flagUse(h);
      const areFlagsDead = ((use.writes | use.mayWrite) & live) === 0;
      live = use.canFault ? allFlags : (live & ~use.writes) | use.reads;
      if (!h.inline) {
        behind = undefined;
        continue;
      }
      const chosen = (areFlagsDead && catalog.dead.get(h)) || h;
      const pair = behind && at + h.length === behindAt ? pairIndex(chosen, behind) : 0;
      if (pair > 0 || chosen !== h) this.u16(at + Uop.handler, pair || chosen.id);
      // The second of a pair keeps a handler of its own: what it does may be done alone, too.
      behind = pair > 0 ? undefined : chosen;
      behindAt = at;
    }
    return this.at;
  }
}

const conditions = new Map<Handler, number>();
const conditionNames = ['o', 'no', 'b', 'ae', 'e', 'ne', 'be', 'a', 's', 'ns', 'p', 'np', 'l', 'ge', 'le', 'g'];

/** Condition code of a Jcc handler, -1 for other branches. */
function conditionOf(h: Handler): number {
  let cc = conditions.get(h);
  if (cc === undefined) {
    cc = conditionNames.indexOf(h.insn.name.slice(1));
    conditions.set(h, cc);
  }
  return cc;
}

/** The memory operand is at a register's value and a displacement (64-bit mode). */
const hasPlainAddress = (d: Decoded): boolean =>
  (d.ripRelative || d.index === ST.zero) && (d.segment < 4 || d.entry.insn.name === 'lea');

/** Bytes that a memory operand covers, for limit checks. */
function accessBytes(d: Decoded): number {
  const { memory } = d.entry.insn;
  if (memory) return memory.bytes(d.size);
  for (let i = 0; i < d.operandCount; i++) {
    const o = d.operands[i]!;
    if (o.category === 'm') return o.bits ? o.bits >> 3 : 1;
  }
  return 1;
}

function writesMemory(d: Decoded): boolean {
  const { memory } = d.entry.insn;
  if (memory) return memory.write;
  for (let i = 0; i < d.operandCount; i++) {
    if (d.operands[i]!.category === 'm') {
      const access = d.entry.insn.access[i];
      return access === 'w' || access === 'x';
    }
  }
  return false;
}
