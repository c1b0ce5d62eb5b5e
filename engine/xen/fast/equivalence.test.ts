// SPDX-License-Identifier: MIT
// The generated fast paths against the code they stand in for: two machines take the same random steps and must stay the same.

import { beforeAll, describe, expect, it } from 'vitest';
import type { InterpreterCode } from '../../cpu/vcpu.ts';
import { DOMID_SELF } from '../context.ts';
import { Gpr } from '../guest-cpu.ts';
import {
  argumentRegisters,
  at,
  CALL,
  fastInterpreter,
  FRAME,
  handler,
  LIST,
  Pair,
  STACK,
  stays,
} from './small-pair.ts';
import type { InstructionName } from './small-pair.ts';
import { address, SMALL_OTHER, SMALL_PAGES, SmallTable, type SmallMachine } from './small-machine.ts';

const STEPS = 1000;

let code: InterpreterCode;

beforeAll(() => {
  code = fastInterpreter();
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

/** One of the few pages that come and go. */
const somePage = (dice: Dice): number => 16 + dice.below(8);

/** An L1 entry: mostly something a kernel would write. */
function someEntry(dice: Dice): (m: SmallMachine) => bigint {
  const pfn = dice.chance(85) ? somePage(dice) : dice.below(SMALL_PAGES);
  const flags = dice.of(0n, 0x25n, 0x27n, 0x65n, 0x67n, 0x21n, 0x23n, 5n, 0x66n, (1n << 63n) | 0x27n, 0x127n, 0xa7n);
  const frame = dice.chance(95) ? undefined : dice.of(0xffffffn, 0x100n + BigInt(SMALL_PAGES) + 3n, 1n << 39n);
  return (m) => ((frame ?? BigInt(m.mfn(pfn))) << 12n) | flags;
}

/** Machine address of an entry of one of the L1 tables, among those that code, stacks and lists do not need. */
function someSlot(dice: Dice): (m: SmallMachine) => bigint {
  const table = dice.chance(95) ? dice.of(SmallTable.l1, SmallTable.otherL1) : dice.of(SmallTable.l2, 20, 5);
  const index = dice.chance(95) ? somePage(dice) : 64 + dice.below(400);
  const low = dice.of(0, 0, 0, 0, 2, 2, 3, 1, 4);
  return (m) => BigInt(m.mfn(table) * 4096 + index * 8 + low);
}

type Arguments = (m: SmallMachine) => readonly bigint[];

/** A hypercall's number and arguments; what it needs in memory is written from `offset` of the list page. */
function someCall(dice: Dice, offset: number): { number: number; args: Arguments } {
  const { mmuUpdate, stackSwitch, updateVaMapping, setSegmentBase, mmuext } = CALL;
  const number = dice.of(
    mmuUpdate,
    mmuUpdate,
    stackSwitch,
    updateVaMapping,
    updateVaMapping,
    setSegmentBase,
    mmuext,
    17,
  );
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
      const page = dice.chance(95) ? address(somePage(dice)) : dice.of(0n, SMALL_OTHER, 1n << 40n, 0xffff800000000000n);
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
      const ops = dice.of<readonly (readonly [bigint, number | undefined])[]>(
        [[5n, root]],
        [[15n, dice.of(SmallTable.userL4, SmallTable.spareL4)]],
        [
          [5n, root],
          [15n, SmallTable.userL4],
        ],
        [
          [5n, root],
          [15n, undefined],
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
          ops.forEach(([command, pfn], n) =>
            m.write(LIST, offset + 24 * n, command, BigInt(pfn === undefined ? 0 : m.mfn(pfn)), 0n),
          );
          return [address(LIST, offset), BigInt(ops.length), 0n, BigInt(DOMID_SELF)];
        },
      };
    }
    default:
      return { number, args: () => [0n, 0n] };
  }
}

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

/** IN, OUT and what else raises #GP, by guests that may and that may not. */
function ports(pair: Pair, dice: Dice): void {
  const name = dice.of<InstructionName>('in', 'inWide', 'inAt', 'inWord', 'out', 'outAt', 'cli', 'sti');
  const iopl = dice.below(4);
  const values = [Gpr.rax, Gpr.rdx].map((register) => [register, dice.word()] as const);
  pair.both((m) => {
    m.vcpu.iopl = iopl;
    for (const [register, value] of values) m.cpu.setReg(register, value);
    m.run(at(name), stays);
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
  const slot = address(dice.of(SmallTable.l1, SmallTable.otherL1), somePage(dice) * 8 + dice.of(0, 0, 0, 0, 1, 4, 6));
  const target = dice.of(
    slot,
    slot,
    address(somePage(dice), 8 * dice.below(512)),
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
  const released = dice.chance(20) ? somePage(dice) : undefined;
  pair.both((m) => {
    m.mem.u8[m.vcpu.info] = pending;
    m.mem.u8[m.vcpu.info + 1] = mask;
    m.vcpu.syscallCallback.maskEvents = masks;
    if (nmi) m.vcpu.nmiPending = true;
    if (released !== undefined) m.domain.releaseGuestFrame(m.mfn(released));
  });
}

function step(pair: Pair, dice: Dice): void {
  const isKernel = pair.slow.vcpu.kernelMode;
  const sp = dice.of(address(STACK, 0x800), address(STACK, 0x7f8 + 5), address(STACK, 0x18), address(STACK + 1, 0xff0));
  pair.both((m) => m.cpu.setReg(Gpr.rsp, sp));
  const choice = dice.below(100);
  if (choice < 8) events(pair, dice);
  else if (choice < 13) ports(pair, dice);
  else if (choice < 35) access(pair, dice);
  else if (choice < 40) nativeIret(pair, dice);
  else if (!isKernel) pair.both((m) => m.run(at('syscall'), stays));
  else if (choice < 85) hypercall(pair, dice);
  else iret(pair, dice, choice < 94 ? 'user' : choice < 98 ? 'kernel' : 'any');
}

describe('fast paths', () => {
  it.each([1, 2, 3, 4])('leave everything as the other path does (seed %i)', (seed) => {
    const dice = new Dice(seed * 0x9e3779b1);
    let crashes = 0;
    let pair = new Pair(code);
    for (let n = 0; n < STEPS; n++) {
      step(pair, dice);
      expect(pair.difference(), `step ${n}`).toBeNull();
      if (pair.slow.domain.shutdown) {
        crashes++;
        pair = new Pair(code);
      }
    }
    expect(crashes).toBeLessThan(STEPS / 4);
  });
});
