// SPDX-License-Identifier: MIT
// For tests: a domain of 64 pages on a real vCPU, started at single instructions, whose whole state can be compared with another one's.

import { Exit } from '../../cpu/exits.ts';
import { Seg, ST } from '../../cpu/layout.ts';
import { MachineMemory } from '../../cpu/memory.ts';
import { VCpu, type InterpreterCode } from '../../cpu/vcpu.ts';
import { Domain } from '../domain.ts';
import { handleExit, returnToGuest } from '../exits.ts';
import { Pte } from '../mmu.ts';
import { BYTES_PER_FRAME } from '../page-types.ts';
import type { XenVcpu } from '../vcpu-state.ts';
import { XS } from './layout.ts';

const PAGE_BYTES = 4096;
const MFN_BASE = 0x100;
const XEN_FRAMES = 128;
export const SMALL_PAGES = 64;
/** Both roots share the tables below; `spare` is a second kernel L4, `otherL1` maps the second 2 MiB. */
export const SmallTable = { kernelL4: 48, userL4: 49, l3: 50, l2: 51, l1: 52, otherL1: 53, spareL4: 54 } as const;
const FIRST_TABLE = 48;
const LAST_TABLE = 54;
/** PFN n is mapped at this address plus n pages, in both roots. */
export const SMALL_BASE = 0x400000n;
/** PFN n is mapped here, too, by `otherL1`, read-only for every second page, for n below 16. */
export const SMALL_OTHER = 0x600000n;

export const address = (pfn: number, offset = 0): bigint => SMALL_BASE + BigInt(pfn * PAGE_BYTES + offset);

const low = (value: bigint): number => Number(value & 0xffffffffn);
const high = (value: bigint): number => Number((value >> 32n) & 0xffffffffn);

export class SmallMachine {
  readonly mem: MachineMemory;
  readonly cpu: VCpu;
  readonly domain: Domain;
  readonly log: string[] = [];
  /** Exits of the last `run` that were handled outside generated code. */
  exits = 0;

  constructor(code: InterpreterCode, fastPaths: boolean) {
    const mfnLimit = MFN_BASE + SMALL_PAGES + XEN_FRAMES;
    const guestBytes = SMALL_PAGES * PAGE_BYTES;
    this.mem = new MachineMemory({
      vcpus: 1,
      guestBytes,
      xenFrames: XEN_FRAMES,
      mfnLimit,
      bytesPerFrame: BYTES_PER_FRAME,
    });
    const { mem } = this;
    for (let pfn = 0; pfn < SMALL_PAGES; pfn++) mem.setFrame(this.mfn(pfn), mem.layout.guest + pfn * PAGE_BYTES);
    let xenFrames = 0;
    const host = {
      monotonicNs: () => 1e9,
      wallClockNs: () => 1.7e18,
      consoleOut: () => undefined,
      log: (_level: string, text: string) => this.log.push(text),
    };
    const vcpuHost = {
      cpuid: () => [0, 0, 0, 0] as const,
      tsc: () => 0,
      randomWord: () => 0,
      nowMs: () => 0,
      descriptorAddress: (selector: number) => this.domain.descriptorAddress(0, selector),
    };
    this.cpu = new VCpu(mem, 0, code, vcpuHost, 'interpret');
    this.cpu.setCpl(3);
    this.domain = new Domain({
      mem,
      host,
      cpus: [this.cpu],
      frames: mfnLimit,
      allocateXenFrame: () => {
        const mfn = MFN_BASE + SMALL_PAGES + xenFrames;
        mem.setFrame(mfn, mem.layout.xen + xenFrames++ * PAGE_BYTES);
        return mfn;
      },
      pageStorage: { buffer: mem.wasm.buffer, offset: mem.layout.frameStates },
      fastPaths,
    });
    for (let pfn = 0; pfn < SMALL_PAGES; pfn++) this.domain.assignFrame(this.mfn(pfn), pfn);
    this.buildTables();
    const started = this.domain.start({
      entry: [low(SMALL_BASE), 0],
      stackPointer: [low(address(8)), 0],
      startInfo: [0, 0],
      cr3Mfn: this.mfn(SmallTable.kernelL4),
    });
    if (started !== 0) throw new Error(`start failed: ${started}`);
  }

  get vcpu(): XenVcpu {
    return this.domain.vcpus[0]!;
  }

  /** A permutation, so that PFN and MFN are not confused. */
  mfn(pfn: number): number {
    return MFN_BASE + ((pfn * 37) % SMALL_PAGES);
  }

  host(pfn: number): number {
    return this.mem.hostOf(this.mfn(pfn));
  }

  entry(pfn: number, flags: number): bigint {
    return (BigInt(this.mfn(pfn)) << 12n) | BigInt(flags);
  }

  write(pfn: number, offset: number, ...values: readonly bigint[]): void {
    values.forEach((value, n) =>
      this.mem.view.setBigUint64(this.host(pfn) + offset + 8 * n, BigInt.asUintN(64, value), true),
    );
    this.domain.frameWritten(this.mfn(pfn));
  }

