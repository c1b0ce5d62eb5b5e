// SPDX-License-Identifier: MIT
// Hypercall xen_version: what the hypervisor says about itself and its features (public/version.h, public/features.h).

import type { CallContext } from './call-context.ts';
import { EFAULT, EINVAL, ENODATA, ENOSYS } from './errno.ts';
import { VmAssist } from './vm-assist.ts';

/** Version of the ABI implemented: guests choose their behaviour by it. */
export const XEN_MAJOR = 4;
export const XEN_MINOR = 17;

const Version = {
  version: 0,
  extraversion: 1,
  compileInfo: 2,
  capabilities: 3,
  changeset: 4,
  platformParameters: 5,
  getFeatures: 6,
  pagesize: 7,
  guestHandle: 8,
  commandline: 9,
  buildId: 10,
} as const;

/** Bits of feature submap 0. */
const Feature = {
  paePgdirAbove4gb: 4,
  mmuPtUpdatePreserveAd: 5,
  highmemAssist: 6,
  gnttabMapAvailBits: 7,
  memoryOpVnodeSupported: 13,
  directMapped: 17,
} as const;
const ALWAYS =
  (1 << Feature.mmuPtUpdatePreserveAd) |
  (1 << Feature.highmemAssist) |
  (1 << Feature.gnttabMapAvailBits) |
  (1 << Feature.memoryOpVnodeSupported) |
  (1 << Feature.directMapped);

/** Where Xen's part of the address space begins. */
const HYPERVISOR_START_HI = 0xffff8000;

/** xen_version(cmd, argument*). XENVER_version is also the guests' cheapest call to get pending events delivered. */
export function xenVersion(ctx: CallContext): number {
  const lo = ctx.argLo[1];
  const hi = ctx.argHi[1];
  switch (ctx.argLo[0]) {
    case Version.version:
      return (XEN_MAJOR << 16) | XEN_MINOR;
    case Version.extraversion:
      return strings(ctx, lo, hi, [['.0-paravane', 16]]);
    case Version.compileInfo:
      return strings(ctx, lo, hi, [
        ['TypeScript', 64],
        ['paravane', 16],
        ['', 32],
        ['', 32],
      ]);
    case Version.capabilities:
      return strings(ctx, lo, hi, [['xen-3.0-x86_64 ', 1024]]);
    case Version.changeset:
      return strings(ctx, lo, hi, [['unavailable', 64]]);
    case Version.platformParameters:
      return words(ctx, lo, hi, 0, HYPERVISOR_START_HI);
    case Version.getFeatures: {
      const at = ctx.guest.copyIn(lo, hi, 8);
      if (at === -1) return -EFAULT;
      if (ctx.mem.u32[at >>> 2] !== 0) return -EINVAL;
      const extended = ctx.domain.assists(VmAssist.paeExtendedCr3) ? 1 << Feature.paePgdirAbove4gb : 0;
      return words(ctx, lo, hi, 0, ALWAYS | extended);
    }
    case Version.pagesize:
      return 4096;
    case Version.guestHandle:
      return ctx.guest.copyOut(lo, hi, ctx.domain.uuid) ? 0 : -EFAULT;
    case Version.commandline:
      return strings(ctx, lo, hi, [['', 1024]]);
    case Version.buildId:
      return -ENODATA;
    default:
      return -ENOSYS;
  }
}

/** Writes fields of fixed size, each an ASCII string padded with NULs to its end. */
function strings(ctx: CallContext, lo: number, hi: number, fields: readonly (readonly [string, number])[]): number {
  const image = new Uint8Array(fields.reduce((sum, [, size]) => sum + size, 0));
  let at = 0;
  for (const [text, size] of fields) {
    for (let i = 0; i < text.length; i++) image[at + i] = text.charCodeAt(i);
    at += size;
  }
  return ctx.guest.copyOut(lo, hi, image) ? 0 : -EFAULT;
}

/** Writes two u32. */
function words(ctx: CallContext, lo: number, hi: number, first: number, second: number): number {
  return ctx.guest.copyOut(lo, hi, new Uint8Array(new Uint32Array([first, second]).buffer)) ? 0 : -EFAULT;
}
