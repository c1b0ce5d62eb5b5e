// SPDX-License-Identifier: MIT
// Which kernel entries, returns and hypercalls the fast paths take without leaving generated code.

import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ST } from '../../cpu/layout.ts';
import type { InterpreterCode } from '../../cpu/vcpu.ts';
import { DOMID_SELF } from '../context.ts';
import { Gpr } from '../guest-cpu.ts';
import { address, SmallTable, type SmallMachine } from './small-machine.ts';
import {
  argumentRegisters,
  at,
  CALL,
  CODE,
  fastInterpreter,
  FRAME,
  handler,
  LIST,
  Pair,
  STACK,
  stays,
} from './small-pair.ts';
import type { InstructionName } from './small-pair.ts';

let code: InterpreterCode;

beforeAll(() => {
  code = fastInterpreter();
});

describe('fast paths are taken for', () => {
  let pair: Pair;

  beforeEach(() => {
    pair = new Pair(code);
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
    expect(pair.difference()).toBeNull();
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

  it.each([
    ['in', 0x1122334455667788n, 0x11223344556677ffn],
    ['inAt', 0n, 0xffn],
    ['inWide', -1n, 0xffffffffn],
    ['out', 5n, 5n],
    ['outAt', 5n, 5n],
    ['cli', 5n, 5n],
    ['sti', 5n, 5n],
  ] as const)('%s, with ports that nobody owns', (name, before, after) => {
    run(name, (m) => {
      m.vcpu.iopl = 1;
      m.cpu.setReg(Gpr.rax, before);
    });
    expect(pair.fast.cpu.reg(Gpr.rax)).toBe(after);
  });

  it('IN only where all of it lies in one page: the other path carries it out the same', () => {
    const end = address(CODE + 1, 1);
    pair.both((m) => {
      m.writeBytes(CODE, 0xfff, [0xe4]);
      m.writeBytes(CODE + 1, 0, [0x42, 0xeb, 0xfe]);
      m.vcpu.iopl = 1;
      m.cpu.setReg(Gpr.rax, 0n);
      m.run(address(CODE, 0xfff), new Set([end]));
      expect(m.exits).toBeGreaterThan(0);
      expect(m.cpu.reg(Gpr.rax)).toBe(0xffn);
      expect(m.cpu.ripLo).toBe(Number(end));
    });
    expect(pair.difference()).toBeNull();
  });

  it('hypercalls of context switches', () => {
    call(CALL.stackSwitch, () => [0xe02bn, address(STACK, 0xc00)]);
    call(CALL.setSegmentBase, () => [0n, 0x7f0000001000n]);
    call(CALL.mmuext, (m) => {
      m.write(LIST, 0, 5n, BigInt(m.mfn(SmallTable.kernelL4)), 0n, 15n, BigInt(m.mfn(SmallTable.spareL4)), 0n);
      return [address(LIST), 2n, 0n, BigInt(DOMID_SELF)];
    });
  });

  it('switches to address spaces that have no user mode', () => {
    call(CALL.mmuext, (m) => {
      m.write(LIST, 0, 5n, BigInt(m.mfn(SmallTable.spareL4)), 0n, 15n, 0n, 0n);
      return [address(LIST), 2n, 0n, BigInt(DOMID_SELF)];
    });
    expect(pair.fast.vcpu.userRoot).toBe(0);
  });

  it('roots only without an LDT, whose pages belong to the old one', () => {
    pair.both((m) => {
      m.write(LIST, 0, 5n, BigInt(m.mfn(SmallTable.spareL4)), 0n);
      [address(LIST), 1n, 0n, BigInt(DOMID_SELF)].forEach((value, n) => m.cpu.setReg(argumentRegisters[n]!, value));
      m.cpu.setReg(Gpr.rax, BigInt(CALL.mmuext));
      m.vcpu.ldtEntries = 1;
      m.run(at('syscall'), stays);
      expect(m.exits).toBeGreaterThan(0);
      expect(m.vcpu.kernelRoot).toBe(m.mfn(SmallTable.spareL4));
    });
  });

  it('updates of where code is mapped, from when on nothing that was known about it holds', () => {
    const epochs = () => [pair.slow, pair.fast].map((m) => m.cpu.get(ST.execEpoch));
    run('load', (m) => m.cpu.setReg(Gpr.rbx, 0x9008n));
    const [slow, fast] = epochs();
    call(CALL.updateVaMapping, (m) => [address(CODE), m.entry(CODE, 0x25), 0n]);
    expect(epochs()).toEqual([slow! + 1, fast! + 1]);
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
