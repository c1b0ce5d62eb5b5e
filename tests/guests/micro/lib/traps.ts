// SPDX-License-Identifier: MIT
// Guest code that catches traps: one entry stub per vector, a record of the delivered frame, and resumption where a test says.
import type { Assembler } from '../../../../engine/x86/assembler/assembler.ts';
import {
  addressOf,
  eax,
  mem,
  r11,
  rax,
  rcx,
  rdi,
  rsi,
  rsp,
  type Memory,
} from '../../../../engine/x86/assembler/operands.ts';
import { emitHypercall } from '../../../../main/demo-guest/hypercall.ts';
import { FLAT_USER_CS, SHUTDOWN, VCPU_INFO } from '../../../../main/demo-guest/xen-abi.ts';
import { putText } from './report.ts';

/** Vectors whose frame carries an error code. */
const WITH_ERROR_CODE = new Set([8, 10, 11, 12, 13, 14, 17, 21]);

/** Vectors with a stub: the exceptions, and 0x80-0x83 for software interrupts. */
export const TRAP_VECTORS: readonly number[] = [
  ...Array.from({ length: 32 }, (_, vector) => vector).filter((vector) => vector !== 15),
  0x80,
  0x81,
  0x83,
];

/** Fields of `rt_trap`, the record of the last trap; `frame` is rsp at the handler's first instruction. */
export const TRAP = {
  vector: 0,
  error: 8,
  frame: 16,
  rcx: 24,
  r11: 32,
  rip: 40,
  cs: 48,
  rflags: 56,
  rsp: 64,
  ss: 72,
  cr2: 80,
  mask: 88,
  count: 96,
  rax: 104,
  liveCs: 112,
  liveSs: 120,
  liveRflags: 128,
} as const;
export type TrapField = keyof typeof TRAP;

/** What `rt_trap.error` holds when the frame has none. */
export const NO_ERROR_CODE = 0xffffffffffffffffn;

/** Entry flags of the trap table: DPL in bits 0-1, bit 2 masks events on entry. */
export interface TrapTableOptions {
  /** DPL of every entry; 0 for the exceptions is what kernels use, 3 admits software interrupts from user mode. */
  dpl?: number;
  maskEvents?: boolean;
}

/** Emits a trap table (16 bytes an entry, ended by a zero address) for the given vectors at `label`. */
export function emitTrapTable(
  asm: Assembler,
  label: string,
  vectors: readonly number[],
  options: TrapTableOptions,
): void {
  const { dpl = 0, maskEvents = false } = options;
  asm.section('data').align(16).label(label);
  for (const vector of vectors) {
    asm
      .bytes([vector, dpl | (maskEvents ? 4 : 0)])
      .dw(FLAT_USER_CS)
      .dd(0)
      .dq(addressOf(`rt_trap_${vector.toString()}`));
  }
  asm.dq(0, 0).section('text');
}

/** Emits the stubs and the common handler. */
export function emitTrapRoutines(asm: Assembler): void {
  for (const vector of TRAP_VECTORS) {
    asm.label(`rt_trap_${vector.toString()}`).mov(field('vector'), vector);
    asm.jmp(WITH_ERROR_CODE.has(vector) ? 'rt_trap_with_error' : 'rt_trap_without_error');
  }
  asm.label('rt_trap_with_error');
  asm
    .mov(field('rax'), rax)
    .mov(field('frame'), rsp)
    .mov(rax, mem({ base: rsp, disp: 16 }))
    .mov(field('error'), rax);
  asm
    .pop(rcx)
    .pop(r11)
    .lea(rsp, mem({ base: rsp, disp: 8 }))
    .jmp('rt_trap_record');
  asm.label('rt_trap_without_error');
  asm.mov(field('rax'), rax).mov(field('frame'), rsp).mov(field('error'), -1).pop(rcx).pop(r11);

  // From here on rsp points at the frame's rip.
  asm.label('rt_trap_record').pushf().pop(field('liveRflags')).mov(field('rcx'), rcx).mov(field('r11'), r11);
  for (const [slot, name] of (['rip', 'cs', 'rflags', 'rsp', 'ss'] as const).entries()) {
    asm.mov(rax, mem({ base: rsp, disp: slot * 8 })).mov(field(name), rax);
  }
  asm.mov(rax, mem({ label: 'rt_shared_info', disp: VCPU_INFO.cr2 })).mov(field('cr2'), rax);
  asm.movzx(eax, mem({ label: 'rt_shared_info', disp: VCPU_INFO.upcallMask, size: 1 })).mov(field('mask'), rax);
  asm.movFromSegment(eax, { kind: 'sreg', name: 'cs', code: 1 }).mov(field('liveCs'), rax);
  asm.movFromSegment(eax, { kind: 'sreg', name: 'ss', code: 2 }).mov(field('liveSs'), rax);
  asm.inc(field('count'));

  // Whoever single-steps wants one step.
  asm.and(mem({ base: rsp, disp: 16, size: 8 }), ~0x100);

  // A trap nobody armed for is a failure of the test or of the engine: say which, and stop.
  const expected = asm.unique('expected');
  asm
    .cmp(mem({ label: 'rt_trap_armed', size: 8 }), 0)
    .j('ne', expected)
    .jmp('rt_trap_unexpected');
  const noResume = asm.unique('no_resume');
  asm.label(expected).mov(mem({ label: 'rt_trap_armed', size: 8 }), 0);
  asm
    .mov(rax, mem({ label: 'rt_trap_resume' }))
    .test(rax, rax)
    .j('z', noResume)
    .mov(mem({ base: rsp }), rax);
  asm.label(noResume).mov(rax, field('rax'));

  // rt_return: leaves the handler through HYPERVISOR_iret; rsp points at rip, everything else is already live.
  asm.label('rt_return').push(0).push(rcx).push(r11).push(rax).mov(eax, 23).syscall();

  asm.label('rt_trap_unexpected');
  for (const [text, name] of [
    ['TRAP vector ', 'vector'],
    [' error ', 'error'],
    [' rip ', 'rip'],
    [' cr2 ', 'cr2'],
    [' rsp ', 'rsp'],
  ] as const) {
    putText(asm, text);
    asm.mov(rdi, field(name)).call('rt_put_hex');
  }
  asm.call('rt_end_line').mov(rdi, SHUTDOWN.crash).jmp('rt_shutdown');

  asm.section('data').align(8).label('rt_trap').reserve(136);
  asm.label('rt_trap_armed').dq(0).label('rt_trap_resume').dq(0).section('text');
}

