// SPDX-License-Identifier: MIT
// Virtual debug registers: set_debugreg, get_debugreg and the emulated MOV to and from DRn (Intel SDM vol. 3, 17.2).

import type { CallContext } from './call-context.ts';
import { ENODEV, EPERM } from './errno.ts';
import { isCanonical, isXenAddress } from './guest-cpu.ts';
import type { XenVcpu } from './vcpu-state.ts';

/** CR4 bit: debugging extensions; DR4 and DR5 are then no aliases of DR6 and DR7. */
const CR4_DE = 8;
/** DR6: bit 12 reads 0; bits 4-11 and 16-31 read 1. */
const DR6_ZERO = 0x1000;
const DR6_ONE = 0xffff0ff0;
/** DR7: bits 11, 12, 14, 15 read 0; bit 10 reads 1; bit 13 traps the debugger itself and is not for guests. */
const DR7_ZERO = 0xd800;
const DR7_ONE = 0x400;
const DR7_GENERAL_DETECT = 0x2000;
const DR7_ENABLES = 0xff;
/** A breakpoint type that exists only with CR4.DE: I/O. */
const TYPE_IO = 2;

/** Index in `debugLo` and `debugHi` of a register as the guest names it; -1 when it does not exist. */
export function debugRegisterIndex(v: XenVcpu, register: number): number {
  if (register !== 4 && register !== 5) return register <= 7 ? register : -1;
  return (v.cr4 & CR4_DE) !== 0 ? -1 : register + 2;
}

/** Sets a debug register. 0; -ENODEV for a register that does not exist; -EPERM for a value a guest may not have. */
export function writeDebugRegister(v: XenVcpu, register: number, lo: number, hi: number): number {
  const number = debugRegisterIndex(v, register);
  if (number === -1) return -ENODEV;
  if (number < 4) {
    if (!isCanonical(hi) || isXenAddress(hi)) return -EPERM;
  } else if (number === 6) {
    lo = ((lo & ~DR6_ZERO) | DR6_ONE) >>> 0;
    hi = 0;
  } else {
    if ((lo & DR7_GENERAL_DETECT) !== 0) return -EPERM;
    lo = ((lo & ~DR7_ZERO) | DR7_ONE) >>> 0;
    hi = 0;
    if ((lo & DR7_ENABLES) !== 0 && (v.cr4 & CR4_DE) === 0) {
      for (let n = 0; n < 4; n++) if (((lo >>> (16 + 4 * n)) & 3) === TYPE_IO) return -EPERM;
    }
  }
  v.debugLo[number] = lo;
  v.debugHi[number] = hi;
  v.cpu.setBreakpoints(v.debugLo[7], v.debugLo, v.debugHi);
  return 0;
}

/** set_debugreg(register, value) */
export function setDebugreg(ctx: CallContext): number {
  return writeDebugRegister(ctx.vcpu, ctx.argLo[0], ctx.argLo[1], ctx.argHi[1]);
}

/** get_debugreg(register): the whole value is the result. */
export function getDebugreg(ctx: CallContext): number {
  const v = ctx.vcpu;
  const number = debugRegisterIndex(v, ctx.argLo[0]);
  if (number === -1) return -ENODEV;
  return ctx.wideResult(v.debugLo[number], v.debugHi[number]);
}
