// SPDX-License-Identifier: MIT
// Runs random programs in a vCPU and records everything that a guest kernel or a debugger could see.

import { Exit } from '../../engine/cpu/exits.ts';
import { ST } from '../../engine/cpu/layout.ts';
import { noExecute, Pte, TestMachine } from '../../engine/cpu/test-machine.ts';
import type { Tier } from '../../engine/cpu/vcpu.ts';
import { CODE, CODE_PAGES, DATA, DATA_PAGES, FUEL, STACK, type Program } from './program.ts';

const PAGE = 4096;
/** Exits after which a program counts as finished, and slices after which it is given up. */
const MAX_EVENTS = 10;
const MAX_INSTRUCTIONS = 6000;

export interface Outcome {
  /** One line per exit: reason, vector, error code, CR2, rip, flags, registers. */
  readonly events: readonly string[];
  readonly memory: Uint8Array;
  readonly xmm: Uint8Array;
  readonly x87: Uint8Array;
  /** Dirty bits of the data pages. */
  readonly dirty: string;
  /** Retired instructions; undefined when the program faulted or changed its code. */
  readonly instructions: number | undefined;
  readonly gaveUp: boolean;
}

/**
 * What was counted of branches that have not run yet: half of them went one way only, so that regions leave out the other, and a quarter hardly ever
 * went the other, so that loops are given headers of their own.
 */
function wouldHaveGone(host: number, taken: boolean): number | undefined {
  const chance = Math.imul(host, 0x9e3779b1) >>> 29;
  if (chance < 2) return undefined;
  const isUsual = taken === (chance % 2 === 0);
  return chance < 4 ? (isUsual ? 30 : 1) : Number(isUsual);
}

export class ProgramRunner {
  private readonly machine: TestMachine;
  private readonly pages: { host: number; entry: number; bytes: number }[] = [];
  private readonly code: number[] = [];
  private readonly data: number[] = [];
  private readonly fuel: number;

  constructor(tier: Tier) {
    const m = new TestMachine({ tier, frames: 96 });
    if (tier === 'translate') Object.assign(m.cpu, { timesGone: wouldHaveGone });
    this.machine = m;
    const page = (va: number, rights: number | bigint) => {
      const mfn = m.frame();
      // A gap between neighbours, so that nothing works by accident.
      m.frame();
      const { host: entry } = m.map(va, mfn, rights);
      const host = m.hostOf(mfn);
      this.pages.push({ host, entry, bytes: PAGE });
      return host;
    };
    for (let i = 0; i < CODE_PAGES; i++) this.code.push(page(CODE + i * PAGE, Pte.writable));
    for (let i = 0; i < DATA_PAGES; i++)
      this.data.push(page(DATA + i * PAGE, (i < 2 ? BigInt(Pte.writable) : 0n) | noExecute));
    page(STACK, BigInt(Pte.writable) | noExecute);
    this.fuel = page(FUEL, noExecute);
  }

