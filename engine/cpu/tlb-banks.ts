// SPDX-License-Identifier: MIT
// Which address space (root and privilege) each bank of TLBs belongs to, with those of user privilege where generated code finds them (ST.rootBanks).

import { RootBanks, ST, Tlb } from './layout.ts';
import type { MachineMemory } from './memory.ts';

/** In ST.rootMfn and ST.rootBanks: no frame. */
export const noRoot = 0xffffffff;

const wordsPerEntry = RootBanks.entryBytes / 4;
const wordsPerSet = RootBanks.ways * wordsPerEntry;

/** Owner of a bank that belongs to nobody. */
const nobody = -1;

/** What becomes of the entries of a bank that gets a new owner. */
export interface BankEntries {
  /** Empties a bank. */
  clear(bank: number): void;
  /** Fills an empty one with what the one used until now, of another root (MFN), holds and is true for the new owner, too. */
  inherit(from: number, to: number, fromRoot: number): void;
}

export class TlbBanks {
  private readonly mem: MachineMemory;
  private readonly base: number;
  /** Index of ST.rootBanks in the u32 view. */
  private readonly table: number;
  private readonly entries: BankEntries;
  /** By bank: twice the root, plus 1 at CPL 3. */
  private readonly owners = new Array<number>(Tlb.banks).fill(nobody);

  constructor(mem: MachineMemory, base: number, entries: BankEntries) {
    this.mem = mem;
    this.base = base;
    this.table = (base + ST.rootBanks) >>> 2;
    this.entries = entries;
    this.forgetAll();
  }

  /** The bank of a root at CPL 3 or another level, which becomes the current address space. */
  of(root: number, isUser: boolean): number {
    const owner = root * 2 + (isUser ? 1 : 0);
    let bank = this.owners.indexOf(owner);
    if (bank < 0) {
      bank = this.free();
      if (bank < 0) bank = this.takeAway();
      this.owners[bank] = owner;
      this.entries.clear(bank);
      this.inherit(bank, isUser);
    }
    if (isUser) this.publish(root, bank);
    this.noteUse(bank);
    return bank;
  }

  private get current(): number {
    return this.mem.u32[(this.base + ST.asid) >>> 2]!;
  }

  /**
   * A bank that belongs to nobody, -1 when there is none: behind a flush the same one again, so that pages have their entries where they had
   * them (see the write map).
   */
  private free(): number {
    return this.owners[this.current] === nobody ? this.current : this.owners.indexOf(nobody);
  }

  private inherit(bank: number, isUser: boolean): void {
    const { current } = this;
    const owner = this.owners[current]!;
    if (current === bank || owner === nobody || (owner % 2 === 1) !== isUser) return;
    this.entries.inherit(current, bank, Math.floor(owner / 2));
  }

  /** Some address space can see what the bank holds. */
  isOwned(bank: number): boolean {
    return this.owners[bank] !== nobody;
  }

  /** The frame is a root no longer: what its banks hold is never seen again. */
  forget(root: number): void {
    for (let bank = 0; bank < Tlb.banks; bank++) if (Math.floor(this.owners[bank]! / 2) === root) this.release(bank);
  }

  /** No root has a bank any more: each gets a cleared one. */
  forgetAll(): void {
    this.owners.fill(nobody);
    this.mem.u32.fill(noRoot, this.table, this.table + RootBanks.sets * wordsPerSet);
  }

  private release(bank: number): void {
    const owner = this.owners[bank]!;
    this.owners[bank] = nobody;
    if (owner % 2 === 1) this.unpublish(Math.floor(owner / 2));
  }

  private noteUse(bank: number): void {
    const { u32 } = this.mem;
    const at = (this.base + ST.switches) >>> 2;
    u32[at] = u32[at]! + 1;
    u32[((this.base + ST.bankUse) >>> 2) + bank] = u32[at]!;
  }

  /** Takes the bank that was not switched to for longest from its owner; never the one in use. */
  private takeAway(): number {
    const { u32 } = this.mem;
    const now = u32[(this.base + ST.switches) >>> 2]!;
    const { current } = this;
    let oldest = 0;
    let most = -1;
    for (let bank = 0; bank < Tlb.banks; bank++) {
      const age = (now - u32[((this.base + ST.bankUse) >>> 2) + bank]!) >>> 0;
      if (bank === current || age <= most) continue;
      oldest = bank;
      most = age;
    }
    this.release(oldest);
    return oldest;
  }

  /** The first way is the one used last. */
  private publish(root: number, bank: number): void {
    const { u32 } = this.mem;
    const set = this.setOf(root);
    if (u32[set] === root) return;
    u32.copyWithin(set + wordsPerEntry, set, set + wordsPerSet - wordsPerEntry);
    u32[set] = root;
    u32[set + 1] = bank;
  }

  private unpublish(root: number): void {
    const { u32 } = this.mem;
    const set = this.setOf(root);
    for (let at = set; at < set + wordsPerSet; at += wordsPerEntry) if (u32[at] === root) u32[at] = noRoot;
  }

  private setOf(root: number): number {
    return this.table + (root & (RootBanks.sets - 1)) * wordsPerSet;
  }
}
