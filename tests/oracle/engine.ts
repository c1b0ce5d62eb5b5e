// SPDX-License-Identifier: MIT
// The engine's side of the differential tests: one vCPU at CPL 3 in the oracle's address space, whose cases end at an INT3 on the stub page.

import { buildInterpreter } from '../../engine/cpu/interpreter.ts';
import { Exit } from '../../engine/cpu/exits.ts';
import { Seg, ST } from '../../engine/cpu/layout.ts';
import { MachineMemory } from '../../engine/cpu/memory.ts';
import { VCpu, type Tier } from '../../engine/cpu/vcpu.ts';
import { BASE_BYTES, CODE_BASE, CODE_FILL, DATA_BASE, DATA_PAGES, PAGE, STATUS, STUB, terminator } from './case.ts';
import type { Batch, Case, Mode, Result } from './case.ts';

/** Anything that can run cases. */
export interface EngineRunner {
  /** Results in the order of the cases. */
  run(batch: Batch): Result[] | Promise<Result[]>;
}

/** Page-table entry bits (SDM vol. 3, 4.5). */
const PRESENT = 1n;
const WRITABLE = 2n;
const USER = 4n;
const NO_EXECUTE = 1n << 63n;

/** Machine frame numbers: tables, then pages. Not identity-mapped to anything. */
const FIRST_MFN = 0x400;
const FRAMES = 32;
/** Vectors whose gates Linux leaves open to programs. */
const USER_GATES: ReadonlySet<number> = new Set([3, 4, 0x80]);
/** More instructions than any case that ends executes. */
const BUDGET = 200_000;
/** What Linux gives a user process: flat segments; the numbers are what MOV r, sreg shows. */
const USER_DATA = 0x2b;
const USER_CODE = { 64: 0x33, 32: 0x23 } as const;
const DATA_ATTRIBUTES = 0xcf3;
const CODE_ATTRIBUTES = { 64: 0xafb, 32: 0xcfb } as const;

/** A contiguous range the cases can write, with its content from before the case. */
interface Area {
  guest: number;
  host: number;
  bytes: number;
  shadow: Uint8Array;
}

class Engine implements EngineRunner {
  private readonly mem: MachineMemory;
  private readonly cpu: VCpu;
  private frames = 0;
  private readonly areas: Area[] = [];
  private readonly dataHost: number[] = [];
  private root = 0;
  private mode: Mode | undefined;

  constructor(tier: Tier) {
    this.mem = new MachineMemory({ vcpus: 1, guestBytes: FRAMES * PAGE, xenFrames: 1, mfnLimit: FIRST_MFN + FRAMES });
    const code = buildInterpreter();
    this.root = this.frame();
    this.dataHost = DATA_PAGES.map(([page, , writable]) =>
      this.page(DATA_BASE + page * PAGE, (writable ? WRITABLE : 0n) | NO_EXECUTE),
    );
    // Neighbouring pages lie apart in host memory, so that nothing works by accident.
    const second = this.page(CODE_BASE + PAGE, WRITABLE);
    this.frame();
    const first = this.page(CODE_BASE, WRITABLE);
    const stub = this.page(STUB[64] & -PAGE, 0n);
    this.mem.u8[stub + (STUB[64] % PAGE)] = 0xcc;
    this.mem.u8[stub + (STUB[32] % PAGE)] = 0xcc;
    for (const [host, guest] of [
      [first, CODE_BASE],
      [second, CODE_BASE + PAGE],
    ] as const) {
      this.mem.u8.fill(CODE_FILL, host, host + PAGE);
      this.areas.push({ guest, host, bytes: PAGE, shadow: new Uint8Array(PAGE).fill(CODE_FILL) });
    }
    DATA_PAGES.forEach(([page, , writable], i) => {
      if (writable)
        this.areas.push({
          guest: DATA_BASE + page * PAGE,
          host: this.dataHost[i],
          bytes: PAGE,
          shadow: new Uint8Array(PAGE),
        });
    });
    this.areas.sort((a, b) => a.guest - b.guest);
    this.cpu = new VCpu(
      this.mem,
      0,
      { module: new WebAssembly.Module(code.bytes as Uint8Array<ArrayBuffer>), hostOps: code.hostOps },
      { cpuid: () => [0, 0, 0, 0], tsc: () => 0, randomWord: () => 0, nowMs: () => 0, descriptorAddress: () => 0 },
      tier,
    );
    this.cpu.setRoot(FIRST_MFN);
    this.cpu.setCpl(3);
  }

