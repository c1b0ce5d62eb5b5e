// SPDX-License-Identifier: MIT
// The generated fast paths against the code they stand in for: two machines take the same random steps and must stay the same.

import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { buildInterpreter } from '../../cpu/interpreter.ts';
import type { InterpreterCode } from '../../cpu/vcpu.ts';
import { DOMID_SELF } from '../context.ts';
import { Gpr } from '../guest-cpu.ts';
import { buildFastPaths } from './hooks.ts';
import { address, SMALL_OTHER, SMALL_PAGES, SmallMachine, SmallTable } from './small-machine.ts';

/** Code page: an instruction every 16 bytes, then a jump to itself, which also stands at every entry point. */
const CODE = 2;
const STAY = [0xeb, 0xfe];
const instructions = {
  syscall: [0x0f, 0x05],
  load: [0x48, 0x8b, 0x03],
  store: [0x48, 0x89, 0x03],
  store32: [0x89, 0x03],
  storeByte: [0x88, 0x03],
  exchange: [0x48, 0x87, 0x03],
  clearWritable: [0xf0, 0x80, 0x23, 0xfd],
  undefined: [0x0f, 0x0b],
  iretq: [0x48, 0xcf],
} as const;
type InstructionName = keyof typeof instructions;
const names = Object.keys(instructions) as InstructionName[];
const at = (name: InstructionName): bigint => address(CODE, names.indexOf(name) * 16);
const HANDLER = {
  syscall: 0x800,
  event: 0x810,
  pageFault: 0x820,
  invalid: 0x830,
  protection: 0x840,
  nmi: 0x850,
} as const;
const handler = (name: keyof typeof HANDLER): bigint => address(CODE, HANDLER[name]);

const stays = new Set<bigint>([
  ...Object.values(HANDLER).map((offset) => address(CODE, offset)),
  ...names.map((name) => at(name) + BigInt(instructions[name].length)),
]);

/** Pages for stacks, frames and lists. */
const STACK = 6;
const FRAME = 10;
const LIST = 12;
const GDT = 14;

const CALL = {
  mmuUpdate: 1,
  stackSwitch: 3,
  multicall: 13,
  updateVaMapping: 14,
  iret: 23,
  setSegmentBase: 25,
  mmuext: 26,
};

let code: InterpreterCode;

beforeAll(() => {
  const { bytes, hostOps } = buildInterpreter({ hooks: buildFastPaths });
  code = { module: new WebAssembly.Module(bytes as Uint8Array<ArrayBuffer>), hostOps };
});

/** xorshift32: the same numbers for both machines. */
class Dice {
  private state: number;

  constructor(seed: number) {
    this.state = seed;
  }

  next(): number {
    this.state ^= this.state << 13;
    this.state ^= this.state >>> 17;
    this.state ^= this.state << 5;
    return this.state >>> 0;
  }

  below(n: number): number {
    return this.next() % n;
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  of<T>(...values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }

  word(): bigint {
    return (BigInt(this.next()) << 32n) | BigInt(this.next());
  }
}

class Pair {
  readonly slow = new SmallMachine(code, false);
  readonly fast = new SmallMachine(code, true);

  both(action: (machine: SmallMachine) => void): void {
    action(this.slow);
    action(this.fast);
  }

