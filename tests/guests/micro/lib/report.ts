// SPDX-License-Identifier: MIT
// Guest code that prints and compares: each check becomes one line, `OK name` or `FAIL name got 0x.. expected 0x..`.
import type { Assembler } from '../../../../engine/x86/assembler/assembler.ts';
import {
  al,
  cl,
  ecx,
  eax,
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
  type Register,
} from '../../../../engine/x86/assembler/operands.ts';
import { emitHypercall } from '../../../../main/demo-guest/hypercall.ts';
import { SCHED_OP } from '../../../../main/demo-guest/xen-abi.ts';

/** Every general register but rsp, in the order in which `saveAll` pushes them. */
const SAVED = [rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15] as const;

/** Pushes flags and all general registers, so that the code around a check needs no care. */
export function saveAll(asm: Assembler): void {
  asm.pushf();
  for (const register of SAVED) asm.push(register);
}

export function restoreAll(asm: Assembler): void {
  for (const register of SAVED.toReversed()) asm.pop(register);
  asm.popf();
}

/** Stack offset of a register that `saveAll` pushed. */
export function savedOffset(register: Register): number {
  return (SAVED.length - 1 - SAVED.findIndex((saved) => saved.code === register.code)) * 8;
}

/** Emits the routines that `GuestLib` calls for output. */
export function emitReportRoutines(asm: Assembler): void {
  // rt_put_text: appends the NUL-terminated text at rdi to the line. Uses rax, rdi, rsi.
  const copy = asm.unique('copy');
  const copied = asm.unique('copied');
  asm.label('rt_put_text').mov(rsi, mem({ label: 'rt_line_end' }));
  asm
    .label(copy)
    .mov(al, mem({ base: rdi }))
    .test(al, al)
    .j('z', copied);
  asm
    .mov(mem({ base: rsi }), al)
    .inc(rdi)
    .inc(rsi)
    .jmp(copy);
  asm
    .label(copied)
    .mov(mem({ label: 'rt_line_end' }), rsi)
    .ret();

  // rt_put_hex: appends rdi as 0x and its digits without leading zeros. Uses rax, rcx, rsi, rdi, r8.
  const digit = asm.unique('digit');
  const decimal = asm.unique('decimal');
  asm.label('rt_put_hex').mov(rsi, mem({ label: 'rt_line_end' }));
  asm.mov(mem({ base: rsi, size: 2 }), 0x7830).add(rsi, 2);
  asm.bsr(rcx, rdi).mov(rax, 0).cmov('z', rcx, rax).and(ecx, 0x3c);
  asm.label(digit).mov(rax, rdi).shr(rax, cl).and(eax, 15).cmp(al, 10).j('b', decimal).add(al, 0x27);
  asm
    .label(decimal)
    .add(al, 0x30)
    .mov(mem({ base: rsi }), al)
    .inc(rsi);
  asm.sub(ecx, 4).j('ae', digit);
  asm.mov(mem({ label: 'rt_line_end' }), rsi).ret();

  // rt_end_line: prints the line through console_io and starts a new one. Uses the hypercall registers.
  asm.label('rt_end_line').mov(rsi, mem({ label: 'rt_line_end' }));
  asm
    .mov(mem({ base: rsi, size: 1 }), 10)
    .inc(rsi)
    .lea(rdx, mem({ label: 'rt_line' }))
    .sub(rsi, rdx);
  emitHypercall(asm, 'console_io', 0, rsi, rdx);
  asm
    .lea(rax, mem({ label: 'rt_line' }))
    .mov(mem({ label: 'rt_line_end' }), rax)
    .ret();

  // rt_report: prints the outcome of rt_name, rt_actual, rt_expected. Changes no register.
  const fail = asm.unique('fail');
  const done = asm.unique('done');
  asm.label('rt_report');
  saveAll(asm);
  asm.cld();
  asm
    .mov(rbx, mem({ label: 'rt_actual' }))
    .mov(rbp, mem({ label: 'rt_expected' }))
    .cmp(rbx, rbp)
    .j('ne', fail);
  putText(asm, 'OK ');
  asm
    .mov(rdi, mem({ label: 'rt_name' }))
    .call('rt_put_text')
    .jmp(done);
  asm.label(fail);
  putText(asm, 'FAIL ');
  asm.mov(rdi, mem({ label: 'rt_name' })).call('rt_put_text');
  putText(asm, ' got ');
  asm.mov(rdi, rbx).call('rt_put_hex');
  putText(asm, ' expected ');
  asm.mov(rdi, rbp).call('rt_put_hex');
  asm.label(done).call('rt_end_line');
  restoreAll(asm);
  asm.ret();

  // rt_shutdown: ends the domain with the reason in edi.
  asm.label('rt_shutdown').mov(mem({ label: 'rt_shutdown_reason' }), rdi);
  emitHypercall(asm, 'sched_op', SCHED_OP.shutdown, { kind: 'address', label: 'rt_shutdown_reason', addend: 0 });
  asm.ud2();

  asm.section('data').align(8);
  for (const label of ['rt_name', 'rt_actual', 'rt_expected', 'rt_shutdown_reason']) asm.label(label).dq(0);
  asm.label('rt_line_end').dq({ kind: 'address', label: 'rt_line', addend: 0 });
  asm.section('bss').label('rt_line').reserve(1024).section('text');
}

/** Places `text` in data and appends it to the line. */
export function putText(asm: Assembler, text: string): void {
  const label = placeText(asm, text);
  asm.lea(rdi, mem({ label })).call('rt_put_text');
}

/** Places NUL-terminated text in the data section; returns its label. */
export function placeText(asm: Assembler, text: string): string {
  const label = asm.unique('text');
  asm.section('data').label(label).asciz(text).section('text');
  return label;
}
