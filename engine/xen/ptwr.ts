// SPDX-License-Identifier: MIT
// Writable-page-table emulation (vm_assist writable_pagetables): a kernel's store to an L1 table becomes a checked update.

import { Exit, type ExitReason } from '../cpu/exits.ts';
import { ST } from '../cpu/layout.ts';
import type { Domain } from './domain.ts';
import { gprIndex } from './guest-cpu.ts';
import { frameOf, Pte } from './mmu.ts';
import { PageType } from './page-types.ts';
import type { XenVcpu } from './vcpu-state.ts';
import { VmAssist } from './vm-assist.ts';

const WORDS_PER_PAGE = 1024;
const GPR_WORDS = 32;

/** What became of a write fault. */
export const PtwrResult = {
  /** Not a store to a page table: an ordinary page fault. */
  NotOurs: 0,
  /** The store was carried out and its entry accepted. */
  Done: 1,
  /** The entry was refused; memory and registers are as before the store: a page fault. */
  Refused: 2,
  /** The instruction itself stopped with another exit, which is in `exit`. */
  OtherExit: 3,
} as const;
export type PtwrResult = (typeof PtwrResult)[keyof typeof PtwrResult];

/** Emulates stores to L1 tables for one domain. */
export class Ptwr {
  /** Exit of the stepped instruction after `PtwrResult.OtherExit`. */
  exit: ExitReason = Exit.Budget;
  private readonly domain: Domain;
  private readonly before = new Uint32Array(WORDS_PER_PAGE);
  private readonly registers = new Uint32Array(GPR_WORDS);

  constructor(domain: Domain) {
    this.domain = domain;
  }

  /**
   * Handles a write fault of the guest kernel on a present page at (lo, hi). The instruction is executed with the table
   * writable; then every entry it changed is put through the same checks as an mmu_update request.
   */
  handleWriteFault(v: XenVcpu, lo: number, hi: number): PtwrResult {
    const { domain } = this;
    const { mmu, mem } = domain;
    if (!domain.assists(VmAssist.writablePagetables) || !mmu.findL1Entry(v.kernelRoot, lo, hi))
      return PtwrResult.NotOurs;
    const { u32 } = mem;
    const mapping = mmu.foundEntry();
    const mappingLo = u32[mapping];
    if ((mappingLo & (Pte.present | Pte.writable)) !== Pte.present) return PtwrResult.NotOurs;
    const table = frameOf(mappingLo, u32[mapping + 1]);
    if (!domain.pages.isGuest(table) || !domain.pages.hasType(table, PageType.l1)) return PtwrResult.NotOurs;

    const { cpu } = v;
    const host = mem.hostOf(table);
    const first = host >>> 2;
    const gpr = gprIndex(cpu, 0);
    const rip = (cpu.base + ST.rip) >>> 2;
    const ripLo = u32[rip];
    const ripHi = u32[rip + 1];
    const flags = cpu.getRflags();
    // The whole page, because a string instruction or FXSAVE changes more than the entry that faulted.
    for (let i = 0; i < WORDS_PER_PAGE; i++) this.before[i] = u32[first + i];
    for (let i = 0; i < GPR_WORDS; i++) this.registers[i] = u32[gpr + i];

    const exit = cpu.stepWithWritable(host);
    let accepted = true;
    for (let i = 0; i < WORDS_PER_PAGE; i += 2) {
      const newLo = u32[first + i];
      const newHi = u32[first + i + 1];
      const oldLo = this.before[i];
      const oldHi = this.before[i + 1];
      if (newLo === oldLo && newHi === oldHi) continue;
      u32[first + i] = oldLo;
      u32[first + i + 1] = oldHi;
      // After a refusal the rest is only put back.
      if (accepted) accepted = this.update(table, i >>> 1, newLo, newHi);
    }
    if (!accepted) {
      for (let i = 0; i < GPR_WORDS; i++) u32[gpr + i] = this.registers[i];
      u32[rip] = ripLo;
      u32[rip + 1] = ripHi;
      cpu.setRflags(flags);
      domain.counters.count('ptwr.refused');
      return PtwrResult.Refused;
    }
    v.emulatedStores++;
    if (exit === Exit.Budget) return PtwrResult.Done;
    this.exit = exit;
    return PtwrResult.OtherExit;
  }

  private update(table: number, index: number, lo: number, hi: number): boolean {
    const { mmu, pages } = this.domain;
    if (mmu.updateL1(table, index, lo, hi, false) === 0) return true;
    // A kernel may write an entry for a page table of its own as writable; here, unlike in a hypercall, Xen takes RW off.
    if ((lo & (Pte.present | Pte.writable)) !== (Pte.present | Pte.writable)) return false;
    const target = frameOf(lo, hi);
    if (!pages.isGuest(target) || !pages.isProtected(target)) return false;
    return mmu.updateL1(table, index, (lo & ~Pte.writable) >>> 0, hi, false) === 0;
  }
}
