// SPDX-License-Identifier: MIT
// Hypercalls event_channel_op and its old form: argument structures around EventChannels (public/event_channel.h).

import { DOMID_CONTROL, DOMID_SELF, advanceHi, advanceLo, u64Number, type HypercallContext } from './context.ts';
import { EFAULT, EINVAL, ENOENT, ENOSYS, EOPNOTSUPP, EPERM, ESRCH } from './errno.ts';
import { PortState } from './events.ts';

/** Sub-operations in numeric order, with the size of each argument structure in bytes (the same for both word sizes). */
const ARGUMENT_BYTES = [12, 12, 12, 4, 4, 24, 8, 8, 8, 4, 2, 24, 8, 8] as const;
const Op = {
  BindInterdomain: 0,
  BindVirq: 1,
  BindPirq: 2,
  Close: 3,
  Send: 4,
  Status: 5,
  AllocUnbound: 6,
  BindIpi: 7,
  BindVcpu: 8,
  Unmask: 9,
  Reset: 10,
  InitControl: 11,
  ExpandArray: 12,
  SetPriority: 13,
} as const;

/** Names of the sub-operations, for counters. */
export const EVENT_CHANNEL_OP_NAMES = [
  'bind_interdomain',
  'bind_virq',
  'bind_pirq',
  'close',
  'send',
  'status',
  'alloc_unbound',
  'bind_ipi',
  'bind_vcpu',
  'unmask',
  'reset',
  'init_control',
  'expand_array',
  'set_priority',
] as const;

const FIFO_CONTROL_BLOCK_BYTES = 72;
const PAGE_BYTES = 4096;

/** event_channel_op(cmd, argument*): hypercall 32. */
export function eventChannelOp(ctx: HypercallContext): number {
  return runOp(ctx, ctx.argLo[0], ctx.argLo[1], ctx.argHi[1]);
}

/** event_channel_op_compat({cmd, argument}*): hypercall 16, used by guests of interface version < 0x00030202. */
export function eventChannelOpCompat(ctx: HypercallContext): number {
  const lo = ctx.argLo[0];
  const hi = ctx.argHi[0];
  const at = ctx.guest.copyIn(lo, hi, 4);
  if (at < 0) return -EFAULT;
  return runOp(ctx, ctx.mem.u32[at >>> 2], advanceLo(lo, 4), advanceHi(lo, hi, 4));
}

function runOp(ctx: HypercallContext, cmd: number, lo: number, hi: number): number {
  const bytes = ARGUMENT_BYTES[cmd];
  if (bytes === undefined) return -ENOSYS;
  const at = ctx.guest.copyIn(lo, hi, bytes);
  if (at < 0) return -EFAULT;
  const { events } = ctx.domain;
  const u16 = (offset: number): number => ctx.mem.u16[(at + offset) >>> 1];
  const u32 = (offset: number): number => ctx.mem.u32[(at + offset) >>> 2];
  /** Stores an allocated port in the argument, or passes the error on. */
  const giveBack = (result: number, offset: number): number => {
    if (result < 0) return result;
    ctx.mem.u32[(at + offset) >>> 2] = result;
    const ok = ctx.guest.copyOut(
      advanceLo(lo, offset),
      advanceHi(lo, hi, offset),
      ctx.mem.u8.subarray(at + offset, at + offset + 4),
    );
    return ok ? 0 : -EFAULT;
  };

  switch (cmd) {
    case Op.BindInterdomain: {
      const remote = u16(0) === DOMID_SELF ? events.domid : u16(0);
      if (remote === events.domid) return giveBack(events.bindLoopback(u32(4)), 8);
      // Domain 0 exists but offers no unbound ports: our back ends always bind to the guest's.
      return remote === DOMID_CONTROL ? -EINVAL : -ESRCH;
    }
    case Op.BindVirq:
      return giveBack(events.bindVirq(u32(0), u32(4)), 8);
    case Op.BindPirq:
      // A domain without devices has been given no interrupt.
      return u32(0) > 255 ? -EINVAL : -EPERM;
    case Op.Close:
      return events.close(u32(0));
    case Op.Send:
      return events.send(u32(0));
    case Op.Status: {
      const refused = refuseForeign(ctx, u16(0));
      if (refused !== 0) return refused;
      if (u32(4) > events.portLimit) return -EINVAL;
      fillStatus(ctx, at, u32(4));
      return ctx.guest.copyOut(lo, hi, ctx.mem.u8.subarray(at, at + bytes)) ? 0 : -EFAULT;
    }
    case Op.AllocUnbound: {
      const refused = refuseForeign(ctx, u16(0));
      if (refused !== 0) return refused;
      return giveBack(events.allocUnbound(u16(2) === DOMID_SELF ? events.domid : u16(2)), 4);
    }
    case Op.BindIpi:
      return giveBack(events.bindIpi(u32(0)), 4);
    case Op.BindVcpu:
      return events.bindVcpu(u32(0), u32(4));
    case Op.Unmask:
      return events.unmask(u32(0));
    case Op.Reset: {
      const refused = refuseForeign(ctx, u16(0));
      if (refused !== 0) return refused;
      events.closeAll();
      return 0;
    }
    case Op.InitControl: {
      // The FIFO ABI is not offered, but the arguments are checked first: guests tell "invalid" from "absent".
      if (u32(12) >= events.vcpuCount) return -ENOENT;
      if (u32(8) > PAGE_BYTES - FIFO_CONTROL_BLOCK_BYTES || (u32(8) & 7) !== 0) return -EINVAL;
      return frameExists(ctx, u32(0), u32(4)) ? -ENOSYS : -EINVAL;
    }
    case Op.ExpandArray:
      return -EOPNOTSUPP;
    default:
      // SetPriority: only the FIFO ABI has priorities.
      return u32(0) > events.portLimit ? -EINVAL : -ENOSYS;
  }
}

function frameExists(ctx: HypercallContext, lo: number, hi: number): boolean {
  const mfn = u64Number(lo, hi);
  return mfn <= 0xffffffff && ctx.mem.hostOf(mfn) !== 0;
}

/** 0 when the domain id names the caller, else the error Xen gives an unprivileged caller. */
function refuseForeign(ctx: HypercallContext, domid: number): number {
  if (domid === DOMID_SELF || domid === ctx.domain.domid) return 0;
  return domid === DOMID_CONTROL ? -EPERM : -ESRCH;
}

/** Fills {status @8, vcpu @12, union @16} of EVTCHNOP_status. */
function fillStatus(ctx: HypercallContext, at: number, port: number): void {
  const { data } = ctx.domain.events;
  const state = ctx.domain.events.stateOf(port);
  ctx.mem.u32[(at + 8) >>> 2] = state === PortState.Host ? PortState.Loopback : state;
  ctx.mem.u32[(at + 12) >>> 2] = state === PortState.Free ? 0 : data.vcpu[port];
  ctx.mem.u32[(at + 16) >>> 2] = 0;
  ctx.mem.u32[(at + 20) >>> 2] = 0;
  if (state === PortState.Virq) {
    ctx.mem.u32[(at + 16) >>> 2] = data.virq[port];
  } else if (state === PortState.Unbound || state === PortState.Loopback || state === PortState.Host) {
    ctx.mem.u16[(at + 16) >>> 1] = data.remoteDom[port];
    if (state !== PortState.Unbound) ctx.mem.u32[(at + 20) >>> 2] = data.remotePort[port];
  }
}
