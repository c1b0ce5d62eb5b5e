// SPDX-License-Identifier: MIT
// Hypercall vm_assist: per-domain switches of the ABI (public/xen.h, VMASST_*).

import type { CallContext } from './call-context.ts';
import { EINVAL, ENOSYS } from './errno.ts';

/** vm_assist types. */
export const VmAssist = {
  segments4gb: 0,
  segments4gbNotify: 1,
  writablePagetables: 2,
  paeExtendedCr3: 3,
  architecturalIopl: 4,
  runstateUpdateFlag: 5,
  m2pStrict: 32,
} as const;

/** vm_assist(cmd, type): 0 enable, 1 disable. The 4gb_segments types have no effect on a 64-bit Xen and are accepted. */
export function vmAssist(ctx: CallContext): number {
  const { domain } = ctx;
  const command = ctx.argLo[0];
  const type = ctx.argLo[1];
  if (command > 1) return -ENOSYS;
  const enable = command === 0;
  if (type === VmAssist.m2pStrict) {
    domain.m2pStrict = enable;
    return 0;
  }
  if (type > VmAssist.runstateUpdateFlag) return -EINVAL;
  domain.setAssist(type, enable);
  if (type === VmAssist.runstateUpdateFlag) domain.time.runstateUpdateFlag = enable;
  return 0;
}