  /** A new frame: its host address. */
  private frame(): number {
    const host = this.mem.layout.guest + (FRAMES - 1 - this.frames) * PAGE;
    this.mem.setFrame(FIRST_MFN + this.frames, host);
    this.frames++;
    return host;
  }

  /** Maps a new frame at a guest address, making the tables on the way. Returns the frame's host address. */
  private page(guest: number, rights: bigint): number {
    let table = this.root;
    for (const shift of [39n, 30n, 21n]) {
      const at = (table >>> 3) + Number((BigInt(guest) >> shift) & 511n);
      if (this.mem.u64[at] === 0n) {
        const mfn = FIRST_MFN + this.frames;
        this.frame();
        this.mem.u64[at] = (BigInt(mfn) << 12n) | PRESENT | WRITABLE | USER;
      }
      table = this.mem.hostOf(Number((this.mem.u64[at] >> 12n) & 0xffffffn));
    }
    const mfn = FIRST_MFN + this.frames;
    const host = this.frame();
    this.mem.u64[(table >>> 3) + ((guest >>> 12) & 511)] = (BigInt(mfn) << 12n) | PRESENT | USER | rights;
    return host;
  }

  run(batch: Batch): Result[] {
    if (batch.base.length !== BASE_BYTES) throw new Error('the base image has the wrong size');
    DATA_PAGES.forEach(([page, image, writable], i) => {
      const bytes = batch.base.subarray(image * PAGE, (image + 1) * PAGE);
      this.mem.u8.set(bytes, this.dataHost[i]);
      if (writable) this.areas.find((a) => a.guest === DATA_BASE + page * PAGE)?.shadow.set(bytes);
    });
    return batch.cases.map((c) => this.runCase(c));
  }

  /** Writes guest memory from outside, into the shadow too. */
  private poke(guest: number, bytes: Uint8Array): void {
    for (const area of this.areas) {
      const from = Math.max(guest, area.guest);
      const to = Math.min(guest + bytes.length, area.guest + area.bytes);
      if (from >= to) continue;
      const part = bytes.subarray(from - guest, to - guest);
      this.mem.u8.set(part, area.host + from - area.guest);
      area.shadow.set(part, from - area.guest);
      this.cpu.frameWritten(area.host);
    }
  }

  private runCase(c: Case): Result {
    const { cpu } = this;
    const before = c.patches.map((p) => this.peek(DATA_BASE + p.offset, p.data.length));
    for (const p of c.patches) this.poke(DATA_BASE + p.offset, p.data);
    this.poke(CODE_BASE + c.codeOffset, c.code);
    const jump = terminator(c);
    const end = CODE_BASE + c.codeOffset + c.code.length;
    this.poke(end, jump);
    this.loadState(c);
    const reason = cpu.run(BUDGET);
    const result = this.collect(c, reason, end);
    for (let i = c.patches.length - 1; i >= 0; i--) this.poke(DATA_BASE + c.patches[i].offset, before[i]);
    this.poke(CODE_BASE + c.codeOffset, new Uint8Array(c.code.length + jump.length).fill(CODE_FILL));
    return result;
  }

  private peek(guest: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (const area of this.areas) {
      for (let i = 0; i < length; i++) {
        const at = guest + i - area.guest;
        if (at >= 0 && at < area.bytes) bytes[i] = area.shadow[at];
      }
    }
    return bytes;
  }

  private loadState(c: Case): void {
    const { cpu, mem } = this;
    const { base } = cpu;
    mem.u64.set(c.gpr, (base + ST.gpr) >>> 3);
    cpu.setRflags(c.rflags);
    cpu.setRip(CODE_BASE + c.codeOffset, 0);
    if (this.mode !== c.mode) this.enterMode(c.mode);
    const view = new DataView(c.fx.buffer, c.fx.byteOffset, 512);
    const status = view.getUint16(2, true);
    const top = (status >> 11) & 7;
    cpu.set(ST.fcw, view.getUint16(0, true));
    cpu.set(ST.fsw, status & ~0x3800);
    cpu.set(ST.ftop, top);
    cpu.set(ST.ftag, ~c.fx[4] & 0xff);
    cpu.set(ST.mxcsr, view.getUint32(24, true));
    for (let n = 0; n < 8; n++)
      mem.u8.set(c.fx.subarray(32 + 16 * n, 48 + 16 * n), base + ST.fpr + 16 * ((top + n) & 7));
    mem.u8.set(c.fx.subarray(160, 416), base + ST.xmm);
  }

