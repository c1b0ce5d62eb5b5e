// SPDX-License-Identifier: MIT
// What the grant table needs from the memory manager: frame references and the L1 entries of a guest's own grant mappings.

import type { Domain } from './domain.ts';
import { Gntst, type GrantMmu } from './grants.ts';
import { frameOf, Pte } from './mmu.ts';
import { PageType } from './page-types.ts';

const GNTMAP_READONLY = 4;
const GNTMAP_CONTAINS_PTE = 16;

/** Frame references and mappings by grant, for one domain. */
export class GrantMappings implements GrantMmu {
  private readonly domain: Domain;
  private table = 0;
  private index = 0;

  constructor(domain: Domain) {
    this.domain = domain;
  }

  takeFrame(mfn: number, writable: boolean): boolean {
    const { mmu, pages } = this.domain;
    if (writable) return mmu.takeWritable(mfn) === 0;
    if (!pages.isGuest(mfn)) return false;
    mmu.takeRef(mfn);
    return true;
  }

  dropFrame(mfn: number, writable: boolean): void {
    if (writable) this.domain.mmu.dropType(mfn);
    else this.domain.mmu.dropRef(mfn);
  }

  installGrantMapping(lo: number, hi: number, mfn: number, flags: number): number {
    const status = this.find(lo, hi, flags);
    if (status !== Gntst.okay) return status;
    const rights =
      Pte.present | Pte.user | Pte.accessed | ((flags & GNTMAP_READONLY) === 0 ? Pte.writable | Pte.dirty : 0);
    const entryLo = ((mfn << 12) | rights) >>> 0;
    const result = this.domain.mmu.updateL1(this.table, this.index, entryLo, Math.floor(mfn / 0x100000), false);
    return result === 0 ? Gntst.okay : Gntst.generalError;
  }

  removeGrantMapping(lo: number, hi: number, mfn: number, flags: number): number {
    const status = this.find(lo, hi, flags);
    if (status !== Gntst.okay) return status;
    const { mem, mmu } = this.domain;
    const at = (mem.hostOf(this.table) + this.index * 8) >>> 2;
    const entryLo = mem.u32[at];
    if ((entryLo & Pte.present) === 0 || frameOf(entryLo, mem.u32[at + 1]) !== mfn) return Gntst.generalError;
    mmu.updateL1(this.table, this.index, 0, 0, false);
    return Gntst.okay;
  }

  isFrameMapped(mfn: number): boolean {
    return this.domain.pages.refs[mfn] > 0;
  }

  /** Finds the L1 entry meant by an address, which is linear or (contains_pte) the machine address of the entry. */
  private find(lo: number, hi: number, flags: number): number {
    const { mmu, pages, current } = this.domain;
    if ((flags & GNTMAP_CONTAINS_PTE) === 0) {
      if (!mmu.findL1Entry(current.kernelRoot, lo, hi)) return Gntst.generalError;
      this.table = mmu.foundTable;
      this.index = mmu.foundIndex;
      return Gntst.okay;
    }
    const table = (lo >>> 12) + hi * 0x100000;
    if ((lo & 7) !== 0 || !pages.isGuest(table) || !pages.hasType(table, PageType.l1)) return Gntst.generalError;
    this.table = table;
    this.index = (lo & 0xfff) >>> 3;
    return Gntst.okay;
  }
}
