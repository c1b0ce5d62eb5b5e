// SPDX-License-Identifier: MIT
// The CPUID policy of PV guests: x86-64-v2 without XSAVE, random numbers, and Xen's own leaves (public/arch-x86/cpuid.h).

import { XEN_MAJOR, XEN_MINOR } from './version.ts';

/** What a guest is told about its processor. */
export interface CpuPolicy {
  /** Leaf 1 EAX: family, model, stepping. */
  readonly signature: number;
  /** Vendor string, 12 characters. */
  readonly vendor: string;
  /** Brand string, at most 47 characters. */
  readonly brand: string;
  readonly physicalAddressBits: number;
  /** Frequency of the guest's TSC. */
  readonly tscKhz: number;
  /** Announce fast REP MOVSB/STOSB (leaf 7 ERMS): these run in bulk here, so copies made with them are the fastest. */
  readonly fastStrings: boolean;
}

/**
 * Family 6 model 28 is an in-order processor: kernels know that it does not speculate - which is true here - and leave
 * out the retpolines and buffer flushes that would only cost time. All features come from the feature bits.
 */
export const defaultCpuPolicy: CpuPolicy = {
  signature: 0x000106ca,
  vendor: 'GenuineIntel',
  brand: 'Paravane virtual CPU (x86-64-v2)',
  physicalAddressBits: 40,
  tscKhz: 1_000_000,
  fastStrings: false,
};

const bits = (...positions: number[]): number => positions.reduce((word, bit) => (word | (1 << bit)) >>> 0, 0);

/** Leaf 1 EDX: FPU TSC MSR PAE CX8 APIC SEP CMOV CLFLUSH MMX FXSR SSE SSE2. */
const LEAF1_EDX = bits(0, 4, 5, 6, 8, 9, 11, 15, 19, 23, 24, 25, 26);
/** Leaf 1 ECX: SSE3 SSSE3 CX16 SSE4.1 SSE4.2 POPCNT RDRAND HYPERVISOR. */
const LEAF1_ECX = bits(0, 9, 13, 19, 20, 23, 30, 31);
/** Leaf 0x80000001 EDX: SYSCALL NX LM. */
const EXTENDED_EDX = bits(11, 20, 29);
/** Leaf 0x80000001 ECX: LAHF in 64-bit mode. */
const EXTENDED_ECX = bits(0);
const LEAF7_EBX_ERMS = bits(9);
const LEAF7_EBX_RDSEED = bits(18);
const CLFLUSH_LINE_QUADWORDS = 8;

const MAX_BASIC_LEAF = 7;
const MAX_EXTENDED_LEAF = 0x80000008;
const XEN_BASE = 0x40000000;
const MAX_XEN_LEAF = XEN_BASE + 5;
/** Leaf 0x40000002 ECX: MMU_PT_UPDATE_PRESERVE_AD is supported. */
const XEN_PRESERVE_AD = 1;

/** Executes CPUID for a PV guest: writes eax, ebx, ecx, edx to `out`. Leaves that do not exist are zero. */
export function cpuid(policy: CpuPolicy, leaf: number, subleaf: number, vcpu: number, out: Uint32Array): void {
  out.fill(0);
  leaf >>>= 0;
  if (leaf >= 0x80000000) extended(policy, leaf, out);
  else if (leaf >= XEN_BASE) xen(policy, leaf, subleaf, out);
  else basic(policy, leaf, subleaf, vcpu, out);
}