  run(p: Program): Outcome {
    const { machine: m, pages } = this;
    const { cpu, mem } = m;
    for (const { host, entry } of pages) {
      mem.u64[entry >>> 3]! &= ~BigInt(Pte.accessed | Pte.dirty);
      if (this.code.includes(host)) continue;
      mem.u8.fill(0, host, host + PAGE);
      cpu.frameWritten(host);
    }
    this.code.forEach((host, i) => {
      // Code that is there already stays as it was translated.
      const wanted = p.code.subarray(i * PAGE, (i + 1) * PAGE);
      if (wanted.every((b, k) => b === mem.u8[host + k])) return;
      mem.u8.set(wanted, host);
      cpu.frameWritten(host);
    });
    this.data.forEach((host, i) => mem.u8.set(p.data.subarray(i * PAGE, (i + 1) * PAGE), host));
    mem.u8.fill(0xa5, this.fuel, this.fuel + PAGE);
    cpu.flushTlb();
    p.registers.forEach((v, n) => cpu.setReg(n, v));
    cpu.setRflags(p.flags);
    mem.u8.set(p.xmm, cpu.base + ST.xmm);
    mem.u8.fill(0, cpu.base + ST.fpr, cpu.base + ST.fpr + 128);
    for (const [field, value] of [
      [ST.mxcsr, p.mxcsr],
      [ST.fcw, 0x37f],
      [ST.fsw, 0],
      [ST.ftag, 0xff],
      [ST.ftop, 0],
    ] as const)
      cpu.set(field, value);
    const before = cpu.instructions;
    const events: string[] = [];
    let countable = !p.modifiesCode;
    let gaveUp = false;
    m.setRip(p.blocks[0]!);
    while (events.length < MAX_EVENTS) {
      const reason = cpu.run(p.budget);
      if (cpu.instructions - before > MAX_INSTRUCTIONS) {
        gaveUp = true;
        break;
      }
      if (reason === Exit.Budget) continue;
      events.push(this.describe(reason));
      if (reason !== Exit.SoftInt) countable = false;
      const fuelless = cpu.reg(15) < BigInt(FUEL);
      if (fuelless || reason !== Exit.Exception) {
        if (events.length > 4 || fuelless) break;
      }
      // On with another block, with the registers as they are, but for those that programs rely on.
      cpu.setReg(3, p.registers[3]!);
      cpu.setReg(4, p.registers[4]!);
      cpu.setReg(13, p.registers[13]!);
      cpu.setRflags(cpu.getRflags() & 0xcd5);
      m.setRip(p.blocks[(events.length * 7) % p.blocks.length]!);
    }
    const memory = new Uint8Array(pages.length * PAGE);
    pages.forEach(({ host }, i) => memory.set(mem.u8.subarray(host, host + PAGE), i * PAGE));
    return {
      events,
      memory,
      xmm: mem.u8.slice(cpu.base + ST.xmm, cpu.base + ST.xmm + 256),
      x87: mem.u8.slice(cpu.base + ST.mxcsr, cpu.base + ST.fpr + 128),
      dirty: pages.map(({ entry }) => ((mem.u64[entry >>> 3]! & BigInt(Pte.dirty)) !== 0n ? 'd' : '-')).join(''),
      instructions: countable && !gaveUp ? cpu.instructions - before : undefined,
      gaveUp,
    };
  }

  private describe(reason: number): string {
    const { cpu, mem } = this.machine;
    const { vector, error, cr2, rip } = this.machine.fault;
    const detail =
      reason === Exit.Exception
        ? `#${vector}(${error.toString(16)})${vector === 14 ? ` cr2=${cr2.toString(16)}` : ''}`
        : reason === Exit.SoftInt
          ? `int ${cpu.get(ST.exitArg)}`
          : `exit ${reason}`;
    const registers = Array.from(mem.u64.subarray((cpu.base + ST.gpr) >>> 3, ((cpu.base + ST.gpr) >>> 3) + 16), (v) =>
      v.toString(16),
    );
    return `${detail} rip=${rip.toString(16)} flags=${cpu.getRflags().toString(16)} ${registers.join(' ')}`;
  }

  statistics() {
    return this.machine.cpu.statistics();
  }
}

/** What differs between two outcomes, as text; undefined when nothing does. */
export function difference(a: Outcome, b: Outcome): string | undefined {
  if (a.gaveUp || b.gaveUp) return undefined;
  for (let i = 0; i < Math.max(a.events.length, b.events.length); i++)
    if (a.events[i] !== b.events[i]) return `event ${i}:\n  ${a.events[i] ?? 'none'}\n  ${b.events[i] ?? 'none'}`;
  const bytes = (what: string, x: Uint8Array, y: Uint8Array) => {
    const at = x.findIndex((v, i) => v !== y[i]);
    return at < 0 ? undefined : `${what} at ${at.toString(16)}: ${x[at]} and ${y[at]}`;
  };
  return (
    bytes('memory', a.memory, b.memory) ??
    bytes('xmm', a.xmm, b.xmm) ??
    bytes('x87 state', a.x87, b.x87) ??
    (a.dirty === b.dirty ? undefined : `dirty bits: ${a.dirty} and ${b.dirty}`) ??
    (a.instructions === b.instructions || a.instructions === undefined || b.instructions === undefined
      ? undefined
      : `instructions: ${a.instructions} and ${b.instructions}`)
  );
}
