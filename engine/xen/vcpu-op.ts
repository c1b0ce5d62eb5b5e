// SPDX-License-Identifier: MIT
// Hypercall vcpu_op: bringing vCPUs up and down, their timers and registered memory areas (public/vcpu.h).

import type { CallContext } from './call-context.ts';
import { EEXIST, EFAULT, EINVAL, ENOENT, ENOSYS, ENXIO } from './errno.ts';
import {
  vcpuGetRunstateInfo,
  vcpuRegisterRunstateArea,
  vcpuRegisterTimeArea,
  vcpuSetPeriodicTimer,
  vcpuSetSingleshotTimer,
  vcpuStopPeriodicTimer,
  vcpuStopSingleshotTimer,
} from './time-op.ts';
import { GUEST_CONTEXT_BYTES, initialiseVcpu } from './vcpu-start.ts';
import type { XenVcpu } from './vcpu-state.ts';

const VcpuOp = {
  initialise: 0,
  up: 1,
  down: 2,
  isUp: 3,
  getRunstateInfo: 4,
  registerRunstateArea: 5,
  setPeriodicTimer: 6,
  stopPeriodicTimer: 7,
  setSingleshotTimer: 8,
  stopSingleshotTimer: 9,
  registerVcpuInfo: 10,
  sendNmi: 11,
  getPhysid: 12,
  registerTimeArea: 13,
} as const;

const VCPU_INFO_BYTES = 64;
const PAGE_BYTES = 4096;

/** vcpu_op(cmd, vcpu, argument*). A vCPU that does not exist is -ENOENT: guests count their vCPUs that way. */
export function vcpuOp(ctx: CallContext): number {
  const { domain } = ctx;
  const id = ctx.argLo[1];
  const v = domain.vcpus[id];
  if (v === undefined) return -ENOENT;
  const lo = ctx.argLo[2];
  const hi = ctx.argHi[2];
  switch (ctx.argLo[0]) {
    case VcpuOp.initialise: {
      if (v.info === 0) return -EINVAL;
      const at = ctx.guest.copyIn(lo, hi, GUEST_CONTEXT_BYTES);
      if (at === -1) return -EFAULT;
      if (v.initialised) return -EEXIST;
      return initialiseVcpu(domain, v, at);
    }
    case VcpuOp.up:
      if (!v.initialised) return -EINVAL;
      domain.sched.bringUp(id);
      return 0;
    case VcpuOp.down:
      domain.sched.takeDown(id);
      return 0;
    case VcpuOp.isUp:
      return domain.sched.isUp(id) ? 1 : 0;
    case VcpuOp.getRunstateInfo:
      return vcpuGetRunstateInfo(ctx, id, lo, hi);
    case VcpuOp.registerRunstateArea:
      return vcpuRegisterRunstateArea(ctx, id, lo, hi);
    case VcpuOp.setPeriodicTimer:
      return vcpuSetPeriodicTimer(ctx, id, lo, hi);
    case VcpuOp.stopPeriodicTimer:
      return vcpuStopPeriodicTimer(ctx, id);
    case VcpuOp.setSingleshotTimer:
      return vcpuSetSingleshotTimer(ctx, id, lo, hi);
    case VcpuOp.stopSingleshotTimer:
      return vcpuStopSingleshotTimer(ctx, id);
    case VcpuOp.registerVcpuInfo:
      return registerVcpuInfo(ctx, v, lo, hi);
    case VcpuOp.sendNmi:
      v.nmiPending = true;
      domain.sched.wakeVcpu(id);
      return 0;
    case VcpuOp.getPhysid:
      return -EINVAL;
    case VcpuOp.registerTimeArea:
      return vcpuRegisterTimeArea(ctx, id, lo, hi);
    default:
      return -ENOSYS;
  }
}

/** register_vcpu_info {u64 mfn; u32 offset; u32}: only for the caller or a vCPU that is down. */
function registerVcpuInfo(ctx: CallContext, v: XenVcpu, lo: number, hi: number): number {
  const { domain } = ctx;
  const at = ctx.readIndex(lo, hi, 16);
  if (at === -1) return -EFAULT;
  const { u32 } = ctx.mem;
  const mfn = u32[at] + u32[at + 1] * 0x100000000;
  const offset = u32[at + 2];
  if (offset > PAGE_BYTES - VCPU_INFO_BYTES) return -ENXIO;
  if (v !== ctx.vcpu && domain.sched.isUp(v.id)) return -EINVAL;
  // Held as long as the vCPU uses it: the frame must not become a page table.
  if (!domain.pages.isGuest(mfn) || domain.mmu.takeWritable(mfn) !== 0) return -EINVAL;
  const result = domain.events.registerVcpuInfo(v.id, ctx.mem.hostOf(mfn) + offset);
  if (result !== 0) domain.mmu.dropType(mfn);
  else domain.time.publishTimeInfo(v.id);
  return result;
}
