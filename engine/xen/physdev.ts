// SPDX-License-Identifier: MIT
// Hypercall physdev_op for a guest without devices: virtual IOPL and the I/O permission bitmap (public/physdev.h).

import type { CallContext } from './call-context.ts';
import { advanceHi, advanceLo } from './context.ts';
import { EFAULT, EINVAL, ENOSYS } from './errno.ts';

const SET_IOPL = 6;
const SET_IOBITMAP = 7;
const MAX_PORTS = 65536;

/** physdev_op(cmd, argument*) */
export function physdevOp(ctx: CallContext): number {
  return run(ctx, ctx.argLo[0], ctx.argLo[1], ctx.argHi[1]);
}

/** physdev_op_compat({u32 cmd; argument @8}*) of guests with an interface version below 0x00030202. */
export function physdevOpCompat(ctx: CallContext): number {
  const lo = ctx.argLo[0];
  const hi = ctx.argHi[0];
  const at = ctx.readIndex(lo, hi, 4);
  if (at === -1) return -EFAULT;
  return run(ctx, ctx.mem.u32[at], advanceLo(lo, 8), advanceHi(lo, hi, 8));
}

function run(ctx: CallContext, command: number, lo: number, hi: number): number {
  const v = ctx.vcpu;
  switch (command) {
    case SET_IOPL: {
      const at = ctx.readIndex(lo, hi, 4);
      if (at === -1) return -EFAULT;
      const iopl = ctx.mem.u32[at];
      if (iopl > 3) return -EINVAL;
      v.iopl = iopl;
      return 0;
    }
    case SET_IOBITMAP: {
      // {u8 *bitmap; u32 nr_ports}: the bitmap itself is read at each use.
      const at = ctx.readIndex(lo, hi, 16);
      if (at === -1) return -EFAULT;
      const ports = ctx.mem.u32[at + 2];
      if (ports > MAX_PORTS) return -EINVAL;
      v.ioBitmapLo = ctx.mem.u32[at];
      v.ioBitmapHi = ctx.mem.u32[at + 1];
      v.ioBitmapPorts = ports;
      return 0;
    }
    default:
      return -ENOSYS;
  }
}
