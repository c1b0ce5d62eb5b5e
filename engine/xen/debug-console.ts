// SPDX-License-Identifier: MIT
// Hypercall console_io: the hypervisor's own console, which early boot code writes to (public/xen.h, CONSOLEIO_*).

import type { CallContext } from './call-context.ts';
import { advanceHi, advanceLo } from './context.ts';
import { EFAULT, EINVAL, ENOSYS } from './errno.ts';

const CONSOLEIO_WRITE = 0;
const CONSOLEIO_READ = 1;
const CHUNK_BYTES = 4096;
/** Longest single write taken: a hostile count must not keep the vCPU here for hours. */
const MAX_WRITE_BYTES = 1 << 20;

/** console_io(cmd, count, buffer*): writing returns 0; there is never anything to read. */
export function consoleIo(ctx: CallContext): number {
  switch (ctx.argLo[0]) {
    case CONSOLEIO_WRITE: {
      const count = ctx.argLo[1];
      if (count > MAX_WRITE_BYTES) return -EINVAL;
      const lo = ctx.argLo[2];
      const hi = ctx.argHi[2];
      for (let done = 0; done < count; done += CHUNK_BYTES) {
        const bytes = Math.min(CHUNK_BYTES, count - done);
        const at = ctx.guest.copyIn(advanceLo(lo, done), advanceHi(lo, hi, done), bytes);
        if (at === -1) return -EFAULT;
        ctx.domain.host.consoleOut(ctx.mem.u8.slice(at, at + bytes));
      }
      return 0;
    }
    case CONSOLEIO_READ:
      return 0;
    default:
      return -ENOSYS;
  }
}
