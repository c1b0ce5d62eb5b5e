// SPDX-License-Identifier: MIT
// The cache of decoded blocks: micro-op records by the host address of their code, and what happens when that code changes.

import { decode, decoded } from '../x86/decode.ts';
import type { Mode } from '../x86/stage.ts';
import type { Translator } from '../translate/translator.ts';
import {
  allCodeBits,
  codeBits,
  emptyTag,
  inAnyBank,
  JumpTable,
  Link,
  setOf,
  severalEntries,
  ST,
  Tlb,
} from './layout.ts';
import { BlockWriter, maxBlockBytes, maxBlockInstructions } from './lower.ts';
import type { MachineMemory } from './memory.ts';
import { VCpuMemory } from './vcpu-memory.ts';
import { modeIndex } from './vcpu-registers.ts';

const pageBytes = 4096;
const invalidOpcode = 6;
export const maxInstructionBytes = 15;
/** Blocks that end with the same branch: more than so many only come of code that is overwritten again and again. */
const keptPerBranch = 4;

/** Which code is translated to WebAssembly: none, all at first sight (for tests), or what is found to be hot. */
export type Tier = 'interpret' | 'translate' | 'auto';

/** Index in the u32 view of the set of a jump table that code at a host address belongs to. */
function jumpSet(table: number, host: number): number {
  return (table >>> 2) + (setOf(JumpTable, host) << 2);
}

export abstract class CodeCache extends VCpuMemory {
  protected abstract readonly tier: Tier;
  protected abstract readonly translator: Translator | undefined;
  protected readonly writer: BlockWriter;
  /** Per mode, micro-op address by the host address of the code, as a signed number: V8 finds small integers sooner. */
  private readonly blocks: readonly Map<number, number>[] = [new Map(), new Map(), new Map()];
  /** Per host page the blocks, three numbers each: host address as a signed number, mode (`modeIndex`), bits of where it lies (`codeBits`). */
  private readonly pages = new Map<number, number[]>();
  /** Where conditional branches count their ways, by the host address of their code as a signed number: one for each of the latest blocks that end there. */
  private readonly branches = new Map<number, number[]>();
  protected readonly arenaStart: number;
  protected arenaAt: number;
  private readonly arenaEnd: number;
  /** Where a single instruction that must not be remembered is decoded to. */
  protected readonly stepArea: number;
  protected readonly fetchBuffer = new Uint8Array(2 * pageBytes);
  /** Statistics. */
  decodedBlocks = 0;
  decodedInstructions = 0;
  codeInvalidations = 0;
  arenaResets = 0;

  constructor(mem: MachineMemory, id: number) {
    super(mem, id);
    this.writer = new BlockWriter(mem);
    this.stepArea = mem.layout.arenas + id * mem.layout.arenaBytes;
    this.arenaStart = this.stepArea + maxBlockBytes;
    this.arenaEnd = this.stepArea + mem.layout.arenaBytes;
    this.arenaAt = this.arenaStart;
  }

  /** Record for the code at rip, decoding it when needed; 0 = fetching it faults (state has the exception). */
  protected lookup(): number {
    const host = this.translate(this.ripLo, this.ripHi, 2);
    if (host < 0) {
      this.set(ST.segmentFault, 0);
      return 0;
    }
    const slot = jumpSet(this.get(ST.jumpTable), host);
    const { u32 } = this.mem;
    for (let way = slot; way <= slot + 2; way += 2)
      if (u32[way] === host && !this.mustRevalidate(u32[way + 1]!)) return u32[way + 1]!;
    let record = this.blocks[modeIndex(this.mode)]!.get(host | 0);
    if (record === undefined || this.mustRevalidate(record)) {
      if (this.arenaAt + maxBlockBytes > this.arenaEnd) this.dropAll();
      record = this.decodeBlock(maxBlockInstructions, this.arenaAt, true);
      if (record === 0) return 0;
    }
    // The other way holds what was found last but one.
    if (u32[slot] !== host) {
      u32[slot + 2] = u32[slot]!;
      u32[slot + 3] = u32[slot + 1]!;
    }
    u32[slot] = host;
    u32[slot + 1] = record;
    if (this.tier === 'translate' && this.mode === 64)
      this.translator!.translateNow(record, host, this.ripLo, this.ripHi);
    return record;
  }

  /**
   * The block at rip, where control has come by a stale record: what still leads there goes on at this block from now on, without asking. 0 as
   * for `lookup`.
   */
  protected lookupStale(stale: number): number {
    const { arenaResets } = this;
    const record = this.lookup();
    if (record === 0 || arenaResets !== this.arenaResets) return record;
    const { records, frame } = this.writer.staleFrom(stale);
    const host = this.translate(this.ripLo, this.ripHi, 2);
    if (host >= 0 && (host & -pageBytes) >>> 0 === frame) this.writer.succeed(records, record);
    return record;
  }

  /** 64-bit code at a host address was the start of a block. */
  protected isDecoded(host: number): boolean {
    return this.blocks[modeIndex(64)]!.has(host | 0);
  }

