// SPDX-License-Identifier: MIT
// Date and time of the demonstration guest: the wall clock as year, month, day, hour, minute, second in UTC.
import type { Assembler } from '../../engine/x86/assembler/assembler.ts';
import { edx, mem, r12, r13, r14, r15, rax, rbx, rcx, rdi, rdx } from '../../engine/x86/assembler/operands.ts';
import { emitWallClock } from './clock.ts';
import { print, printDecimal, printTwoDigits } from './print.ts';

const DAYS_PER_400_YEARS = 146_097;
const DAYS_FROM_MARCH_0000_TO_1970 = 719_468;

/** rax = rax / divisor, rdx = remainder. Uses rcx. */
function divide(asm: Assembler, divisor: number): void {
  asm.mov(edx, 0).mov(rcx, divisor).div(rcx);
}

/**
 * Emits `print_date_and_time`. Years are counted from March, so that the leap day is the last of its year: the number of
 * the day then gives year and month by divisions alone.
 */
export function emitCalendar(asm: Assembler): void {
  const december = asm.unique('december');
  asm.label('print_date_and_time');
  emitWallClock(asm, 'shared_info');
  divide(asm, 1_000_000_000);
  divide(asm, 86_400);
  asm.mov(r15, rdx).add(rax, DAYS_FROM_MARCH_0000_TO_1970);
  divide(asm, DAYS_PER_400_YEARS);
  asm.imul(r12, rax, 400).mov(rbx, rdx);

  // Year of the era: (d - d/1460 + d/36524 - d/146096) / 365.
  const term = (divisor: number, subtract: boolean): void => {
    asm.mov(rax, rbx);
    divide(asm, divisor);
    if (subtract) asm.sub(r13, rax);
    else asm.add(r13, rax);
  };
  asm.mov(r13, rbx);
  term(1460, true);
  term(36_524, false);
  term(146_096, true);
  asm.mov(rax, r13);
  divide(asm, 365);
  asm.mov(r13, rax).add(r12, rax);

  // Day of that year: d - (365 y + y/4 - y/100).
  asm.imul(rcx, r13, 365).sub(rbx, rcx).mov(rax, r13).shr(rax, 2).sub(rbx, rax).mov(rax, r13);
  divide(asm, 100);
  asm.add(rbx, rax);

  // Month from March: (5 day + 2) / 153; day of the month: day - (153 month + 2) / 5 + 1.
  asm.lea(rax, mem({ base: rbx, index: rbx, scale: 4, disp: 2 }));
  divide(asm, 153);
  asm.mov(r14, rax).imul(rax, rax, 153).add(rax, 2);
  divide(asm, 5);
  asm.sub(rbx, rax).inc(rbx);
  asm.add(r14, 3).cmp(r14, 12).j('be', december).sub(r14, 12).inc(r12).label(december);

  printDecimal(asm, r12);
  for (const [separator, register] of [
    ['-', r14],
    ['-', rbx],
  ] as const) {
    print(asm, separator);
    asm.mov(rdi, register);
    printTwoDigits(asm);
  }
  asm.mov(rax, r15);
  divide(asm, 3600);
  asm.mov(rdi, rax).mov(rax, rdx);
  print(asm, ' ');
  printTwoDigits(asm);
  divide(asm, 60);
  asm.mov(rbx, rdx);
  print(asm, ':');
  asm.mov(rdi, rax);
  printTwoDigits(asm);
  print(asm, ':');
  asm.mov(rdi, rbx);
  printTwoDigits(asm);
  print(asm, ' UTC');
  asm.ret();
}
