// SPDX-License-Identifier: MIT
// Micro-guests: the console ring in both directions, more than a ring full, input by event.
import { expect } from 'vitest';
import { al, ecx, eax, mem, rax, rcx, rsi } from '../../../engine/x86/assembler/operands.ts';
import { SCHED_OP, START_INFO } from '../../../main/demo-guest/xen-abi.ts';
import { testMicroGuest } from './run.ts';

testMicroGuest(
  'console output',
  (asm, lib) => {
    asm.call('rt_console_open');
    const text = lib.data((d) => d.ascii('through the ring\r\n'));
    asm
      .lea(rsi, mem({ label: text.label }))
      .mov(ecx, 18)
      .call('rt_console_write');
    const long = lib.data((d) => d.ascii('[').ascii('0123456789'.repeat(700)).ascii(']\r\n'));
    asm
      .lea(rsi, mem({ label: long.label }))
      .mov(ecx, 7004)
      .call('rt_console_write');
  },
  {
    verify: ({ output }) => {
      expect(output).toContain('through the ring\r\n');
      expect(output).toContain(`[${'0123456789'.repeat(700)}]\r\n`);
    },
  },
);

testMicroGuest(
  'console input arrives with an event',
  (asm, lib) => {
    asm.call('rt_console_open');
    lib.setUpEvents();
    asm.mov(rax, mem({ label: 'rt_start_info' })).mov(eax, mem({ base: rax, disp: START_INFO.consolePort }));
    lib.data((d) => d.dq(0), 'console_port');
    asm.mov(mem({ label: 'console_port' }), eax);
    lib.print('ready');
    const received = lib.data((d) => d.dq(0, 0));
    asm.mov(rcx, 0).mov(mem({ label: 'received_count' }), rcx);
    lib.data((d) => d.dq(0), 'received_count');
    const next = asm.unique('next');
    const sleep = asm.unique('sleep');
    const done = asm.unique('done');
    asm.label(next).call('rt_console_read').j('nc', sleep);
    asm.mov(rcx, mem({ label: 'received_count' })).lea(rsi, mem({ label: received.label }));
    asm
      .mov(mem({ base: rsi, index: rcx }), al)
      .inc(rcx)
      .mov(mem({ label: 'received_count' }), rcx);
    asm.cmp(al, 10).j('ne', next).jmp(done);
    asm.label(sleep);
    lib.hypercall('sched_op', SCHED_OP.block, 0);
    lib.maskEvents();
    asm.jmp(next).label(done);
    lib.expectMemory('what was typed', mem({ label: received.label, size: 8 }), 0x0a6f6c6c6568n);
    lib.takeEvent(mem({ label: 'console_port', size: 4 }));
    lib.expect('the console port was signalled', 1);
  },
  { steps: [{ waitFor: 'ready', send: 'hello\n' }] },
);
