// SPDX-License-Identifier: MIT
// Hypercall set_timer_op and the time-related sub-operations of vcpu_op (public/xen.h, public/vcpu.h).

import { s64Number, u64Number, wordHi, wordLo, type HypercallContext } from './context.ts';
import { EFAULT, EINVAL } from './errno.ts';

/** set_timer_op(absolute ns): hypercall 15. A 64-bit guest passes one word, a 32-bit one two. */
export function setTimerOp(ctx: HypercallContext): number {
  const lo = ctx.argLo[0];
  const hi = ctx.wordSize === 8 ? ctx.argHi[0] : ctx.argLo[1];
  ctx.domain.time.setTimer(ctx.vcpu.id, s64Number(lo, hi));
  return 0;
}

/** vcpu_op 4, get_runstate_info: writes the structure at (lo, hi). */
export function vcpuGetRunstateInfo(ctx: HypercallContext, vcpu: number, lo: number, hi: number): number {
  return ctx.guest.copyOut(lo, hi, ctx.domain.time.runstateImage(vcpu)) ? 0 : -EFAULT;
}

/** vcpu_op 5, register_runstate_memory_area {union of u64 and pointer}. */
export function vcpuRegisterRunstateArea(ctx: HypercallContext, vcpu: number, lo: number, hi: number): number {
  const at = ctx.guest.copyIn(lo, hi, 8);
  if (at < 0) return -EFAULT;
  return ctx.domain.time.registerRunstateArea(vcpu, wordLo(ctx, at), wordHi(ctx, at));
}

/** vcpu_op 6, set_periodic_timer {u64 period in ns}. */
export function vcpuSetPeriodicTimer(ctx: HypercallContext, vcpu: number, lo: number, hi: number): number {
  const at = ctx.guest.copyIn(lo, hi, 8);
  if (at < 0) return -EFAULT;
  return ctx.domain.time.startPeriodic(vcpu, u64Number(ctx.mem.u32[at >>> 2], ctx.mem.u32[(at >>> 2) + 1]));
}

/** vcpu_op 7, stop_periodic_timer. */
export function vcpuStopPeriodicTimer(ctx: HypercallContext, vcpu: number): number {
  ctx.domain.time.stopPeriodic(vcpu);
  return 0;
}

/** vcpu_op 8, set_singleshot_timer {u64 absolute ns; u32 flags}: own vCPU only. The FUTURE flag is ignored, as in current Xen. */
export function vcpuSetSingleshotTimer(ctx: HypercallContext, vcpu: number, lo: number, hi: number): number {
  if (vcpu !== ctx.vcpu.id) return -EINVAL;
  const at = ctx.guest.copyIn(lo, hi, ctx.wordSize === 8 ? 16 : 12);
  if (at < 0) return -EFAULT;
  ctx.domain.time.startSingleshot(vcpu, s64Number(ctx.mem.u32[at >>> 2], ctx.mem.u32[(at >>> 2) + 1]));
  return 0;
}

/** vcpu_op 9, stop_singleshot_timer: own vCPU only. */
export function vcpuStopSingleshotTimer(ctx: HypercallContext, vcpu: number): number {
  if (vcpu !== ctx.vcpu.id) return -EINVAL;
  ctx.domain.time.stopSingleshot(vcpu);
  return 0;
}

/** vcpu_op 13, register_vcpu_time_memory_area {union of u64 and pointer}. */
export function vcpuRegisterTimeArea(ctx: HypercallContext, vcpu: number, lo: number, hi: number): number {
  const at = ctx.guest.copyIn(lo, hi, 8);
  if (at < 0) return -EFAULT;
  return ctx.domain.time.registerTimeArea(vcpu, wordLo(ctx, at), wordHi(ctx, at));
}