  private noteBranch(host: number, link: number): void {
    const links = this.branches.get(host | 0);
    if (!links) this.branches.set(host | 0, [link]);
    else if (links.push(link) > keptPerBranch) links.shift();
  }

  /** How often the conditional branch at a host address was interpreted and went this way; undefined when it was not interpreted. */
  protected timesGone(host: number, taken: boolean): number | undefined {
    const field = taken ? Link.timesTaken : Link.timesNotTaken;
    return this.branches.get(host | 0)?.reduce((sum, link) => sum + this.mem.u32[(link + field) >>> 2]!, 0);
  }

  /** The block that was decoded from 64-bit code at a host address, 0 = none. */
  protected recordAt(host: number): number {
    return this.blocks[modeIndex(64)]!.get(host | 0) ?? 0;
  }

  /** A block whose only instruction crosses into a page that is mapped elsewhere now. */
  protected mustRevalidate(record: number): boolean {
    const second = this.writer.crossingPage(record);
    if (second === 0) return false;
    const next = ((this.ripLo & -pageBytes) >>> 0) + pageBytes;
    return this.translate(next >>> 0, next > 0xffffffff ? (this.ripHi + 1) >>> 0 : this.ripHi, 2) !== second;
  }

  /** Decodes a block at rip to `at`; `remember` registers it. Returns its record, 0 when the second page of a crossing instruction faults. */
  protected decodeBlock(limit: number, at: number, remember: boolean): number {
    const host = this.translate(this.ripLo, this.ripHi, 2);
    if (host < 0) {
      this.set(ST.segmentFault, 0);
      return 0;
    }
    const { mode } = this;
    const page = host & -pageBytes;
    const pageStart = page >>> 0;
    const start = host - pageStart;
    const writer = this.writer;
    writer.begin(at);
    if (remember && mode === 64 && this.translator) writer.entry(start, this.translator.entriesUntilLook(host));
    let offset = start;
    let lastOffset = start;
    let second = 0;
    let end = start;
    while (!writer.ended && writer.instructions < limit && offset < pageBytes) {
      const result = decode(this.mem.u8, pageStart + offset, pageStart + pageBytes, mode);
      if (result === 'short') {
        if (writer.instructions > 0) break;
        second = this.decodeCrossing(pageStart, offset, mode);
        if (second === 0) return 0;
        end = offset + decoded.length;
        lastOffset = offset;
        offset = end;
        break;
      }
      lastOffset = offset;
      if (result === 'invalid' || !writer.add(mode, offset)) {
        writer.raise(offset, invalidOpcode, 0);
        end = offset + 1;
        break;
      }
      offset += decoded.length;
      end = offset;
    }
    const behind = writer.finish(lastOffset, offset);
    if (!remember) return at;
    this.arenaAt = (behind + 7) & ~7;
    this.decodedBlocks++;
    this.decodedInstructions += writer.instructions;
    if (writer.branchOffset >= 0 && second === 0) this.noteBranch(pageStart + writer.branchOffset, writer.branchLink);
    this.remember(host, pageStart, start, Math.min(end, pageBytes), second, end, at, mode);
    return at;
  }

  /** The instruction at the end of a page continues in the next one. Returns that page's host address, 0 = fetch fault. */
  protected decodeCrossing(pageStart: number, offset: number, mode: Mode): number {
    const next = ((this.ripLo & -pageBytes) >>> 0) + pageBytes;
    const second = this.translate(next >>> 0, next > 0xffffffff ? (this.ripHi + 1) >>> 0 : this.ripHi, 2);
    if (second < 0) {
      this.set(ST.segmentFault, 0);
      return 0;
    }
    const buffer = this.fetchBuffer;
    this.joinPages(pageStart, offset, second);
    this.writer.crossing(offset, second);
    if (decode(buffer, offset, pageBytes + maxInstructionBytes, mode) !== 'ok' || !this.writer.add(mode, offset)) {
      this.writer.raise(offset, invalidOpcode, 0);
      decoded.length = pageBytes - offset + 1;
    }
    return second;
  }

  protected remember(
    host: number,
    page: number,
    from: number,
    to: number,
    second: number,
    end: number,
    record: number,
    mode: Mode,
  ): void {
    const index = modeIndex(mode);
    this.blocks[index]!.set(host | 0, record);
    this.markCode(page, from, to, host | 0, index);
    if (second) this.markCode(second, 0, end - pageBytes, host | 0, index);
  }

  private markCode(page: number, from: number, to: number, host: number, index: number): void {
    this.watchCode(page, from, to);
    const bits = codeBits(from, to);
    const list = this.pages.get(page);
    if (list) list.push(host, index, bits);
    else this.pages.set(page, [host, index, bits]);
  }

  /** Decoded or translated code lies in the range: writes to it are looked at from now on. */
  protected watchCode(page: number, from: number, to: number): void {
    const { u32, layout } = this.mem;
    const at = (layout.codeMap >>> 2) + (page >>> 12);
    if (u32[at] === 0) this.dropWriteEntries(page);
    u32[at] = u32[at]! | codeBits(from, to);
  }

