// SPDX-License-Identifier: MIT
// Privileged instructions of a PV guest, emulated when they raise #GP at CPL 3 (Xen arch/x86/pv/emul-priv-op.c; Intel SDM vol. 2).

import { ST } from '../cpu/layout.ts';
import { cpuid } from './cpuid.ts';
import { debugRegisterIndex, writeDebugRegister } from './debug-registers.ts';
import type { Domain } from './domain.ts';
import { Access, Gpr, gprIndex, isXenAddress, Vector } from './guest-cpu.ts';
import { setKernelRoot } from './mmu-ext.ts';
import { readMsr, writeMsr } from './msr.ts';
import { PortAccess, stringIo } from './port-io.ts';
import { setCr2 } from './traps.ts';
import type { XenVcpu } from './vcpu-state.ts';

/** What a PV guest reads in CR0 beside TS: PG AM WP NE ET MP PE. */
const CR0 = 0x80050033;
const CR0_TS = 8;
/** Xen's own CR4 bits that a guest sees: PAE MCE OSFXSR OSXMMEXCPT. */
const CR4_XEN = 0x660;
/** CR4 bits a guest may set with the features of the CPUID policy: TSD. */
const CR4_GUEST = 4;
const CR4_TSD = 4;
const MAX_INSTRUCTION_BYTES = 15;

/** "ud2" and "xen": asks for the next instruction to be emulated. */
const FORCED_EMULATION = [0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2] as const;

/** Emulates privileged instructions for one domain. Methods return true when the instruction was carried out. */
export class PrivilegedInstructions {
  private readonly domain: Domain;
  private readonly ports: PortAccess;
  private readonly out = new Uint32Array(4);
  private readonly code = new Uint8Array(MAX_INSTRUCTION_BYTES);
  /** Bytes in `code` that could be read. */
  private length = 0;

  constructor(domain: Domain) {
    this.domain = domain;
    this.ports = new PortAccess(domain);
  }

  /** Handles #UD: only the forced emulation prefix followed by CPUID. */
  forcedEmulation(v: XenVcpu): boolean {
    this.fetch(v, FORCED_EMULATION.length);
    if (this.length < FORCED_EMULATION.length) return false;
    for (let n = 0; n < FORCED_EMULATION.length; n++) if (this.code[n] !== FORCED_EMULATION[n]) return false;
    const { u32 } = this.domain.mem;
    const gpr = gprIndex(v.cpu, 0);
    cpuid(this.domain.cpuPolicy, u32[gpr], u32[gpr + Gpr.rcx * 2], v.id, this.out);
    for (const [n, register] of [Gpr.rax, Gpr.rbx, Gpr.rcx, Gpr.rdx].entries()) {
      this.setRegister(v, register, this.out[n], 0);
    }
    this.advance(v, FORCED_EMULATION.length);
    return true;
  }

