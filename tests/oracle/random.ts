// SPDX-License-Identifier: MIT
// Seeded pseudo-random numbers for the case generator, and the values worth meeting more often than chance would.

/** Small fast counter-based generator (sfc32 construction): the same seed gives the same cases on every machine. */
export class Random {
  private a: number;
  private b: number;
  private c: number;
  private d: number;

  constructor(seed: number) {
    this.a = seed | 0;
    this.b = (seed ^ 0x9e3779b9) | 0;
    this.c = Math.floor(seed / 0x100000000) | 0;
    this.d = 1;
    for (let i = 0; i < 15; i++) this.u32();
  }

  u32(): number {
    const t = (((this.a + this.b) | 0) + this.d) | 0;
    this.d = (this.d + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = (this.c << 21) | (this.c >>> 11);
    this.c = (this.c + t) | 0;
    return t >>> 0;
  }

  /** 0 <= result < n, n <= 2^32. */
  below(n: number): number {
    return Math.floor((this.u32() * n) / 0x100000000);
  }

  /** True with the given probability. */
  chance(p: number): boolean {
    return this.u32() < p * 0x100000000;
  }

  /** One element, all equally likely. */
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }

  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }
}

// prettier-ignore
const INTEGERS: readonly bigint[] = [
  0n, 1n, 2n, 3n, 7n, 8n, 9n, 15n, 16n, 31n, 32n, 33n, 63n, 64n, 65n, 0x7en, 0x7fn, 0x80n, 0x81n, 0xfen, 0xffn, 0x100n,
  0x7ffen, 0x7fffn, 0x8000n, 0x8001n, 0xfffen, 0xffffn, 0x10000n, 0x7ffffffen, 0x7fffffffn, 0x80000000n, 0x80000001n,
  0xfffffffen, 0xffffffffn, 0x100000000n, 0x100000001n, 0x7ffffffffffffffen, 0x7fffffffffffffffn, 0x8000000000000000n,
  0x8000000000000001n, 0xfffffffffffffffen, 0xffffffffffffffffn, 0xffffffff80000000n, 0xffffffff7fffffffn,
  0xffffffffffffff80n, 0xffffffffffff8000n, 0x0101010101010101n, 0x8080808080808080n, 0x7f7f7f7f7f7f7f7fn,
  0x5555555555555555n, 0xaaaaaaaaaaaaaaaan, 0x00ff00ff00ff00ffn, 0x123456789abcdef0n,
];

/** A 64-bit integer: a boundary of some width, a small number, a run of bits, or anything. */
export function integer(r: Random): bigint {
  switch (r.below(6)) {
    case 0:
    case 1:
      return r.pick(INTEGERS);
    case 2:
      return BigInt(r.below(256));
    case 3: {
      const run = (1n << BigInt(1 + r.below(63))) - 1n;
      return BigInt.asUintN(64, run << BigInt(r.below(64)));
    }
    default:
      return r.u64();
  }
}

// prettier-ignore
const SINGLES: readonly number[] = [
  0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007fffff, 0x807fffff, 0x00800000, 0x80800000, 0x3f800000, 0xbf800000,
  0x3f000000, 0x3fc00000, 0x40200000, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x7f800001, 0xffa00000, 0x7fc00000,
  0xffc00000, 0x7fc12345, 0xff812345, 0x4f000000, 0xcf000000, 0x4effffff, 0x5f000000, 0xdf000000, 0x5effffff, 0x3f7fffff,
  0x3f800001, 0x40490fdb, 0x33800000, 0x4b000001, 0x4b800000,
];

/** Bits of a binary32 number. */
export function single(r: Random): number {
  switch (r.below(4)) {
    case 0:
    case 1:
      return r.pick(SINGLES);
    case 2:
      // Exponents near the middle, so that arithmetic meets rounding and cancellation rather than overflow.
      return (
        ((r.u32() & 0x80000000) |
          ((115 + r.below(30)) << 23) |
          (r.u32() & 0x007fffff & (r.chance(0.5) ? -1 : -4096))) >>>
        0
      );
    default:
      return r.u32();
  }
}