  setUp(): void {
    this.both((m) => {
      for (const name of names) m.writeBytes(CODE, names.indexOf(name) * 16, [...instructions[name], ...STAY]);
      for (const offset of Object.values(HANDLER)) m.writeBytes(CODE, offset, STAY);
      m.write(GDT, 6 * 8, 0x00affb000000ffffn, 0x00cff3000000ffffn, 0x00cffb000000ffffn, 0x00affa000000ffffn);
      m.write(GDT, 2 * 8, 0x10cff3345678ffffn);
      // The GDT page must not be mapped writable.
      m.hypercall(CALL.updateVaMapping, address(GDT), m.entry(GDT, 0x25), 0n);
      m.hypercall(CALL.updateVaMapping, SMALL_OTHER + BigInt(GDT * 4096), 0n, 0n);
      m.write(LIST, 0, BigInt(m.mfn(GDT)));
      expect(m.hypercall(2, address(LIST), 512n)).toBe(0n);
      const userL4 = BigInt(m.mfn(SmallTable.userL4));
      m.write(LIST, 0, 3n, BigInt(m.mfn(SmallTable.spareL4)), 0n, 3n, userL4, 0n, 15n, userL4, 0n);
      expect(m.hypercall(CALL.mmuext, address(LIST), 3n, 0n, BigInt(DOMID_SELF))).toBe(0n);
      m.hypercall(CALL.stackSwitch, 0xe02bn, address(STACK, 0xff0));
      m.write(LIST, 0, ...trap(14, handler('pageFault'), 4), ...trap(6, handler('invalid'), 0));
      m.write(LIST, 32, ...trap(13, handler('protection'), 4), ...trap(2, handler('nmi'), 4), 0n, 0n);
      expect(m.hypercall(0, address(LIST))).toBe(0n);
      m.hypercall(21, 0n, 2n);
      const { syscallCallback, eventCallback } = m.vcpu;
      Object.assign(eventCallback, { lo: Number(handler('event')), hi: 0, maskEvents: true });
      Object.assign(syscallCallback, { lo: Number(handler('syscall')), hi: 0, maskEvents: true });
    });
  }
}

function trap(vector: number, entry: bigint, flags: number): [bigint, bigint] {
  return [BigInt(vector | (flags << 8) | (0xe033 << 16)), entry];
}

/** An L1 entry: mostly something a kernel would write. */
function someEntry(dice: Dice): (m: SmallMachine) => bigint {
  const pfn = dice.chance(80) ? 16 + dice.below(20) : dice.below(SMALL_PAGES);
  const flags = dice.of(0n, 0x25n, 0x27n, 0x65n, 0x67n, 0x21n, 0x23n, 5n, 0x66n, (1n << 63n) | 0x27n, 0x127n, 0xa7n);
  const frame = dice.chance(95) ? undefined : dice.of(0xffffffn, 0x100n + BigInt(SMALL_PAGES) + 3n, 1n << 39n);
  return (m) => ((frame ?? BigInt(m.mfn(pfn))) << 12n) | flags;
}

/** Machine address of an entry of one of the L1 tables, among those that code, stacks and lists do not need. */
function someSlot(dice: Dice): (m: SmallMachine) => bigint {
  const table = dice.chance(95) ? dice.of(SmallTable.l1, SmallTable.otherL1) : dice.of(SmallTable.l2, 20, 5);
  const index = dice.chance(95) ? 16 + dice.below(30) : 64 + dice.below(400);
  const low = dice.of(0, 0, 0, 0, 2, 2, 3, 1, 4);
  return (m) => BigInt(m.mfn(table) * 4096 + index * 8 + low);
}

type Arguments = (m: SmallMachine) => readonly bigint[];

/** A hypercall's number and arguments; what it needs in memory is written from `offset` of the list page. */
function someCall(dice: Dice, offset: number): { number: number; args: Arguments } {
  const number = dice.of(CALL.mmuUpdate, CALL.stackSwitch, CALL.updateVaMapping, CALL.setSegmentBase, CALL.mmuext, 17);
  switch (number) {
    case CALL.mmuUpdate: {
      const requests = Array.from({ length: dice.below(4) }, () => [someSlot(dice), someEntry(dice)] as const);
      const done = dice.chance(90) ? 0n : address(LIST, 0xff0);
      const domain = BigInt(dice.chance(95) ? DOMID_SELF : 0);
      return {
        number,
        args: (m) => {
          requests.forEach(([slot, entry], n) => m.write(LIST, offset + 16 * n, slot(m), entry(m)));
          return [address(LIST, offset), BigInt(requests.length), done, domain];
        },
      };
    }
    case CALL.stackSwitch: {
      const sp = dice.of(address(STACK, 0xff0), address(STACK, 0x8f8), address(STACK, 0x20), 0x123456n);
      return { number, args: () => [0xe02bn, sp] };
    }
    case CALL.updateVaMapping: {
      const page = dice.chance(95)
        ? address(16 + dice.below(30))
        : dice.of(0n, SMALL_OTHER, 1n << 40n, 0xffff800000000000n);
      const entry = someEntry(dice);
      const flags = BigInt(dice.below(3));
      return { number, args: (m) => [page, entry(m), flags] };
    }
    case CALL.setSegmentBase: {
      const which = BigInt(dice.below(5));
      const base = which === 3n ? dice.of(0x13n, 0x33n, 0n) : dice.of(dice.word() >> 20n, dice.word(), 0n);
      return { number, args: () => [which, base] };
    }
    case CALL.mmuext: {
      const root = dice.of(SmallTable.kernelL4, SmallTable.spareL4, SmallTable.userL4, 20);
      const ops = dice.of<readonly (readonly [bigint, number])[]>(
        [[5n, root]],
        [[15n, dice.of(SmallTable.userL4, SmallTable.spareL4)]],
        [
          [5n, root],
          [15n, SmallTable.userL4],
        ],
        [
          [6n, 0],
          [7n, 5],
        ],
        [
          [10n, 0],
          [11n, 5],
          [12n, 0],
        ],
      );
      return {
        number,
        args: (m) => {
          ops.forEach(([command, pfn], n) => m.write(LIST, offset + 24 * n, command, BigInt(m.mfn(pfn)), 0n));
          return [address(LIST, offset), BigInt(ops.length), 0n, BigInt(DOMID_SELF)];
        },
      };
    }
    default:
      return { number, args: () => [0n, 0n] };
  }
}

const argumentRegisters = [Gpr.rdi, Gpr.rsi, Gpr.rdx, Gpr.r10];

function hypercall(pair: Pair, dice: Dice): void {
  const isMulticall = dice.chance(30);
  if (!isMulticall) {
    const { number, args } = someCall(dice, dice.chance(95) ? 0 : 0xff8);
    pair.both((m) => {
      args(m).forEach((value, n) => m.cpu.setReg(argumentRegisters[n]!, value));
      m.cpu.setReg(Gpr.rax, BigInt(number));
      m.run(at('syscall'), stays);
    });
    return;
  }
  const calls = Array.from({ length: 1 + dice.below(4) }, (_, n) => someCall(dice, 0x400 + 0x100 * n));
  const list = dice.chance(95) ? 0 : dice.of(0xfc8, 4);
  pair.both((m) => {
    calls.forEach(({ number, args }, n) => {
      m.write(LIST, list + 64 * n, BigInt(number), 0xbadn, ...args(m));
    });
    m.cpu.setReg(Gpr.rdi, address(LIST, list));
    m.cpu.setReg(Gpr.rsi, BigInt(calls.length));
    m.cpu.setReg(Gpr.rax, BigInt(CALL.multicall));
    m.run(at('syscall'), stays);
  });
}

function iret(pair: Pair, dice: Dice, where: 'user' | 'kernel' | 'any'): void {
  const cs =
    where === 'user'
      ? dice.of(0x33n, 0xe033n, 0x33n)
      : where === 'kernel'
        ? 0xe030n
        : dice.of(0x10n, 0xe023n, 0x3bn, 0x4bn, 7n);
  const ss = where === 'any' ? dice.of(0x3bn, 0n, 0x13n, 0x43n) : dice.of(0x3bn, 0xe02bn, 0x13n);
  const flags = dice.of(0x202n, 0x2n, 0x246n, 0xed7n, 0x203n, 0x202n | (dice.word() & 0xfff000n), 0x302n);
  const control = dice.of(0n, 0x100n);
  const rip = dice.chance(95) ? handler('event') : dice.of(0x800000000000n, 0xffffffff80000000n);
  const values = [
    dice.word(),
    dice.word(),
    dice.word(),
    control,
    rip,
    cs,
    flags,
    address(STACK, 0x700 + dice.below(99)),
    ss,
  ];
  const offset = dice.chance(95) ? 0x200 : dice.of(0xff0, 0x204);
  pair.both((m) => {
    const host = m.host(FRAME) + offset;
    values.forEach((value, n) => {
      const target = n * 8 + offset < 4096 ? host + n * 8 : m.host(FRAME + 1) + offset + n * 8 - 4096;
      if (offset % 8 === 0) m.mem.view.setBigUint64(target, value, true);
      else m.mem.view.setBigUint64(host + n * 8, value, true);
    });
    m.cpu.setReg(Gpr.rsp, address(FRAME, offset));
    m.cpu.setReg(Gpr.rax, BigInt(CALL.iret));
    m.cpu.setReg(Gpr.rbx, address(18));
    m.run(at('syscall'), stays);
  });
}

function access(pair: Pair, dice: Dice): void {
  const name = dice.of<InstructionName>(
    'load',
    'store',
    'store32',
    'storeByte',
    'exchange',
    'clearWritable',
    'undefined',
  );
  const slot = address(
    dice.of(SmallTable.l1, SmallTable.otherL1),
    (16 + dice.below(30)) * 8 + dice.of(0, 0, 0, 0, 1, 4, 6),
  );
  const target = dice.of(
    slot,
    slot,
    address(16 + dice.below(30), 8 * dice.below(512)),
    SMALL_OTHER + 0x1008n,
    0x9000n,
    dice.word(),
  );
  const value = someEntry(dice);
  pair.both((m) => {
    m.cpu.setReg(Gpr.rbx, target);
    m.cpu.setReg(Gpr.rax, value(m));
    m.run(at(name), stays);
  });
}

/** The instruction IRETQ, as kernels use it to serialise: mostly to where it stands, in the same segments. */
function nativeIret(pair: Pair, dice: Dice): void {
  const [cs, ss] = dice.chance(80) ? [0xe033n, 0xe02bn] : [dice.of(0xe033n, 0x33n, 0x10n), dice.of(0x3bn, 0xe02bn, 0n)];
  const flags = dice.chance(90) ? dice.word() & ~0x100n : dice.word();
  const values = [handler('invalid'), cs, flags, address(STACK, 0x700 + dice.below(99)), ss];
  const offset = dice.chance(95) ? 0x300 + dice.below(16) : 0xfe8;
  pair.both((m) => {
    values.forEach((value, n) => {
      if (offset + 8 * n < 4096) m.write(FRAME, offset + 8 * n, value);
      else m.write(FRAME + 1, offset + 8 * n - 4096, value);
    });
    m.cpu.setReg(Gpr.rsp, address(FRAME, offset));
    m.run(at('iretq'), stays);
  });
}

function events(pair: Pair, dice: Dice): void {
  const [pending, mask] = [dice.of(0, 0, 0, 1, 0x80), dice.of(0, 1)];
  const masks = dice.chance(80);
  const nmi = dice.chance(3);
  pair.both((m) => {
    m.mem.u8[m.vcpu.info] = pending;
    m.mem.u8[m.vcpu.info + 1] = mask;
    m.vcpu.syscallCallback.maskEvents = masks;
    if (nmi) m.vcpu.nmiPending = true;
  });
}

function step(pair: Pair, dice: Dice): void {
  const isKernel = pair.slow.vcpu.kernelMode;
  const sp = dice.of(address(STACK, 0x800), address(STACK, 0x7f8 + 5), address(STACK, 0x18), address(STACK + 1, 0xff0));
  pair.both((m) => m.cpu.setReg(Gpr.rsp, sp));
  const choice = dice.below(100);
  if (choice < 10) events(pair, dice);
  else if (choice < 35) access(pair, dice);
  else if (choice < 40) nativeIret(pair, dice);
  else if (!isKernel) pair.both((m) => m.run(at('syscall'), stays));
  else if (choice < 75) hypercall(pair, dice);
  else iret(pair, dice, choice < 92 ? 'user' : choice < 98 ? 'kernel' : 'any');
}

/** Like toEqual, but fast for large arrays that are the same. */
function expectSame(what: string, got: unknown, expected: unknown): void {
  if (got instanceof Uint8Array && expected instanceof Uint8Array) {
    if (Buffer.compare(got, expected) === 0) return;
    const first = got.findIndex((byte, i) => byte !== expected[i]);
    expect(got[first], `${what} at 0x${first.toString(16)}`).toBe(expected[first]);
  } else expect(got, what).toEqual(expected);
}

const STEPS = 1000;

describe('fast paths', () => {
  it.each([1, 2, 3, 4])('leave everything as the other path does (seed %i)', (seed) => {
    const dice = new Dice(seed * 0x9e3779b1);
    let crashes = 0;
    let pair = new Pair();
    pair.setUp();
    for (let n = 0; n < STEPS; n++) {
      step(pair, dice);
      const [slow, fast] = [pair.slow.snapshot(), pair.fast.snapshot()];
      for (const key of Object.keys(slow)) expectSame(`step ${n}: ${key}`, fast[key], slow[key]);
      if (pair.slow.domain.shutdown) {
        crashes++;
        pair = new Pair();
        pair.setUp();
      }
    }
    expect(crashes).toBeLessThan(STEPS / 4);
  });

  describe('are taken for', () => {
    let pair: Pair;

    beforeEach(() => {
      pair = new Pair();
      pair.setUp();
      pair.both((m) => {
        m.mem.u8[m.vcpu.info] = 0;
        m.cpu.setReg(Gpr.rsp, address(STACK, 0x800));
        // The first use of a root is not for the fast paths: it has no TLB tag yet.
        const { kernelL4, userL4, spareL4 } = SmallTable;
        for (const root of [userL4, spareL4, kernelL4]) m.cpu.setRoot(m.mfn(root));
      });
    });

    /** Runs both machines: the slow one leaves `run` for the other path, the fast one does not. */
    const run = (name: InstructionName, prepare: (m: SmallMachine) => void): void => {
      pair.both((m) => {
        prepare(m);
        m.run(at(name), stays);
      });
      expect(pair.slow.exits).toBeGreaterThan(0);
      expect(pair.fast.exits).toBe(0);
      const [slow, fast] = [pair.slow.snapshot(), pair.fast.snapshot()];
      for (const key of Object.keys(slow)) expectSame(key, fast[key], slow[key]);
    };
    const call = (number: number, args: (m: SmallMachine) => readonly bigint[]): void => {
      run('syscall', (m) => {
        args(m).forEach((value, n) => m.cpu.setReg(argumentRegisters[n]!, value));
        m.cpu.setReg(Gpr.rax, BigInt(number));
      });
      expect(pair.fast.cpu.reg(Gpr.rax)).toBe(0n);
    };
    /** Returns by HYPERVISOR_iret, control word 0x100 for the short form. */
    const goTo = (cs: bigint, ss: bigint, control: bigint): void => {
      run('syscall', (m) => {
        m.write(FRAME, 0, 1n, 2n, 3n, control, handler('event'), cs, 0x202n, address(STACK, 0x700), ss);
        m.cpu.setReg(Gpr.rsp, address(FRAME));
        m.cpu.setReg(Gpr.rax, BigInt(CALL.iret));
      });
    };

    it.each([
      ['to user mode, short', 0x33n, 0x2bn, 0x100n, false],
      ['to user mode, with segments of the guest', 0x33n, 0x3bn, 0n, false],
      ['to the kernel', 0xe030n, 0xe02bn, 0n, true],
    ] as const)('iret %s', (_name, cs, ss, control, isKernel) => {
      goTo(cs, ss, control);
      expect(pair.fast.vcpu.kernelMode).toBe(isKernel);
    });

    it('system calls of user code', () => {
      goTo(0x33n, 0x2bn, 0x100n);
      run('syscall', () => undefined);
      expect(pair.fast.vcpu.kernelMode).toBe(true);
      expect(pair.fast.cpu.ripLo).toBe(Number(handler('syscall')));
    });

    it.each(['user', 'kernel'] as const)('page faults in %s mode', (mode) => {
      if (mode === 'user') goTo(0x33n, 0x3bn, 0n);
      run('load', (m) => m.cpu.setReg(Gpr.rbx, 0x9008n));
      expect(pair.fast.cpu.ripLo).toBe(Number(handler('pageFault')));
      expect(pair.fast.domain.trapCounts()[14]).toBe(1);
    });

    it.each(['store', 'store32', 'storeByte', 'exchange', 'clearWritable'] as const)('%s to a page table', (name) => {
      run(name, (m) => {
        m.cpu.setReg(Gpr.rbx, address(SmallTable.l1, 20 * 8));
        m.cpu.setReg(Gpr.rax, m.entry(20, 0x25));
      });
      expect(pair.fast.vcpu.emulatedStores).toBe(1);
    });

    it('hypercalls of context switches', () => {
      call(CALL.stackSwitch, () => [0xe02bn, address(STACK, 0xc00)]);
      call(CALL.setSegmentBase, () => [0n, 0x7f0000001000n]);
      call(CALL.mmuext, (m) => {
        m.write(LIST, 0, 5n, BigInt(m.mfn(SmallTable.kernelL4)), 0n, 15n, BigInt(m.mfn(SmallTable.spareL4)), 0n);
        return [address(LIST), 2n, 0n, BigInt(DOMID_SELF)];
      });
    });

    it('page-table updates, alone and in a multicall', () => {
      const slot = (m: SmallMachine, index: number): bigint => BigInt(m.mfn(SmallTable.l1) * 4096 + index * 8);
      call(CALL.mmuUpdate, (m) => {
        m.write(LIST, 0, slot(m, 20), m.entry(21, 0x27), slot(m, 22), 0n);
        return [address(LIST), 2n, 0n, BigInt(DOMID_SELF)];
      });
      call(CALL.updateVaMapping, (m) => [address(23), m.entry(24, 0x25), 2n]);
      call(CALL.multicall, (m) => {
        m.write(LIST, 0, BigInt(CALL.stackSwitch), 0n, 0xe02bn, address(STACK, 0xe00));
        m.write(LIST, 64, BigInt(CALL.updateVaMapping), 0n, address(25), m.entry(26, 0x27), 0n);
        return [address(LIST), 2n];
      });
    });
  });
});
