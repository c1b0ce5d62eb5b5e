// SPDX-License-Identifier: MIT
// Port I/O of a guest that owns no ports: permission by virtual IOPL and bitmap; reads give ones, writes vanish.

import { ST } from '../cpu/layout.ts';
import type { Domain } from './domain.ts';
import { Access, Flag, Gpr, gprIndex, noteWrite } from './guest-cpu.ts';
import type { XenVcpu } from './vcpu-state.ts';

/** Elements of a repeated string instruction done at once; the rest follows when it is executed again. */
const STRING_BATCH = 1024;

/** Decides what port I/O a vCPU may do. */
export class PortAccess {
  private readonly domain: Domain;

  constructor(domain: Domain) {
    this.domain = domain;
  }

  /**
   * Whether IOPL-sensitive instructions are permitted: the kernel counts as CPL 1, with architectural_iopl as CPL 0,
   * user code as CPL 3.
   */
  ioplAllows(v: XenVcpu): boolean {
    const cpl = v.kernelMode ? (this.domain.architecturalIopl ? 0 : 1) : 3;
    return v.iopl >= cpl;
  }

  /** Whether the vCPU may access `bytes` ports from `port`: by IOPL, or by a clear bit for each in its bitmap. */
  allowed(v: XenVcpu, port: number, bytes: number): boolean {
    if (this.ioplAllows(v)) return true;
    if ((v.ioBitmapLo | v.ioBitmapHi) === 0) return false;
    // The bitmap lies in kernel memory; from user mode it is found through the kernel's tables.
    const wasUser = !v.kernelMode;
    if (wasUser) v.toggleMode();
    let allowed = true;
    for (let n = port; n < port + bytes && allowed; n++) allowed = n < v.ioBitmapPorts && this.bitIsClear(v, n);
    if (wasUser) v.toggleMode();
    return allowed;
  }

  private bitIsClear(v: XenVcpu, port: number): boolean {
    const lo = v.ioBitmapLo + (port >>> 3);
    const hi = lo > 0xffffffff ? (v.ioBitmapHi + 1) >>> 0 : v.ioBitmapHi;
    const host = v.cpu.translate(lo >>> 0, hi, Access.read);
    return host !== -1 && ((this.domain.mem.u8[host] >>> (port & 7)) & 1) === 0;
  }
}

export interface StringIo {
  readonly input: boolean;
  /** Bytes per element. */
  readonly size: number;
  readonly repeat: boolean;
  /** FS or GS override for OUTS (`Seg` number), -1 for none. */
  readonly segment: number;
}

/**
 * INS and OUTS with 64-bit addresses. 'more': registers have moved on and the instruction is to be executed again;
 * 'fault': memory is not accessible, nothing more can be done.
 */
export function stringIo(domain: Domain, v: XenVcpu, io: StringIo): 'done' | 'more' | 'fault' {
  const { u8, u32 } = domain.mem;
  const rcx = gprIndex(v.cpu, Gpr.rcx);
  const pointer = gprIndex(v.cpu, io.input ? Gpr.rdi : Gpr.rsi);
  const step = (v.cpu.getRflags() & Flag.df) !== 0 ? -io.size : io.size;
  const isLarge = u32[rcx + 1] !== 0;
  const count = !io.repeat ? 1 : isLarge ? STRING_BATCH : Math.min(u32[rcx], STRING_BATCH);
  let done = 0;
  for (; done < count; done++) {
    const lo = u32[pointer];
    const hi = u32[pointer + 1];
    if (io.input) {
      // Byte by byte: an element may lie across two pages.
      for (let n = 0; n < io.size; n++) {
        const host = v.cpu.translate((lo + n) >>> 0, lo + n > 0xffffffff ? (hi + 1) >>> 0 : hi, Access.write);
        if (host === -1) return done === 0 ? 'fault' : finish(done, 'more');
        u8[host] = 0xff;
        noteWrite(v.cpu, host);
      }
    } else if (!canRead(domain, v, lo, hi, io.segment)) {
      return done === 0 ? 'fault' : finish(done, 'more');
    }
    const next = lo + step;
    u32[pointer] = next;
    if (next > 0xffffffff) u32[pointer + 1]++;
    else if (next < 0) u32[pointer + 1]--;
  }
  return finish(done, io.repeat && (isLarge || u32[rcx] !== done) ? 'more' : 'done');

  function finish<T>(elements: number, result: T): T {
    if (io.repeat) {
      const left = u32[rcx] - elements;
      u32[rcx] = left;
      if (left < 0) u32[rcx + 1]--;
    }
    return result;
  }
}

function canRead(domain: Domain, v: XenVcpu, lo: number, hi: number, segment: number): boolean {
  if (segment === -1) return v.cpu.translate(lo, hi, Access.read) !== -1;
  const base = (v.cpu.base + ST.segBase + segment * 8) >>> 2;
  const sum = lo + domain.mem.u32[base];
  const high = (hi + domain.mem.u32[base + 1] + (sum > 0xffffffff ? 1 : 0)) >>> 0;
  return v.cpu.translate(sum >>> 0, high, Access.read) !== -1;
}
