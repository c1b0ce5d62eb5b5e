// SPDX-License-Identifier: MIT
// Clock readings for micro-guests: the demonstration guest's code over the page where micro-guests map shared_info.
import type { Assembler } from '../../../../engine/x86/assembler/assembler.ts';
import * as clock from '../../../../main/demo-guest/clock.ts';

/** rax = system time in nanoseconds. Uses rcx, rdx, rsi, r8, r9. */
export function emitSystemTime(asm: Assembler): void {
  clock.emitSystemTime(asm, 'rt_shared_info');
}

/** rax = nanoseconds since 1970. Uses rcx, rdx, rsi, r8, r9. */
export function emitWallClock(asm: Assembler): void {
  clock.emitWallClock(asm, 'rt_shared_info');
}