// prettier-ignore
const DOUBLES: readonly bigint[] = [
  0n, 0x8000000000000000n, 1n, 0x8000000000000001n, 0x000fffffffffffffn, 0x0010000000000000n, 0x8010000000000000n,
  0x3ff0000000000000n, 0xbff0000000000000n, 0x3fe0000000000000n, 0x3ff8000000000000n, 0x4004000000000000n,
  0x7fefffffffffffffn, 0xffefffffffffffffn, 0x7ff0000000000000n, 0xfff0000000000000n, 0x7ff0000000000001n,
  0xfff4000000000000n, 0x7ff8000000000000n, 0xfff8000000000000n, 0x7ff8123456789abcn, 0xfff0123456789abcn,
  0x41e0000000000000n, 0xc1e0000000000000n, 0x41dfffffffc00000n, 0x41dfffffffe00000n, 0x43e0000000000000n,
  0xc3e0000000000000n, 0x43dfffffffffffffn, 0x3fefffffffffffffn, 0x3ff0000000000001n, 0x400921fb54442d18n,
  0x47efffffe0000000n, 0x47efffffefffffffn, 0x36a0000000000000n, 0x3690000000000000n, 0x3810000000000000n,
  0x380fffffffffffffn, 0x4330000000000001n,
];

/** Bits of a binary64 number. */
export function double(r: Random): bigint {
  switch (r.below(4)) {
    case 0:
    case 1:
      return r.pick(DOUBLES);
    case 2: {
      const high = ((r.u32() & 0x80000000) | ((1008 + r.below(34)) << 20) | (r.u32() & 0xfffff)) >>> 0;
      return (BigInt(high) << 32n) | BigInt(r.chance(0.5) ? r.u32() : 0);
    }
    default:
      return r.u64();
  }
}

const EXTENDED: readonly (readonly [exponent: number, significand: bigint])[] = [
  [0x0000, 0n], // zero
  [0x0000, 1n], // smallest denormal
  [0x0000, 0x7fffffffffffffffn],
  [0x0000, 0x8000000000000000n], // pseudo-denormal
  [0x0001, 0x8000000000000000n], // smallest normal
  [0x3fff, 0x8000000000000000n], // 1
  [0x3fff, 0xc000000000000000n],
  [0x3fff, 0x8000000000000001n],
  [0x3ffe, 0xffffffffffffffffn],
  [0x3ffe, 0x8000000000000000n], // 0.5
  [0x4000, 0xa000000000000000n], // 2.5
  [0x4000, 0xc90fdaa22168c235n], // pi
  [0x400e, 0x8000000000000000n], // 2^15
  [0x401e, 0x8000000000000000n], // 2^31
  [0x401d, 0xffffffff00000000n],
  [0x403d, 0xffffffffffffffffn],
  [0x403e, 0x8000000000000000n], // 2^63
  [0x403e, 0xffffffffffffffffn],
  [0x3f80, 0x8000000000000000n], // near the end of binary32
  [0x3c00, 0x8000000000000000n], // near the end of binary64
  [0x3bcd, 0x8000000000000000n],
  [0x407f, 0x8000000000000000n],
  [0x407e, 0xffffff8000000000n],
  [0x43fe, 0xfffffffffffffc00n],
  [0x43ff, 0x8000000000000000n],
  [0x7ffe, 0xffffffffffffffffn], // largest
  [0x7fff, 0x8000000000000000n], // infinity
  [0x7fff, 0x8000000000000001n], // signalling NaN
  [0x7fff, 0xa000000000000000n],
  [0x7fff, 0xc000000000000000n], // indefinite, quiet NaN
  [0x7fff, 0xc123456789abcdefn],
  [0x7fff, 0x0000000000000000n], // pseudo-infinity: unsupported since the 80387
  [0x7fff, 0x4000000000000000n], // pseudo-NaN
  [0x3fff, 0x4000000000000000n], // unnormal
];

/** An 80-bit number as [sign and exponent, significand], unsupported encodings included. */
export function extended(r: Random): readonly [number, bigint] {
  const sign = r.chance(0.5) ? 0x8000 : 0;
  switch (r.below(8)) {
    case 0:
    case 1:
    case 2: {
      const [exponent, significand] = r.pick(EXTENDED);
      return [exponent | sign, significand];
    }
    case 3:
      // An integer, as programs convert them.
      return normalised(sign, BigInt.asUintN(64, integer(r)));
    case 4:
    case 5:
      return [(0x3fff - 40 + r.below(80)) | sign, r.u64() | 0x8000000000000000n];
    case 6:
      return [(0x3fff - 3 + r.below(8)) | sign, (r.u64() & 0xffffff0000000000n) | 0x8000000000000000n];
    default:
      return [r.below(0x8000) | sign, r.u64() | (r.chance(0.9) ? 0x8000000000000000n : 0n)];
  }
}

function normalised(sign: number, value: bigint): readonly [number, bigint] {
  if (value === 0n) return [sign, 0n];
  let exponent = 0x3fff + 63;
  while (value < 0x8000000000000000n) {
    value <<= 1n;
    exponent--;
  }
  return [exponent | sign, value];
}