  /** Handles #GP with error code 0: emulates the instruction at rip, or returns false to have the fault delivered. */
  emulate(v: XenVcpu): boolean {
    this.fetch(v, MAX_INSTRUCTION_BYTES);
    let at = 0;
    let rex = 0;
    let operand16 = false;
    let repeat = false;
    let segment = -1;
    prefixes: for (; at < this.length; at++) {
      switch (this.code[at]) {
        case 0x66:
          operand16 = true;
          break;
        case 0xf2:
        case 0xf3:
          repeat = true;
          break;
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
        case 0x67:
          break;
        case 0x64:
          segment = 4;
          break;
        case 0x65:
          segment = 5;
          break;
        default:
          break prefixes;
      }
    }
    const is64 = this.domain.mem.i32[(v.cpu.base + ST.mode) >>> 2] === 64;
    if (is64 && (this.code[at] & 0xf0) === 0x40) rex = this.code[at++];
    if (at >= this.length) return false;
    const opcode = this.code[at++];
    const bytes = operand16 ? 2 : 4;
    switch (opcode) {
      case 0x0f:
        return v.kernelMode && at < this.length && this.twoByte(v, this.code[at], at + 1, rex);
      case 0xfa: // cli
      case 0xfb: // sti: the guest's interrupt flag is upcall_mask, and this is not the way to it.
        return this.ports.ioplAllows(v) && this.advance(v, at);
      case 0xe4:
        return this.in(v, this.code[at], 1, at + 1);
      case 0xe5:
        return this.in(v, this.code[at], bytes, at + 1);
      case 0xec:
        return this.in(v, this.port(v), 1, at);
      case 0xed:
        return this.in(v, this.port(v), bytes, at);
      case 0xe6:
        return this.ports.allowed(v, this.code[at], 1) && this.advance(v, at + 1);
      case 0xe7:
        return this.ports.allowed(v, this.code[at], bytes) && this.advance(v, at + 1);
      case 0xee:
        return this.ports.allowed(v, this.port(v), 1) && this.advance(v, at);
      case 0xef:
        return this.ports.allowed(v, this.port(v), bytes) && this.advance(v, at);
      case 0x6c:
      case 0x6d:
      case 0x6e:
      case 0x6f: {
        const size = (opcode & 1) === 0 ? 1 : bytes;
        if (!this.ports.allowed(v, this.port(v), size)) return false;
        const result = stringIo(this.domain, v, { input: opcode < 0x6e, size, repeat, segment });
        if (result === 'done') this.advance(v, at);
        return result !== 'fault';
      }
      default:
        return false;
    }
  }

  private twoByte(v: XenVcpu, opcode: number, at: number, rex: number): boolean {
    const { u32 } = this.domain.mem;
    const gpr = gprIndex(v.cpu, 0);
    switch (opcode) {
      case 0x06:
        v.setTaskSwitched(false);
        return this.advance(v, at);
      case 0x09: // wbinvd: no device looks at memory behind a cache.
        return this.advance(v, at);
      case 0x20:
      case 0x21:
      case 0x22:
      case 0x23: {
        const modrm = this.code[at];
        const number = ((modrm >>> 3) & 7) | ((rex & 4) << 1);
        const register = (modrm & 7) | ((rex & 1) << 3);
        const index = gpr + register * 2;
        let ok: boolean;
        if (opcode === 0x20) ok = this.readControl(v, number, register);
        else if (opcode === 0x22) ok = this.writeControl(v, number, u32[index], u32[index + 1]);
        else if (opcode === 0x21) ok = this.readDebug(v, number, register);
        else ok = writeDebugRegister(v, number, u32[index], u32[index + 1]) === 0;
        return ok && this.advance(v, at + 1);
      }
      case 0x30:
        return (
          writeMsr(this.domain, v, u32[gpr + Gpr.rcx * 2], u32[gpr], u32[gpr + Gpr.rdx * 2]) && this.advance(v, at)
        );
      case 0x31:
        // Only here when the guest set CR4.TSD, which is meant for its user code.
        return (v.cr4 & CR4_TSD) !== 0 && this.readToEdxEax(v, 0x10) && this.advance(v, at);
      case 0x32: {
        const index = u32[gpr + Gpr.rcx * 2];
        if (!this.readToEdxEax(v, index)) {
          // A kernel without a #GP handler yet would die of a register it only wanted to look at.
          if (v.trapAddress[Vector.protection * 2] !== 0 || v.trapAddress[Vector.protection * 2 + 1] !== 0)
            return false;
          this.domain.counters.count(`msr.faked-read.0x${index.toString(16)}`);
          this.setRegister(v, Gpr.rax, 0, 0);
          this.setRegister(v, Gpr.rdx, 0, 0);
        }
        return this.advance(v, at);
      }
      default:
        return false;
    }
  }

  private readToEdxEax(v: XenVcpu, index: number): boolean {
    if (!readMsr(this.domain, v, index, this.out)) return false;
    this.setRegister(v, Gpr.rax, this.out[0], 0);
    this.setRegister(v, Gpr.rdx, this.out[1], 0);
    return true;
  }

