// SPDX-License-Identifier: MIT
// Output of the demonstration guest: characters, texts and numbers into the console ring (xen/include/public/io/console.h).
import type { Assembler } from '../../engine/x86/assembler/assembler.ts';
import {
  addressOf,
  al,
  dl,
  eax,
  ecx,
  edx,
  mem,
  r11,
  rax,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  rsp,
  type Immediate,
  type Memory,
  type Register,
} from '../../engine/x86/assembler/operands.ts';
import { emitHypercall } from './hypercall.ts';
import { CONSOLE_RING, EVTCHN_OP, SCHED_OP } from './xen-abi.ts';

const LINE_FEED = 10;
const CARRIAGE_RETURN = 13;

/** Everything a print routine may change: a hypercall takes rcx and r11, the rest is scratch. */
const SCRATCH = [rax, rbx, rcx, rdx, rsi, rdi, r11] as const;

function saveScratch(asm: Assembler): void {
  for (const register of SCRATCH) asm.push(register);
}

function restoreScratch(asm: Assembler): void {
  for (const register of SCRATCH.toReversed()) asm.pop(register);
}

/** Emits `put_char` (al), `put_text` (rdi), `put_decimal` (rdi), `put_hex` (rdi), `flush`. None changes a register. */
export function emitPrintRoutines(asm: Assembler): void {
  emitPutChar(asm);
  emitPutText(asm);
  emitPutDecimal(asm);
  emitPutHex(asm);

  asm.label('flush');
  saveScratch(asm);
  emitHypercall(asm, 'event_channel_op', EVTCHN_OP.send, addressOf('console_port'));
  restoreScratch(asm);
  asm.ret();

  asm.section('data').align(8).label('console_ring').dq(0).label('console_port').dd(0, 0).section('text');
}

/** One character; a line feed brings its carriage return and wakes the reader. */
function emitPutChar(asm: Assembler): void {
  const plain = asm.unique('plain');
  const wait = asm.unique('wait');
  const room = asm.unique('room');
  const done = asm.unique('done');
  const at = (disp: number): Memory => mem({ base: rbx, disp });
  asm.label('put_char').cmp(al, LINE_FEED).j('ne', plain);
  asm.push(rax).mov(al, CARRIAGE_RETURN).call(plain).pop(rax);
  asm.label(plain);
  saveScratch(asm);
  asm.mov(rbx, mem({ label: 'console_ring' }));
  asm.label(wait).mov(edx, at(CONSOLE_RING.outputProducer)).mov(ecx, edx).sub(ecx, at(CONSOLE_RING.outputConsumer));
  asm.cmp(ecx, CONSOLE_RING.outputSize).j('b', room).call('flush').push(rax);
  emitHypercall(asm, 'sched_op', SCHED_OP.yield, 0);
  asm.pop(rax).jmp(wait);
  asm
    .label(room)
    .mov(ecx, edx)
    .and(ecx, CONSOLE_RING.outputSize - 1);
  asm.mov(mem({ base: rbx, index: rcx, disp: CONSOLE_RING.output }), al).inc(edx);
  asm.mov(at(CONSOLE_RING.outputProducer), edx).cmp(al, LINE_FEED).j('ne', done).call('flush').label(done);
  restoreScratch(asm);
  asm.ret();
}

function emitPutText(asm: Assembler): void {
  const next = asm.unique('next');
  const done = asm.unique('done');
  asm.label('put_text').push(rax).push(rdi);
  asm
    .label(next)
    .mov(al, mem({ base: rdi }))
    .test(al, al)
    .j('z', done)
    .call('put_char')
    .inc(rdi)
    .jmp(next);
  asm.label(done).pop(rdi).pop(rax).ret();
}

/** Digits are produced from the last, so they are collected on the stack. */
function emitPutDecimal(asm: Assembler): void {
  const divide = asm.unique('divide');
  asm.label('put_decimal');
  saveScratch(asm);
  asm
    .mov(rax, rdi)
    .mov(ecx, 10)
    .sub(rsp, 32)
    .lea(rdi, mem({ base: rsp, disp: 31 }))
    .mov(mem({ base: rdi, size: 1 }), 0);
  asm
    .label(divide)
    .mov(edx, 0)
    .div(rcx)
    .add(dl, 0x30)
    .dec(rdi)
    .mov(mem({ base: rdi }), dl)
    .test(rax, rax)
    .j('nz', divide);
  asm.call('put_text').add(rsp, 32);
  restoreScratch(asm);
  asm.ret();
}

function emitPutHex(asm: Assembler): void {
  const next = asm.unique('next');
  const decimal = asm.unique('decimal');
  asm.label('put_hex');
  saveScratch(asm);
  asm
    .mov(rax, rdi)
    .sub(rsp, 32)
    .lea(rdi, mem({ base: rsp, disp: 31 }))
    .mov(mem({ base: rdi, size: 1 }), 0);
  asm.label(next).mov(edx, eax).and(edx, 15).cmp(edx, 10).j('b', decimal).add(edx, 0x27).label(decimal).add(edx, 0x30);
  asm
    .dec(rdi)
    .mov(mem({ base: rdi }), dl)
    .shr(rax, 4)
    .j('nz', next);
  asm
    .sub(rdi, 2)
    .mov(mem({ base: rdi, size: 2 }), 0x7830)
    .call('put_text')
    .add(rsp, 32);
  restoreScratch(asm);
  asm.ret();
}

/** Places NUL-terminated text in the data section; returns its label. */
export function placeText(asm: Assembler, text: string): string {
  const label = asm.unique('text');
  asm.section('data').label(label).asciz(text).section('text');
  return label;
}

/** Prints `text`. Changes no register. */
export function print(asm: Assembler, text: string): void {
  asm
    .push(rdi)
    .lea(rdi, mem({ label: placeText(asm, text) }))
    .call('put_text')
    .pop(rdi);
}

/** Prints a number in decimal. Changes no register. */
export function printDecimal(asm: Assembler, value: Register | Memory | Immediate): void {
  asm.push(rdi).mov(rdi, value).call('put_decimal').pop(rdi);
}

/** Prints a number as 0x and hexadecimal digits. Changes no register. */
export function printHex(asm: Assembler, value: Register | Memory | Immediate): void {
  asm.push(rdi).mov(rdi, value).call('put_hex').pop(rdi);
}

/** Prints rdi with at least two digits. Uses rdi. */
export function printTwoDigits(asm: Assembler): void {
  const wide = asm.unique('wide');
  asm.cmp(rdi, 10).j('ae', wide);
  print(asm, '0');
  asm.label(wide).call('put_decimal');
}
