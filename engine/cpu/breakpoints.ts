// SPDX-License-Identifier: MIT
// The four breakpoints of the debug registers: which instruction addresses and data accesses they match (Intel SDM volume 3, 17.2).

/** Breakpoint types in DR7 (2 is I/O, which guests have not). */
const Type = { execute: 0, write: 1, access: 3 } as const;
/** Bytes by length field in DR7. */
const lengths = [1, 2, 8, 4] as const;

interface Breakpoint {
  /** Its bit in DR6. */
  readonly bit: number;
  readonly type: number;
  readonly first: bigint;
  readonly last: bigint;
}

export class Breakpoints {
  /** Enabled ones. */
  private active: readonly Breakpoint[] = [];
  /** DR6 bits of the data breakpoints that the current instruction has met. */
  met = 0;

  /** Takes the registers over: DR7, and DR0 to DR3 as halves. */
  set(control: number, lo: ArrayLike<number>, hi: ArrayLike<number>): void {
    this.active = [0, 1, 2, 3]
      .filter((n) => (control >>> (2 * n)) & 3)
      .map((n) => {
        const bytes = lengths[(control >>> (18 + 4 * n)) & 3]!;
        const address = (BigInt(hi[n]!) << 32n) | BigInt(lo[n]!);
        const first = address & ~BigInt(bytes - 1);
        return { bit: 1 << n, type: (control >>> (16 + 4 * n)) & 3, first, last: first + BigInt(bytes - 1) };
      });
  }

  get armed(): boolean {
    return this.active.length > 0;
  }

  /** Whether data accesses have to be looked at. */
  get watchesData(): boolean {
    return this.active.some((b) => b.type === Type.write || b.type === Type.access);
  }

  /** DR6 bits of the breakpoints on the instruction at an address. */
  onInstruction(address: bigint): number {
    return this.sum((b) => b.type === Type.execute && b.first === address);
  }

  /** Notes a data access. */
  access(address: bigint, bytes: number, write: boolean): void {
    const last = address + BigInt(bytes - 1);
    this.met |= this.sum(
      (b) => (b.type === Type.access || (write && b.type === Type.write)) && b.first <= last && address <= b.last,
    );
  }

  private sum(matches: (b: Breakpoint) => boolean): number {
    return this.active.reduce((bits, b) => (matches(b) ? bits | b.bit : bits), 0);
  }
}
