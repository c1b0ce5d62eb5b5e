// SPDX-License-Identifier: MIT
// Entry points of the guest kernel: set_trap_table, set_callbacks, callback_op, nmi_op (public/xen.h, callback.h, nmi.h).

import type { CallContext } from './call-context.ts';
import { EFAULT, EINVAL, ENOSYS } from './errno.ts';
import { isCanonical, Vector } from './guest-cpu.ts';
import { Selector, TrapFlag, type Callback, type XenVcpu } from './vcpu-state.ts';

/** struct trap_info {u8 vector; u8 flags; u16 cs; u64 address @8} */
const TRAP_INFO_BYTES = 16;
/** struct callback_register {u16 type; u16 flags; u64 address @8} */
const CALLBACK_REGISTER_BYTES = 16;
const CALLBACKF_MASK_EVENTS = 1;

const CallbackType = { event: 0, failsafe: 1, syscall: 2, nmi: 4, sysenter: 5, syscall32: 7 } as const;

/** Sets one trap table entry. */
export function setTrap(v: XenVcpu, vector: number, flags: number, selector: number, lo: number, hi: number): void {
  v.trapAddress[vector * 2] = lo;
  v.trapAddress[vector * 2 + 1] = hi;
  v.trapFlags[vector] = flags & (TrapFlag.dpl | TrapFlag.maskEvents);
  v.trapSelector[vector] = selector | 3;
}

/** set_trap_table(table*): merges entries up to one with address 0; a null pointer empties the table. */
export function setTrapTable(ctx: CallContext): number {
  const v = ctx.vcpu;
  let lo = ctx.argLo[0];
  let hi = ctx.argHi[0];
  if ((lo | hi) === 0) {
    v.trapAddress.fill(0);
    v.trapFlags.fill(0);
    v.trapSelector.fill(0);
    return 0;
  }
  for (;;) {
    const at = ctx.readIndex(lo, hi, TRAP_INFO_BYTES);
    if (at === -1) return -EFAULT;
    const head = ctx.mem.u32[at];
    const addressLo = ctx.mem.u32[at + 2];
    const addressHi = ctx.mem.u32[at + 3];
    if ((addressLo | addressHi) === 0) return 0;
    if (!isCanonical(addressHi)) return -EINVAL;
    setTrap(v, head & 0xff, (head >>> 8) & 0xff, head >>> 16, addressLo, addressHi);
    const next = lo + TRAP_INFO_BYTES;
    if (next > 0xffffffff) hi = (hi + 1) >>> 0;
    lo = next >>> 0;
  }
}

function setCallback(callback: Callback, lo: number, hi: number, maskEvents: boolean): void {
  callback.lo = lo;
  callback.hi = hi;
  callback.maskEvents = maskEvents;
}

/** set_callbacks(event, failsafe, syscall): the old form, which leaves the masking flags alone. */
export function setCallbacks(ctx: CallContext): number {
  const v = ctx.vcpu;
  const { argLo, argHi } = ctx;
  for (let n = 0; n < 3; n++) if (!isCanonical(argHi[n])) return -EINVAL;
  for (const [n, callback] of [v.eventCallback, v.failsafeCallback, v.syscallCallback].entries()) {
    setCallback(callback, argLo[n], argHi[n], callback.maskEvents);
  }
  return 0;
}

/** callback_op(cmd, argument*): 0 register, 1 unregister. */
export function callbackOp(ctx: CallContext): number {
  const lo = ctx.argLo[1];
  const hi = ctx.argHi[1];
  switch (ctx.argLo[0]) {
    case 0: {
      const at = ctx.readIndex(lo, hi, CALLBACK_REGISTER_BYTES);
      if (at === -1) return -EFAULT;
      const head = ctx.mem.u32[at];
      return register(ctx.vcpu, head & 0xffff, head >>> 16, ctx.mem.u32[at + 2], ctx.mem.u32[at + 3]);
    }
    case 1: {
      const at = ctx.readIndex(lo, hi, 4);
      return at === -1 ? -EFAULT : unregister(ctx.vcpu, ctx.mem.u32[at] & 0xffff);
    }
    default:
      return -ENOSYS;
  }
}

function register(v: XenVcpu, type: number, flags: number, lo: number, hi: number): number {
  if (!isCanonical(hi)) return -EINVAL;
  const maskEvents = (flags & CALLBACKF_MASK_EVENTS) !== 0;
  switch (type) {
    case CallbackType.event:
      setCallback(v.eventCallback, lo, hi, true);
      return 0;
    case CallbackType.failsafe:
      // Never called: it reports selectors that fail to load behind the guest's back, and none is ever loaded there.
      setCallback(v.failsafeCallback, lo, hi, maskEvents);
      return 0;
    case CallbackType.syscall:
      setCallback(v.syscallCallback, lo, hi, maskEvents);
      return 0;
    case CallbackType.nmi:
      registerNmi(v, lo, hi);
      return 0;
    case CallbackType.sysenter:
      setCallback(v.sysenterCallback, lo, hi, maskEvents);
      return 0;
    case CallbackType.syscall32:
      setCallback(v.syscall32Callback, lo, hi, maskEvents);
      return 0;
    default:
      return -ENOSYS;
  }
}

function unregister(v: XenVcpu, type: number): number {
  switch (type) {
    case CallbackType.event:
    case CallbackType.failsafe:
    case CallbackType.syscall:
    case CallbackType.sysenter:
    case CallbackType.syscall32:
      return -EINVAL;
    case CallbackType.nmi:
      setTrap(v, Vector.nmi, 0, 0, 0, 0);
      return 0;
    default:
      return -ENOSYS;
  }
}

function registerNmi(v: XenVcpu, lo: number, hi: number): void {
  setTrap(v, Vector.nmi, TrapFlag.maskEvents, Selector.flatCode64, lo, hi);
}

/** nmi_op(cmd, argument*): 0 register_callback {u64 address; u64 pad}, 1 unregister_callback. */
export function nmiOp(ctx: CallContext): number {
  switch (ctx.argLo[0]) {
    case 0: {
      const at = ctx.readIndex(ctx.argLo[1], ctx.argHi[1], 16);
      if (at === -1) return -EFAULT;
      const hi = ctx.mem.u32[at + 1];
      if (!isCanonical(hi)) return -EINVAL;
      registerNmi(ctx.vcpu, ctx.mem.u32[at], hi);
      return 0;
    }
    case 1:
      setTrap(ctx.vcpu, Vector.nmi, 0, 0, 0, 0);
      return 0;
    default:
      return -ENOSYS;
  }
}
