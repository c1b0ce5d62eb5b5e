// SPDX-License-Identifier: MIT
// Test support: one vCPU with page tables of its own, to run pieces of machine code in and look at what they did.

import type { BlockStore, ModuleCompiler } from '../host.ts';
import { Exit, type ExitReason } from './exits.ts';
import { buildInterpreter } from './interpreter.ts';
import { Seg, ST } from './layout.ts';
import { MachineMemory } from './memory.ts';
import { VCpu, type InterpreterCode, type Tier } from './vcpu.ts';

/** Page-table entry bits (Intel SDM volume 3, section 4.5). */
export const Pte = { present: 1, writable: 2, user: 4, accessed: 0x20, dirty: 0x40, large: 0x80 } as const;
export const noExecute = 1n << 63n;

export const pageBytes = 4096;
/** First machine frame number: nothing is where its number says. */
const firstMfn = 0x400;

/** Register numbers. */
export const Reg = { rax: 0, rcx: 1, rdx: 2, rbx: 3, rsp: 4, rbp: 5, rsi: 6, rdi: 7 } as const;

const dataAttributes = 0xcf3;
const codeAttributes = { 64: 0xafb, 32: 0xcfb } as const;

let compiled: InterpreterCode | undefined;

/** The generated interpreter, compiled once per process. */
export function interpreterCode(): InterpreterCode {
  if (!compiled) {
    const { bytes, hostOps } = buildInterpreter();
    compiled = { module: new WebAssembly.Module(bytes as Uint8Array<ArrayBuffer>), hostOps };
  }
  return compiled;
}

export interface TestMachineOptions {
  readonly tier?: Tier;
  readonly mode?: 64 | 32;
  /** Frames of guest memory. */
  readonly frames?: number;
  readonly blocks?: BlockStore;
  readonly compiler?: ModuleCompiler;
  nowMs?(): number;
}

