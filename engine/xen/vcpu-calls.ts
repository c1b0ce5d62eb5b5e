// SPDX-License-Identifier: MIT
// Small per-vCPU hypercalls: stack_switch and fpu_taskswitch.

import type { CallContext } from './call-context.ts';

/** stack_switch(ss, sp): where exceptions from user mode put their frame. */
export function stackSwitch(ctx: CallContext): number {
  const v = ctx.vcpu;
  v.kernelSs = (ctx.argLo[0] & 0xffff) | 3;
  v.kernelSpLo = ctx.argLo[1];
  v.kernelSpHi = ctx.argHi[1];
  return 0;
}

/** fpu_taskswitch(set): sets or clears the virtual CR0.TS. */
export function fpuTaskswitch(ctx: CallContext): number {
  ctx.vcpu.setTaskSwitched(ctx.argLo[0] !== 0);
  return 0;
}
