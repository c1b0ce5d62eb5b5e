// SPDX-License-Identifier: MIT
// The concrete hypercall context of a vCPU: arguments, guest memory access, and results wider than a JS number.

import type { GuestAccess, HypercallContext, MachineMemoryView } from './context.ts';
import type { Domain } from './domain.ts';
import { Access, noteWrite, type GuestCpu } from './guest-cpu.ts';
import type { XenVcpu } from './vcpu-state.ts';

const PAGE_BYTES = 4096;

/** Guest memory through one vCPU's present page tables. */
export class CpuGuestAccess implements GuestAccess {
  private readonly cpu: GuestCpu;
  private readonly u8: Uint8Array;

  constructor(cpu: GuestCpu, mem: MachineMemoryView) {
    this.cpu = cpu;
    this.u8 = mem.u8;
  }

  copyIn(lo: number, hi: number, len: number): number {
    return this.cpu.copyIn(lo, hi, len) ? this.cpu.scratch : -1;
  }

  copyOut(lo: number, hi: number, src: Uint8Array): boolean {
    for (let done = 0; done < src.length;) {
      const host = this.cpu.translate(lo, hi, Access.write);
      if (host === -1) return false;
      const room = PAGE_BYTES - (lo & (PAGE_BYTES - 1));
      const part = Math.min(room, src.length - done);
      this.u8.set(src.subarray(done, done + part), host);
      noteWrite(this.cpu, host);
      done += part;
      if (lo + part > 0xffffffff) hi = (hi + 1) >>> 0;
      lo = (lo + part) >>> 0;
    }
    return true;
  }
}

/** One per vCPU, reused for every hypercall; the handlers of this folder get it with its concrete domain and vCPU. */
export class CallContext implements HypercallContext {
  readonly domain: Domain;
  readonly vcpu: XenVcpu;
  readonly mem: MachineMemoryView;
  readonly guest: CpuGuestAccess;
  readonly wordSize = 8;
  readonly argLo = new Uint32Array(6);
  readonly argHi = new Uint32Array(6);
  /** The handler's result is (wideLo, wideHi) instead of what it returned. */
  wide = false;
  wideLo = 0;
  wideHi = 0;

  constructor(domain: Domain, vcpu: XenVcpu, guest: CpuGuestAccess) {
    this.domain = domain;
    this.vcpu = vcpu;
    this.mem = domain.mem;
    this.guest = guest;
  }

  /** Returns a full 64-bit word from a handler: `return ctx.wideResult(lo, hi)`. */
  wideResult(lo: number, hi: number): number {
    this.wide = true;
    this.wideLo = lo;
    this.wideHi = hi;
    return 0;
  }

  /** Stores a u32 at a guest address; false on a fault. */
  storeU32(lo: number, hi: number, value: number): boolean {
    const host = (lo & 3) === 0 ? this.vcpu.cpu.translate(lo, hi, Access.write) : -1;
    if (host !== -1) {
      this.mem.u32[host >>> 2] = value;
      noteWrite(this.vcpu.cpu, host);
      return true;
    }
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    return this.guest.copyOut(lo, hi, bytes);
  }

  /**
   * Index in the u32 view of `bytes` guest bytes to be read at once: in place when they are 4-byte aligned in one page
   * (read every word only once: another vCPU may change it), else a copy. -1 on a fault.
   */
  readIndex(lo: number, hi: number, bytes: number): number {
    if ((lo & 3) === 0 && (lo & (PAGE_BYTES - 1)) + bytes <= PAGE_BYTES) {
      const host = this.vcpu.cpu.translate(lo, hi, Access.read);
      return host === -1 ? -1 : host >>> 2;
    }
    const copy = this.guest.copyIn(lo, hi, bytes);
    return copy === -1 ? -1 : copy >>> 2;
  }
}

/** A handler of this folder's families. */
export type DomainCall = (ctx: CallContext) => number;
