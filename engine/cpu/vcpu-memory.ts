// SPDX-License-Identifier: MIT
// Guest memory as a vCPU sees it: translation, copies in and out, and the banks of TLBs of its address spaces (Intel SDM volume 3, section 4.10).

import { emptyTag, scratchBytes, ST, Tlb } from './layout.ts';
import { TlbBanks } from './tlb-banks.ts';
import { VCpuRegisters } from './vcpu-registers.ts';

const pageBytes = 4096;

/** The generated `translate`: (state, address low, address high, access) -> host address, 0 = fault recorded. */
export type Translate = (state: number, lo: number, hi: number, access: number) => number;

/** The generated `clearBank`: (state, bank). */
export type ClearBank = (state: number, bank: number) => void;

/** The generated `inheritBank`: (state, from, to, root of the one, root of the other), roots as host addresses. */
export type InheritBank = (state: number, from: number, to: number, fromRoot: number, toRoot: number) => void;

export abstract class VCpuMemory extends VCpuRegisters {
  protected abstract readonly translateCode: Translate;
  protected abstract readonly clearBank: ClearBank;
  protected abstract readonly inheritBank: InheritBank;
  protected readonly banks = new TlbBanks(this.mem, this.base, {
    clear: (bank) => this.clearBank(this.base, bank),
    inherit: (from, to, fromRoot) => {
      const { base, mem } = this;
      if (this.get(ST.pagingMode) === 2) this.inheritBank(base, from, to, mem.hostOf(fromRoot), this.get(ST.root));
    },
  });

  /** Something other than this vCPU's code wrote to the frame at `hostFrame`. */
  abstract frameWritten(hostFrame: number): void;

  setCpl(level: number): void {
    this.set(ST.cpl, level);
    this.applyBank();
  }

  translate(lo: number, hi: number, access: 0 | 1 | 2): number {
    const host = this.translateCode(this.base, lo, hi, access);
    return host === 0 ? -1 : host >>> 0;
  }

  /** Copies guest bytes to `scratch`; false when any of them faults. */
  copyIn(lo: number, hi: number, bytes: number): boolean {
    if (bytes > scratchBytes) return false;
    return this.eachPage(lo, hi, bytes, 0, (host, done, n) =>
      this.mem.u8.copyWithin(this.scratch + done, host, host + n),
    );
  }

  /** Copies from a host address to the guest; false when any byte faults (earlier pages are written). */
  copyOut(lo: number, hi: number, from: number, bytes: number): boolean {
    return this.eachPage(lo, hi, bytes, 1, (host, done, n) => {
      this.mem.u8.copyWithin(host, from + done, from + done + n);
      this.frameWritten((host & -pageBytes) >>> 0);
    });
  }

  private eachPage(
    lo: number,
    hi: number,
    bytes: number,
    access: 0 | 1,
    use: (host: number, done: number, n: number) => void,
  ): boolean {
    let done = 0;
    let low = lo >>> 0;
    let high = hi >>> 0;
    while (done < bytes) {
      const n = Math.min(bytes - done, pageBytes - (low & (pageBytes - 1)));
      const host = this.translate(low, high, access);
      if (host < 0) return false;
      use(host, done, n);
      done += n;
      const sum = low + n;
      low = sum >>> 0;
      if (sum > 0xffffffff) high = (high + 1) >>> 0;
    }
    return true;
  }

  /** Makes a machine frame the page-table root. TLB entries of other roots stay, as long as these keep their banks. */
  setRoot(mfn: number): void {
    this.set(ST.rootMfn, mfn);
    this.set(ST.root, this.mem.hostOf(mfn));
    this.applyBank();
  }

  protected applyBank(): void {
    const bank = this.banks.of(this.get(ST.rootMfn), this.get(ST.cpl) === 3);
    this.set(ST.asid, bank);
    this.set(ST.tlb, this.base + Tlb.offset + bank * Tlb.bankBytes);
  }

  /** The frame is a root no longer: nothing that its banks hold is used again. */
  forgetRoot(mfn: number): void {
    this.banks.forget(mfn);
    if (mfn === this.get(ST.rootMfn)) this.applyBank();
  }

  /** No TLB holds anything of an L1 table: where it has been seen is forgotten. */
  forgetTable(l1mfn: number): void {
    this.mem.u32[(this.mem.layout.l1Tags >>> 2) + l1mfn] = 0;
  }

  /** Drops every entry: address spaces get new banks when they are switched to, which are cleared then. */
  flushTlb(): void {
    this.banks.forgetAll();
    this.applyBank();
  }

  /** A TLB entry for execution is lost: see ST.execEpoch. */
  private beginEpoch(): void {
    const { u32 } = this.mem;
    const at = (this.base + ST.execEpoch) >>> 2;
    u32[at] = u32[at]! + 1;
    if (u32[at] === 0) u32[at + 1] = u32[at + 1]! + 1;
  }

  /** Drops the entries of one page in every address space. */
  invalidatePage(lo: number, hi: number): void {
    const last = (lo | (pageBytes - 1)) >>> 0;
    const { u32 } = this.mem;
    const first = this.base + Tlb.offset + ((lo >>> 8) & 0xfff0);
    for (let tlb = 0; tlb < Tlb.banks * Tlb.bankBytes; tlb += Tlb.bytes) {
      const at = (first + tlb) >>> 2;
      if (u32[at] === last && u32[at + 1] === hi >>> 0) {
        u32[at] = emptyTag(lo);
        u32[at + 1] = 0;
        if (tlb % Tlb.bankBytes === Tlb.exec) this.beginEpoch();
      }
    }
  }

  /**
   * Drops what the TLBs hold of one entry of an L1 table: by the address range that the table was last seen to map. Returns true when it
   * has been seen to map several, for which everything is dropped.
   */
  entryChanged(l1mfn: number, index: number): boolean {
    const at = (this.mem.layout.l1Tags >>> 2) + l1mfn;
    const tag = this.mem.u32[at]!;
    if (tag === 0) return false;
    if (tag & 0x40000000) {
      this.flushTlb();
      return true;
    }
    const high = tag & 0x07ffffff;
    // 48-bit address: 27 bits of table number, 9 of index, sign-extended from bit 47.
    const lo = ((high << 21) | (index << 12)) >>> 0;
    const top = high >>> 11;
    this.invalidatePage(lo, top & 0x8000 ? (top | 0xffff0000) >>> 0 : top);
    return false;
  }

  /** Host address of the page `delta` pages behind the one at (lo, hi), 0 when it cannot be executed. */
  protected hostOfPage(lo: number, hi: number, delta: number): number {
    const page = ((lo & -pageBytes) >>> 0) + delta * pageBytes;
    const carry = Math.floor(page / 2 ** 32);
    const host = this.translate(page >>> 0, (hi + carry) >>> 0, 2);
    return host < 0 ? 0 : host;
  }
}