  writeBytes(pfn: number, offset: number, bytes: readonly number[]): void {
    this.mem.u8.set(bytes, this.host(pfn) + offset);
    this.domain.frameWritten(this.mfn(pfn));
  }

  /** Makes a hypercall by its number, outside guest code; the result is signed. */
  hypercall(number: number, ...args: readonly bigint[]): bigint {
    const registers = [7, 6, 2, 10, 8, 9];
    args.forEach((value, n) => this.cpu.setReg(registers[n]!, value));
    this.cpu.setReg(0, BigInt(number));
    handleExit(this.domain, this.vcpu, Exit.Syscall);
    return BigInt.asIntN(64, this.cpu.reg(0));
  }

  /** Runs from `rip` until one of the addresses `ends` has been reached, where a jump to itself should be, or for 20 exits. */
  run(rip: bigint, ends: ReadonlySet<bigint>): void {
    this.cpu.setRip(low(rip), high(rip));
    this.exits = 0;
    for (let n = 0; n < 20 && this.domain.shutdown === null; n++) {
      returnToGuest(this.domain, this.vcpu);
      const exit = this.cpu.run(0);
      handleExit(this.domain, this.vcpu, exit);
      if (exit !== Exit.Budget) this.exits++;
      if (exit === Exit.Budget && ends.has(this.mem.u64[(this.cpu.base + ST.rip) >>> 3]!)) return;
    }
  }

  /** Everything a guest could ever see, and Xen's own state; byte arrays as copies. */
  snapshot(): Record<string, unknown> {
    const { mem, cpu, domain } = this;
    const { base } = cpu;
    const { layout } = mem;
    const bytes = (from: number, to: number): Uint8Array => mem.u8.slice(from, to);
    const hex = (offset: number): string => mem.u64[(base + offset) >>> 3]!.toString(16);
    return {
      registers: Array.from({ length: 16 }, (_, n) => hex(ST.gpr + 8 * n)),
      rip: hex(ST.rip),
      flags: cpu.getRflags().toString(16),
      segments: [Seg.es, Seg.cs, Seg.ss, Seg.ds, Seg.fs, Seg.gs].map((n) => [
        mem.u16[(base + ST.selector) / 2 + n],
        hex(ST.segBase + 8 * n),
        mem.u32[(base + ST.segLimit) / 4 + n],
        mem.u32[(base + ST.segAttr) / 4 + n],
      ]),
      mode: cpu.get(ST.mode),
      root: [cpu.get(ST.rootMfn), cpu.get(ST.root)],
      xen: bytes(base + XS.kernelMode, base + XS.frames),
      counts: bytes(base + XS.emulatedStores, base + XS.trapSelector + 512),
      frames: bytes(layout.frameStates, layout.frameStates + domain.pages.frames * BYTES_PER_FRAME),
      guest: this.guestMemory(),
      sharedInfo: bytes(this.vcpu.info, this.vcpu.info + 64),
      log: this.log,
      shutdown: domain.shutdown?.message ?? null,
    };
  }

  /**
   * All pages, without the accessed bits of L1 entries: an exchange with a page-table entry reads it through the guest's mapping
   * in one way of doing it and not in the other. Nor the dirty bits of a guest that crashed: results of a multicall that were not written any more.
   */
  private guestMemory(): Uint8Array {
    const { layout, u8 } = this.mem;
    const copy = u8.slice(layout.guest, layout.end);
    const ignored = this.domain.shutdown ? Pte.accessed | Pte.dirty : Pte.accessed;
    for (const table of [SmallTable.l1, SmallTable.otherL1]) {
      const from = this.host(table) - layout.guest;
      for (let at = from; at < from + PAGE_BYTES; at += 8) copy[at] = copy[at]! & ~ignored;
    }
    return copy;
  }

  private buildTables(): void {
    const link = 0x67;
    for (const l4 of [SmallTable.kernelL4, SmallTable.userL4, SmallTable.spareL4]) {
      this.write(l4, 0, this.entry(SmallTable.l3, link));
    }
    this.write(SmallTable.l3, 0, this.entry(SmallTable.l2, link));
    this.write(SmallTable.l2, 2 * 8, this.entry(SmallTable.l1, link), this.entry(SmallTable.otherL1, link));
    for (let pfn = 0; pfn < SMALL_PAGES; pfn++) {
      const isTable = pfn >= FIRST_TABLE && pfn <= LAST_TABLE;
      this.write(SmallTable.l1, pfn * 8, this.entry(pfn, isTable ? 0x25 : 0x27));
    }
    for (let pfn = 0; pfn < 16; pfn++) {
      this.write(SmallTable.otherL1, pfn * 8, this.entry(pfn, pfn % 2 === 0 ? 0x27 : 0x25));
    }
  }
}