function basic(policy: CpuPolicy, leaf: number, subleaf: number, vcpu: number, out: Uint32Array): void {
  switch (leaf) {
    case 0:
      out[0] = MAX_BASIC_LEAF;
      out[1] = characters(policy.vendor, 0);
      out[3] = characters(policy.vendor, 4);
      out[2] = characters(policy.vendor, 8);
      break;
    case 1:
      out[0] = policy.signature;
      out[1] = ((vcpu * 2) << 24) | (CLFLUSH_LINE_QUADWORDS << 8);
      out[2] = LEAF1_ECX;
      out[3] = LEAF1_EDX;
      break;
    case 2:
      // One round; descriptor 0xff: see leaf 4.
      out[0] = 0x0000ff01;
      break;
    case 4:
      cacheLeaf(subleaf, out);
      break;
    case 7:
      if (subleaf === 0) out[1] = LEAF7_EBX_RDSEED | (policy.fastStrings ? LEAF7_EBX_ERMS : 0);
      break;
    default:
  }
}

/** Deterministic cache parameters. Sizes steer only block sizes of copy routines in guests. */
const CACHES: readonly { type: number; level: number; ways: number; sets: number }[] = [
  { type: 1, level: 1, ways: 8, sets: 64 },
  { type: 2, level: 1, ways: 8, sets: 64 },
  { type: 3, level: 2, ways: 16, sets: 1024 },
];

function cacheLeaf(subleaf: number, out: Uint32Array): void {
  const cache = CACHES[subleaf];
  if (cache === undefined) return;
  const selfInitialising = 0x100;
  const lineBytes = 64;
  out[0] = cache.type | (cache.level << 5) | selfInitialising;
  out[1] = ((cache.ways - 1) << 22) | (lineBytes - 1);
  out[2] = cache.sets - 1;
}

function extended(policy: CpuPolicy, leaf: number, out: Uint32Array): void {
  switch (leaf) {
    case 0x80000000:
      out[0] = MAX_EXTENDED_LEAF;
      break;
    case 0x80000001:
      out[2] = EXTENDED_ECX;
      out[3] = EXTENDED_EDX;
      break;
    case 0x80000002:
    case 0x80000003:
    case 0x80000004:
      for (let n = 0; n < 4; n++) out[n] = characters(policy.brand, (leaf - 0x80000002) * 16 + n * 4);
      break;
    case 0x80000006:
      // L2: 1 MiB, 16 ways (encoded 8), 64-byte lines.
      out[2] = (1024 << 16) | (8 << 12) | 64;
      break;
    case 0x80000008:
      out[0] = (48 << 8) | policy.physicalAddressBits;
      break;
    default:
  }
}

function xen(policy: CpuPolicy, leaf: number, subleaf: number, out: Uint32Array): void {
  switch (leaf) {
    case XEN_BASE:
      out[0] = MAX_XEN_LEAF;
      out[1] = characters('XenVMMXenVMM', 0);
      out[2] = characters('XenVMMXenVMM', 4);
      out[3] = characters('XenVMMXenVMM', 8);
      break;
    case XEN_BASE + 1:
      out[0] = (XEN_MAJOR << 16) | XEN_MINOR;
      break;
    case XEN_BASE + 2:
      out[0] = 1;
      out[1] = XEN_BASE;
      out[2] = XEN_PRESERVE_AD;
      break;
    case XEN_BASE + 3:
      timeLeaf(policy, subleaf, out);
      break;
    case XEN_BASE + 5:
      if (subleaf === 0) out[1] = policy.physicalAddressBits;
      break;
    default:
  }
}

/** The guest's TSC: never emulated (mode 2), counting at `tscKhz` and equal to system time at 1 GHz. */
function timeLeaf(policy: CpuPolicy, subleaf: number, out: Uint32Array): void {
  if (subleaf === 0) {
    out[1] = 2;
    out[2] = policy.tscKhz;
  } else if (subleaf === 1) {
    out[2] = 0x80000000;
    out[3] = 1;
  } else if (subleaf === 2) {
    out[0] = policy.tscKhz;
  }
}

/** Four characters of a string as a little-endian word; NULs behind its end. */
function characters(text: string, at: number): number {
  let word = 0;
  for (let n = 0; n < 4; n++) word |= (at + n < text.length ? text.charCodeAt(at + n) : 0) << (8 * n);
  return word >>> 0;
}