  private readControl(v: XenVcpu, number: number, register: number): boolean {
    const { u32 } = this.domain.mem;
    switch (number) {
      case 0:
        this.setRegister(v, register, (CR0 | (v.taskSwitched ? CR0_TS : 0)) >>> 0, 0);
        return true;
      case 2: {
        const at = (v.info + 0x10) >>> 2;
        this.setRegister(v, register, u32[at], u32[at + 1]);
        return true;
      }
      case 3:
        this.setRegister(v, register, (v.kernelRoot << 12) >>> 0, Math.floor(v.kernelRoot / 0x100000));
        return true;
      case 4:
        this.setRegister(v, register, CR4_XEN | v.cr4, 0);
        return true;
      default:
        return false;
    }
  }

  private writeControl(v: XenVcpu, number: number, lo: number, hi: number): boolean {
    switch (number) {
      case 0:
        if (hi !== 0 || (lo & ~CR0_TS) >>> 0 !== CR0) return false;
        v.setTaskSwitched((lo & CR0_TS) !== 0);
        return true;
      case 2:
        setCr2(this.domain, v, lo, hi);
        return true;
      case 3:
        return setKernelRoot(this.domain, v, (lo >>> 12) + hi * 0x100000) === 0;
      case 4:
        v.cr4 = lo & CR4_GUEST;
        v.cpu.setGuestCr4(v.cr4);
        return true;
      default:
        return false;
    }
  }

  private readDebug(v: XenVcpu, number: number, register: number): boolean {
    const index = debugRegisterIndex(v, number);
    if (index === -1) return false;
    this.setRegister(v, register, v.debugLo[index], v.debugHi[index]);
    return true;
  }

  /** Input from a port nobody owns: all ones. */
  private in(v: XenVcpu, port: number, size: number, length: number): boolean {
    if (!this.ports.allowed(v, port, size)) return false;
    const { u8, u16 } = this.domain.mem;
    const rax = v.cpu.base + ST.gpr;
    if (size === 1) u8[rax] = 0xff;
    else if (size === 2) u16[rax >>> 1] = 0xffff;
    else this.setRegister(v, Gpr.rax, 0xffffffff, 0);
    return this.advance(v, length);
  }

  private port(v: XenVcpu): number {
    return this.domain.mem.u32[gprIndex(v.cpu, Gpr.rdx)] & 0xffff;
  }

  private setRegister(v: XenVcpu, register: number, lo: number, hi: number): void {
    const at = gprIndex(v.cpu, register);
    this.domain.mem.u32[at] = lo;
    this.domain.mem.u32[at + 1] = hi;
  }

  /** Moves rip behind the instruction. Always true, to end a handler with. */
  private advance(v: XenVcpu, length: number): boolean {
    const { u32 } = this.domain.mem;
    const at = (v.cpu.base + ST.rip) >>> 2;
    const lo = u32[at] + length;
    u32[at] = lo;
    if (lo > 0xffffffff) u32[at + 1]++;
    return true;
  }

  /** Reads up to `wanted` bytes at rip into `code`, fewer when the instruction's page is followed by one that cannot be read. */
  private fetch(v: XenVcpu, wanted: number): void {
    const { u8, u32 } = this.domain.mem;
    const at = (v.cpu.base + ST.rip) >>> 2;
    let lo = u32[at];
    let hi = u32[at + 1];
    this.length = 0;
    this.code.fill(0);
    while (this.length < wanted) {
      const host = isXenAddress(hi) ? -1 : v.cpu.translate(lo, hi, Access.execute);
      if (host === -1) return;
      const part = Math.min(4096 - (lo & 0xfff), wanted - this.length);
      for (let n = 0; n < part; n++) this.code[this.length + n] = u8[host + n];
      this.length += part;
      if (lo + part > 0xffffffff) hi = (hi + 1) >>> 0;
      lo = (lo + part) >>> 0;
    }
  }
}