/** A field of the record as an operand. */
export function field(name: TrapField): Memory {
  return mem({ label: 'rt_trap', disp: TRAP[name], size: 8 });
}

/** Emits an entry point for events: notes count, frame and pending ports, acknowledges them, returns. */
export function emitEventRoutines(asm: Assembler): void {
  asm.label('rt_event');
  asm.mov(eventField('rax'), rax).mov(eventField('frame'), rsp).pop(rcx).pop(r11);
  for (const [slot, name] of (['rip', 'cs', 'rflags', 'rsp'] as const).entries()) {
    asm.mov(rax, mem({ base: rsp, disp: slot * 8 })).mov(eventField(name), rax);
  }
  asm.movzx(eax, mem({ label: 'rt_shared_info', disp: VCPU_INFO.upcallMask, size: 1 })).mov(eventField('mask'), rax);
  asm.movzx(eax, mem({ label: 'rt_shared_info', disp: VCPU_INFO.upcallPending, size: 1 }));
  asm.mov(eventField('pending'), rax).inc(eventField('count'));
  asm.call('rt_collect_events').mov(rax, eventField('rax')).jmp('rt_return');

  // rt_collect_events: moves all pending unmasked ports into the bitmap rt_event_ports. Changes no register.
  asm.label('rt_collect_events').push(rax).push(rcx).push(rsi).push(rdi);
  const word = asm.unique('word');
  const done = asm.unique('done');
  asm.mov(mem({ label: 'rt_shared_info', disp: VCPU_INFO.upcallPending, size: 1 }), 0);
  asm.mov(rsi, 0).xchg(mem({ label: 'rt_shared_info', disp: VCPU_INFO.pendingSelector }), rsi);
  asm.label(word).bsf(rdi, rsi).j('z', done).btr(rsi, rdi);
  asm.lea(rcx, mem({ label: 'rt_shared_info' }));
  asm.mov(rax, mem({ base: rcx, index: rdi, scale: 8, disp: 0xa00 })).not(rax);
  asm
    .and(rax, mem({ base: rcx, index: rdi, scale: 8, disp: 0x800 }))
    .mov(mem({ label: 'rt_event_scratch' }), rax)
    .not(rax);
  asm.lock().and(mem({ base: rcx, index: rdi, scale: 8, disp: 0x800 }), rax);
  asm.lea(rcx, mem({ label: 'rt_event_ports' })).mov(rax, mem({ label: 'rt_event_scratch' }));
  asm.or(mem({ base: rcx, index: rdi, scale: 8 }), rax).jmp(word);
  asm.label(done).pop(rdi).pop(rsi).pop(rcx).pop(rax).ret();

  asm.section('data').align(8).label('rt_event_record').reserve(80).label('rt_event_scratch').dq(0);
  asm.section('bss').align(8).label('rt_event_ports').reserve(512).section('text');
}

/** Fields of `rt_event_record`: the last event upcall. */
export const EVENT = {
  count: 0,
  rip: 8,
  cs: 16,
  rflags: 24,
  rsp: 32,
  frame: 40,
  mask: 48,
  pending: 56,
  rax: 64,
} as const;
export type EventField = keyof typeof EVENT;

export function eventField(name: EventField): Memory {
  return mem({ label: 'rt_event_record', disp: EVENT[name], size: 8 });
}

/** Registers `table` with set_trap_table. */
export function emitSetTrapTable(asm: Assembler, table: string): void {
  emitHypercall(asm, 'set_trap_table', addressOf(table));
}
