// SPDX-License-Identifier: MIT
// Traps and events of the demonstration guest: trap table, event upcall, timer, sleeping until something happens.
import type { Assembler } from '../../engine/x86/assembler/assembler.ts';
import {
  addressOf,
  eax,
  ecx,
  mem,
  r10,
  r11,
  r12,
  r13,
  r14,
  r15,
  r8,
  r9,
  rax,
  rbp,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  type Memory,
} from '../../engine/x86/assembler/operands.ts';
import { emitSystemTime } from './clock.ts';
import { emitHypercall } from './hypercall.ts';
import { print, printDecimal, printHex } from './print.ts';
import {
  CALLBACK,
  CALLBACK_OP,
  EVTCHN_OP,
  FLAT_USER_CS,
  HYPERCALL,
  SCHED_OP,
  SHARED_INFO,
  SHUTDOWN,
  VCPU_INFO,
  VIRQ,
} from './xen-abi.ts';

const VCPUOP_STOP_PERIODIC_TIMER = 7;
const BREAKPOINT = 3;
/** Exceptions that end the demonstration with a message, and their names. */
const FATAL: readonly (readonly [number, string, boolean])[] = [
  [0, 'divide error', false],
  [6, 'invalid opcode', false],
  [7, 'device not available', false],
  [8, 'double fault', true],
  [11, 'segment not present', true],
  [12, 'stack fault', true],
  [13, 'general protection fault', true],
  [14, 'page fault', true],
];
const SAVED = [rax, rbx, rdx, rsi, rdi, rbp, r8, r9, r10, r12, r13, r14, r15] as const;

/** Emits the code that runs at start: trap table, event entry point, timer port. */
export function emitEventSetup(asm: Assembler): void {
  emitHypercall(asm, 'set_trap_table', addressOf('trap_table'));
  emitHypercall(asm, 'callback_op', CALLBACK_OP.register, addressOf('event_callback'));
  emitHypercall(asm, 'vcpu_op', VCPUOP_STOP_PERIODIC_TIMER, 0, 0);
  emitHypercall(asm, 'event_channel_op', EVTCHN_OP.bindVirq, addressOf('bind_timer'));
}

/** Emits the handlers and their tables. */
export function emitEventRoutines(asm: Assembler): void {
  emitTrapHandlers(asm);
  emitUpcall(asm);
  emitTimerRoutines(asm);

  // events_off, wait_for_event: block opens the mask and looks for pending events in one step, so none is missed
  // between a caller's last look and the sleep. Uses the hypercall registers.
  asm.label('wait_for_event');
  emitHypercall(asm, 'sched_op', SCHED_OP.block, 0);
  asm
    .label('events_off')
    .mov(mem({ label: 'shared_info', disp: VCPU_INFO.upcallMask, size: 1 }), 1)
    .ret();

  asm.section('data').align(8);
  asm.label('event_callback').dw(CALLBACK.event, 0).dd(0).dq(addressOf('event_entry'));
  asm.label('bind_timer').dd(VIRQ.timer, 0).label('timer_port').dd(0, 0).label('timer_ticks').dq(0).section('text');
}

function emitTrapHandlers(asm: Assembler): void {
  asm.section('data').align(16).label('trap_table');
  for (const vector of [BREAKPOINT, ...FATAL.map(([number]) => number)]) {
    asm
      .bytes([vector, 0])
      .dw(FLAT_USER_CS)
      .dd(0)
      .dq(addressOf(`trap_${vector.toString()}`));
  }
  asm.dq(0, 0).section('text');

  // The breakpoint handler does nothing: the benchmark measures the way there and back.
  asm.label(`trap_${BREAKPOINT.toString()}`).pop(rcx).pop(r11);
  asm.label('return_from_trap').push(0).push(rcx).push(r11).push(rax).mov(eax, HYPERCALL.iret).syscall();

  for (const [vector, name, hasErrorCode] of FATAL) {
    asm.label(`trap_${vector.toString()}`).pop(rcx).pop(r11);
    if (hasErrorCode) asm.pop(rax);
    print(asm, `\n  ${name}`);
    if (vector === 14) {
      print(asm, ' at address ');
      printHex(asm, mem({ label: 'shared_info', disp: VCPU_INFO.cr2 }));
    }
    print(asm, ', instruction at ');
    asm.pop(rdi).call('put_hex');
    if (hasErrorCode) {
      print(asm, ', error code ');
      printDecimal(asm, rax);
    }
    print(asm, '\n  crashing the domain\n');
    asm.mov(rdi, SHUTDOWN.crash).jmp('shut_down');
  }
}

/** The upcall: acknowledges every pending port; the timer's is counted, the console's only has to end a sleep. */
function emitUpcall(asm: Assembler): void {
  const next = asm.unique('next');
  const done = asm.unique('done');
  const bit = asm.unique('bit');
  const noTimer = asm.unique('no_timer');
  const word = (disp: number): Memory => mem({ base: rdi, index: rsi, scale: 8, disp });
  asm.label('event_entry').pop(rcx).pop(r11).push(rcx).push(r11);
  for (const register of SAVED) asm.push(register);
  asm.mov(mem({ label: 'shared_info', disp: VCPU_INFO.upcallPending, size: 1 }), 0);
  asm.mov(ecx, 0).xchg(mem({ label: 'shared_info', disp: VCPU_INFO.pendingSelector }), rcx);
  asm.lea(rdi, mem({ label: 'shared_info' }));
  asm.label(next).bsf(rsi, rcx).j('z', done).btr(rcx, rsi);
  asm.mov(rax, 0).xchg(word(SHARED_INFO.pendingEvents), rax);
  asm.label(bit).bsf(rdx, rax).j('z', next).btr(rax, rdx);
  asm
    .mov(rbx, rsi)
    .shl(rbx, 6)
    .or(rbx, rdx)
    .cmp({ ...rbx, name: 'ebx', size: 4 }, mem({ label: 'timer_port' }));
  asm
    .j('ne', noTimer)
    .inc(mem({ label: 'timer_ticks', size: 8 }))
    .label(noTimer)
    .jmp(bit);
  asm.label(done);
  for (const register of SAVED.toReversed()) asm.pop(register);
  asm.pop(r11).pop(rcx).jmp('return_from_trap');
}

function emitTimerRoutines(asm: Assembler): void {
  // sleep: until rdi nanoseconds have passed. Uses most registers.
  const again = asm.unique('again');
  asm.label('sleep');
  emitSystemTime(asm, 'shared_info');
  asm.add(rdi, rax).mov(rbx, mem({ label: 'timer_ticks' }));
  emitHypercall(asm, 'set_timer_op', rdi);
  asm
    .label(again)
    .call('wait_for_event')
    .cmp(rbx, mem({ label: 'timer_ticks' }))
    .j('e', again)
    .ret();

  // shut_down: with the reason in rdi; does not return.
  asm.label('shut_down').mov(mem({ label: 'shutdown_reason' }), rdi);
  emitHypercall(asm, 'sched_op', SCHED_OP.shutdown, addressOf('shutdown_reason'));
  asm.ud2();
  asm.section('data').align(8).label('shutdown_reason').dq(0).section('text');
}