/** Bytes from hexadecimal text; spaces are ignored. */
export function bytesOf(text: string): Uint8Array {
  const digits = text.replace(/\s/g, '');
  return Uint8Array.from({ length: digits.length / 2 }, (_, i) => parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}

/** Little-endian bytes of a number, as hexadecimal text for `bytesOf`. */
export function le(value: number | bigint, bytes: number): string {
  const v = BigInt.asUintN(8 * bytes, BigInt(value));
  return Array.from({ length: bytes }, (_, i) => ((v >> BigInt(8 * i)) & 0xffn).toString(16).padStart(2, '0')).join('');
}

export class TestMachine {
  readonly mem: MachineMemory;
  readonly cpu: VCpu;
  readonly mode: 64 | 32;
  private readonly frames: number;
  private used = 0;
  /** What the guest was given, in order. */
  readonly randomWords: number[] = [];
  /** Current root, where `map` puts its entries. */
  root: number;

  constructor({ tier = 'interpret', mode = 64, frames = 64, blocks, compiler, nowMs }: TestMachineOptions = {}) {
    this.frames = frames;
    this.mode = mode;
    this.mem = new MachineMemory({
      vcpus: 1,
      guestBytes: frames * pageBytes,
      xenFrames: 1,
      mfnLimit: firstMfn + frames,
    });
    this.cpu = new VCpu(
      this.mem,
      0,
      interpreterCode(),
      {
        cpuid: (leaf, subleaf) => [leaf, subleaf, 2, 3],
        tsc: () => 0x1_0000_0002,
        randomWord: () => {
          const word = Math.imul(this.randomWords.length + 1, 0x9e37_79b1) >>> 0;
          this.randomWords.push(word);
          return word;
        },
        nowMs: nowMs ?? (() => 0),
        descriptorAddress: () => 0,
        ...(blocks && { blocks }),
        ...(compiler && { compiler }),
      },
      tier,
    );
    this.cpu.setMode(mode);
    if (mode === 32) this.cpu.set(ST.pagingMode, 1);
    this.flatSegments();
    this.root = this.frame();
    this.cpu.setRoot(this.root);
    this.cpu.setCpl(3);
  }

  private flatSegments(): void {
    const { cpu, mem } = this;
    for (const segment of Object.values(Seg)) {
      mem.u16[(cpu.base + ST.selector + 2 * segment) >>> 1] = segment === Seg.cs ? 0x33 : 0x2b;
      cpu.set(ST.segLimit + 4 * segment, 0xffffffff);
      cpu.set(ST.segAttr + 4 * segment, segment === Seg.cs ? codeAttributes[this.mode] : dataAttributes);
    }
  }

  /** A new frame, zeroed, neighbours apart in host memory; returns its number. */
  frame(): number {
    if (this.used === this.frames) throw new Error('the test machine has no more frames');
    const host = this.mem.layout.guest + (this.frames - 1 - this.used) * pageBytes;
    const mfn = firstMfn + this.used++;
    this.mem.setFrame(mfn, host);
    this.mem.u8.fill(0, host, host + pageBytes);
    return mfn;
  }

  hostOf(mfn: number): number {
    return this.mem.hostOf(mfn);
  }

  /** An empty root table. */
  newRoot(): number {
    return this.frame();
  }

  /** Sets the entry for `va` at `level` (1 = 4 KiB page), making the tables above. Returns where the entry is. */
  setEntry(va: number | bigint, value: bigint, level = 1): { table: number; index: number; host: number } {
    const address = BigInt.asUintN(48, BigInt(va));
    let table = this.root;
    for (let l = this.mode === 64 ? 4 : 3; ; l--) {
      const index = Number((address >> BigInt(12 + 9 * (l - 1))) & 511n);
      const host = this.mem.hostOf(table) + 8 * index;
      if (l === level) {
        this.mem.u64[host >>> 3] = value;
        return { table, index, host };
      }
      const entry = this.mem.u64[host >>> 3]!;
      if (entry === 0n) {
        const next = this.frame();
        // PAE's top level has no rights.
        const rights = this.mode === 32 && l === 3 ? Pte.present : Pte.present | Pte.writable | Pte.user;
        this.mem.u64[host >>> 3] = (BigInt(next) << 12n) | BigInt(rights);
        table = next;
      } else table = Number((entry >> 12n) & 0xffffffn);
    }
  }

  /** Maps frame `mfn` at `va`; user access, writable unless told otherwise. */
  map(va: number | bigint, mfn: number, rights: bigint | number = Pte.writable) {
    return this.setEntry(va, (BigInt(mfn) << 12n) | BigInt(Pte.present | Pte.user) | BigInt(rights));
  }

  /** A new frame at `va`; returns its host address. */
  page(va: number | bigint, rights: bigint | number = Pte.writable): number {
    const mfn = this.frame();
    this.map(va, mfn, rights);
    return this.mem.hostOf(mfn);
  }

  /** Puts code or data at a host address, as a device would. */
  write(host: number, bytes: Uint8Array | string): void {
    const raw = typeof bytes === 'string' ? bytesOf(bytes) : bytes;
    this.mem.u8.set(raw, host);
    this.cpu.frameWritten((host & -pageBytes) >>> 0);
    if ((host & (pageBytes - 1)) + raw.length > pageBytes) throw new Error('a test write crosses its frame');
  }

  setRip(va: number | bigint): void {
    const at = BigInt.asUintN(64, BigInt(va));
    this.cpu.setRip(Number(at & 0xffffffffn), Number(at >> 32n));
  }

  get rip(): bigint {
    return (BigInt(this.cpu.ripHi) << 32n) | BigInt(this.cpu.ripLo);
  }

  set(register: number, value: number | bigint): void {
    this.cpu.setReg(register, BigInt(value));
  }

  reg(register: number): bigint {
    return this.cpu.reg(register);
  }

  /** Runs from `va` to the next exit that is not the end of a budget slice of `budget`; gives up after `limit` slices. */
  run(va: number | bigint, budget = 100_000, limit = 1000): ExitReason {
    this.setRip(va);
    return this.resume(budget, limit);
  }

  resume(budget = 100_000, limit = 1000): ExitReason {
    for (let n = 0; n < limit; n++) {
      const reason = this.cpu.run(budget);
      if (reason !== Exit.Budget) return reason;
    }
    throw new Error(`the code did not end (rip ${this.rip.toString(16)})`);
  }

  /** Vector, error code, CR2 and rip of the last exception. */
  get fault(): { vector: number; error: number; cr2: bigint; rip: bigint } {
    const { cpu } = this;
    return {
      vector: cpu.get(ST.vector),
      error: cpu.get(ST.errorCode),
      cr2: this.mem.u64[(cpu.base + ST.cr2) >>> 3]!,
      rip: this.rip,
    };
  }
}

/** An end for test code: INT3. `TestMachine.run` answers `Exit.SoftInt`. */
export const stop = 'cc';