  /** Write-TLB entries of a frame go when it becomes code, so that writes to it are seen. */
  protected dropWriteEntries(page: number): void {
    const { u32, layout } = this.mem;
    const slot = (layout.writeMap >>> 2) + (page >>> 12);
    const known = u32[slot]!;
    u32[slot] = 0;
    if (known === 0) return;
    const isAnywhere = known === severalEntries;
    if (!isAnywhere && (known & inAnyBank) === 0) {
      if (this.leadsTo(known >>> 2, page)) this.emptyEntry(known >>> 2);
      return;
    }
    const place = (known - this.base - Tlb.offset) & (Tlb.bytes - 16);
    for (let bank = 0; bank < Tlb.banks; bank++) {
      if (!this.banks.isOwned(bank)) continue;
      const start = this.base + Tlb.offset + bank * Tlb.bankBytes + Tlb.write;
      const from = (isAnywhere ? start : start + place) >>> 2;
      const to = isAnywhere ? from + Tlb.bytes / 4 : from + 4;
      for (let at = from; at < to; at += 4) if (this.leadsTo(at, page)) this.emptyEntry(at);
    }
  }

  /** The TLB entry at an index of the u32 view is one of the page at a host address; or it is empty and only looks as if. */
  private leadsTo(at: number, page: number): boolean {
    const { u32 } = this.mem;
    return ((u32[at]! & -pageBytes) + u32[at + 2]!) >>> 0 === page;
  }

  private emptyEntry(at: number): void {
    const { u32 } = this.mem;
    // By where it lies, not by its tag: it may be empty, and what a page half a table away leaves behind would be an entry of its own.
    u32[at] = emptyTag((at - ((this.base + Tlb.offset) >>> 2)) * (pageBytes / 4));
    u32[at + 1] = 0;
  }

  /** Forgets the code decoded from the frame at a host address where `bits` (as `codeBits`) say. */
  protected dropCode(page: number, bits: number): void {
    const { u32, layout } = this.mem;
    const at = (layout.codeMap >>> 2) + (page >>> 12);
    u32[at] = u32[at]! & ~bits;
    this.translator?.dropCode(page, bits);
    const list = this.pages.get(page);
    if (!list) return;
    let kept = 0;
    for (let n = 0; n < list.length; n += 3) {
      if (list[n + 2]! & bits) this.forgetBlock(list[n]!, list[n + 1]!);
      else {
        list[kept++] = list[n]!;
        list[kept++] = list[n + 1]!;
        list[kept++] = list[n + 2]!;
      }
    }
    if (kept < list.length) this.codeInvalidations++;
    list.length = kept;
    if (kept === 0) this.pages.delete(page);
  }

  /** `host`: signed, `index`: of its mode. */
  private forgetBlock(host: number, index: number): void {
    const blocks = this.blocks[index]!;
    const record = blocks.get(host);
    if (record === undefined) return;
    blocks.delete(host);
    this.writer.kill(record, (host & -pageBytes) >>> 0);
    const { u32, i32 } = this.mem;
    const slot = jumpSet(this.base + JumpTable.offset + index * JumpTable.bytes, host);
    for (let way = slot; way <= slot + 2; way += 2) if (i32[way] === host) u32[way] = 0;
  }

  protected dropAll(): void {
    const { u32, u8, layout } = this.mem;
    this.translator?.forgetAll();
    u32.fill(0, layout.codeMap >>> 2, (layout.codeMap >>> 2) + (layout.end >>> 12));
    this.pages.clear();
    this.branches.clear();
    for (const blocks of this.blocks) blocks.clear();
    u8.fill(0, this.base + JumpTable.offset, this.base + JumpTable.offset + JumpTable.modes * JumpTable.bytes);
    this.arenaAt = this.arenaStart;
    this.arenaResets++;
  }

  /** Something other than this vCPU's code wrote to the frame at `hostFrame`: what was decoded from it is stale. */
  frameWritten(hostFrame: number): void {
    if (this.mem.u32[(this.mem.layout.codeMap >>> 2) + (hostFrame >>> 12)]) this.dropCode(hostFrame, allCodeBits);
  }

  /** Takes room in the record arena, 8-byte aligned; 0 when it is full. */
  protected allocate(bytes: number): number {
    const at = this.arenaAt;
    if (at + bytes + maxBlockBytes > this.arenaEnd) return 0;
    this.arenaAt = (at + bytes + 7) & ~7;
    return at;
  }

  /** Puts the end of one page and the start of another together in the fetch buffer, at their page offsets. */
  protected joinPages(first: number, offset: number, second: number): void {
    this.fetchBuffer.set(this.mem.u8.subarray(first + offset, first + pageBytes), offset);
    this.fetchBuffer.set(this.mem.u8.subarray(second, second + maxInstructionBytes), pageBytes);
  }
}
