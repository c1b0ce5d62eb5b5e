// SPDX-License-Identifier: MIT
// Model-specific registers of a PV guest kernel, read and written through emulation (Intel SDM vol. 4, Xen arch/x86/pv/emul-priv-op.c).

import { ST, Seg } from '../cpu/layout.ts';
import { setLiveBase } from './descriptors.ts';
import type { Domain } from './domain.ts';
import { isCanonical } from './guest-cpu.ts';
import { hypercallPage64 } from './hypercall-page.ts';
import type { XenVcpu } from './vcpu-state.ts';

const Msr = {
  tsc: 0x10,
  platformId: 0x17,
  apicBase: 0x1b,
  microcode: 0x8b,
  platformInfo: 0xce,
  miscEnable: 0x1a0,
  pat: 0x277,
  hypercallPage: 0x40000000,
  efer: 0xc0000080,
  fsBase: 0xc0000100,
  gsBase: 0xc0000101,
  kernelGsBase: 0xc0000102,
  tscAux: 0xc0000103,
} as const;

/** SCE, LME, LMA, NXE. */
const EFER = 0xd01;
/** xAPIC at its usual place, enabled; bit 8 marks the boot processor. */
const APIC_BASE = 0xfee00800;
const APIC_BSP = 0x100;
/** Fast strings on; BTS and PEBS unavailable. */
const MISC_ENABLE = 0x1801;
/** Xen's PAT: WB WT UC- UC WC WP. */
const PAT = [0x00070406, 0x00000501] as const;

/** Reads an MSR into `out` (low, high); false when it does not exist for the guest: #GP. */
export function readMsr(domain: Domain, v: XenVcpu, index: number, out: Uint32Array): boolean {
  const put = (lo: number, hi = 0): boolean => {
    out[0] = lo;
    out[1] = hi;
    return true;
  };
  const { u32 } = domain.mem;
  const segmentBase = (segment: number): boolean => {
    const at = (v.cpu.base + ST.segBase + segment * 8) >>> 2;
    return put(u32[at], u32[at + 1]);
  };
  switch (index) {
    case Msr.tsc: {
      const now = domain.time.nowNs();
      return put(now >>> 0, Math.floor(now / 0x100000000));
    }
    case Msr.platformId:
    case Msr.microcode:
    case Msr.platformInfo:
    case Msr.hypercallPage:
      return put(0);
    case Msr.apicBase:
      return put(APIC_BASE | (v.id === 0 ? APIC_BSP : 0));
    case Msr.miscEnable:
      return put(MISC_ENABLE);
    case Msr.pat:
      return put(PAT[0], PAT[1]);
    case Msr.efer:
      return put(EFER);
    case Msr.fsBase:
      return segmentBase(Seg.fs);
    case Msr.gsBase:
      return segmentBase(Seg.gs);
    case Msr.kernelGsBase:
      return put(v.gsInactiveLo, v.gsInactiveHi);
    case Msr.tscAux:
      return put(v.tscAux);
    default:
      return false;
  }
}

/** Writes an MSR on behalf of the guest kernel; false = #GP. */
export function writeMsr(domain: Domain, v: XenVcpu, index: number, lo: number, hi: number): boolean {
  switch (index) {
    case Msr.microcode:
      // Kernels clear it before they ask for the microcode's version.
      return lo === 0 && hi === 0;
    case Msr.miscEnable:
      return true;
    case Msr.efer:
      return lo === EFER && hi === 0;
    case Msr.fsBase:
    case Msr.gsBase:
      if (!isCanonical(hi)) return false;
      setLiveBase(domain.mem, v, index === Msr.fsBase ? Seg.fs : Seg.gs, lo, hi);
      return true;
    case Msr.kernelGsBase:
      if (!isCanonical(hi)) return false;
      v.gsInactiveLo = lo;
      v.gsInactiveHi = hi;
      return true;
    case Msr.tscAux:
      if (hi !== 0) return false;
      v.tscAux = lo;
      domain.mem.u32[(v.cpu.base + ST.tscAux) >>> 2] = lo;
      return true;
    case Msr.hypercallPage:
      return writeHypercallPage(domain, lo, hi);
    default:
      return false;
  }
}

/** Fills the page at a machine address with hypercall stubs. */
function writeHypercallPage(domain: Domain, lo: number, hi: number): boolean {
  const mfn = (lo >>> 12) + hi * 0x100000;
  if ((lo & 0xfff) !== 0 || !domain.pages.isGuest(mfn) || domain.pages.isProtected(mfn)) return false;
  domain.mem.u8.set(hypercallPage64(), domain.mem.hostOf(mfn));
  domain.frameWritten(mfn);
  return true;
}