  private enterMode(mode: Mode): void {
    const { cpu, mem } = this;
    this.mode = mode;
    cpu.setMode(mode);
    for (const segment of Object.values(Seg)) {
      const code = segment === Seg.cs;
      const absent = segment === Seg.fs || segment === Seg.gs;
      mem.u16[(cpu.base + ST.selector + 2 * segment) >>> 1] = absent ? 0 : code ? USER_CODE[mode] : USER_DATA;
      mem.u64[(cpu.base + ST.segBase + 8 * segment) >>> 3] = 0n;
      cpu.set(ST.segLimit + 4 * segment, absent ? 0 : 0xffffffff);
      cpu.set(ST.segAttr + 4 * segment, absent ? 0 : code ? CODE_ATTRIBUTES[mode] : DATA_ATTRIBUTES);
    }
  }

  private collect(c: Case, reason: number, end: number): Result {
    const { cpu, mem } = this;
    const { base } = cpu;
    let status: number = STATUS.exception;
    let vector = 0;
    let error = 0;
    let rip = (BigInt(cpu.ripHi) << 32n) | BigInt(cpu.ripLo);
    if (reason === Exit.SoftInt) {
      vector = cpu.get(ST.exitArg);
      if (vector === 3 && rip === BigInt(STUB[c.mode] + 1)) {
        status = STATUS.done;
        vector = 0;
        rip = BigInt(end);
      } else if (!USER_GATES.has(vector)) {
        // What the kernel's gates make of it: #GP for the INT itself, naming the gate.
        error = (vector << 3) | 2;
        vector = 13;
        rip -= 2n;
      }
    } else if (reason === Exit.Exception) {
      vector = cpu.get(ST.vector);
      error = cpu.get(ST.errorCode);
    } else if (reason === Exit.Budget) status = STATUS.timeout;
    else vector = 0x100 + reason;
    const fx = new Uint8Array(512);
    const view = new DataView(fx.buffer);
    const top = cpu.get(ST.ftop) & 7;
    view.setUint16(0, cpu.get(ST.fcw), true);
    view.setUint16(2, (cpu.get(ST.fsw) & ~0x3800) | (top << 11), true);
    fx[4] = ~cpu.get(ST.ftag) & 0xff;
    view.setUint32(24, cpu.get(ST.mxcsr), true);
    for (let n = 0; n < 8; n++) {
      const at = base + ST.fpr + 16 * ((top + n) & 7);
      fx.set(mem.u8.subarray(at, at + 10), 32 + 16 * n);
    }
    fx.set(mem.u8.subarray(base + ST.xmm, base + ST.xmm + 256), 160);
    return {
      status,
      vector,
      error,
      cr2: vector === 14 ? mem.u64[(base + ST.cr2) >>> 3] : 0n,
      rip,
      gpr: mem.u64.slice((base + ST.gpr) >>> 3, ((base + ST.gpr) >>> 3) + 16),
      rflags: cpu.getRflags(),
      fx,
      changes: this.takeChanges(),
    };
  }

  /** Words that differ from before the case, put back. */
  private takeChanges(): Map<number, bigint> {
    const changes = new Map<number, bigint>();
    const { u32, u64 } = this.mem;
    for (const area of this.areas) {
      const shadow = new Uint32Array(area.shadow.buffer);
      const from = area.host >>> 2;
      let touched = false;
      for (let i = 0; i < shadow.length; i++) {
        if (u32[from + i] === shadow[i]) continue;
        const word = i & ~1;
        changes.set(area.guest + word * 4, u64[(from + word) >>> 1]);
        u32[from + word] = shadow[word];
        u32[from + word + 1] = shadow[word + 1];
        touched = true;
        i |= 1;
      }
      if (touched) this.cpu.frameWritten(area.host);
    }
    return changes;
  }
}

/** The engine, ready to run cases: interpreting, or as the environment variable PARAVANE_TIER says. */
export function createEngine(tier = (process.env['PARAVANE_TIER'] ?? 'interpret') as Tier): Promise<EngineRunner> {
  return Promise.resolve(new Engine(tier));
}
