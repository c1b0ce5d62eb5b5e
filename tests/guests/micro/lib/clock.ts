// SPDX-License-Identifier: MIT
// Guest code that reads the paravirtual clock of vCPU 0 (vcpu_time_info in xen/include/public/xen.h).
import type { Assembler } from '../../../../engine/x86/assembler/assembler.ts';
import { cl, eax, ecx, edx, mem, r8, r8d, r9, rax, rdx, rsi } from '../../../../engine/x86/assembler/operands.ts';
import { VCPU_INFO } from '../../../../main/demo-guest/xen-abi.ts';

/** rax = system time in nanoseconds. Uses rcx, rdx, rsi, r8, r9. */
export function emitSystemTime(asm: Assembler, info = 'rt_shared_info'): void {
  const again = asm.unique('again');
  const shiftRight = asm.unique('shift_right');
  const shifted = asm.unique('shifted');
  const at = (disp: number): ReturnType<typeof mem> => mem({ base: rsi, disp });
  asm.lea(rsi, mem({ label: info }));
  asm.label(again).mov(r8d, at(VCPU_INFO.timeVersion));
  asm.rdtsc().shl(rdx, 32).or(rax, rdx).sub(rax, at(VCPU_INFO.tscTimestamp));
  asm.movsx(ecx, mem({ base: rsi, disp: VCPU_INFO.tscShift, size: 1 })).test(ecx, ecx).j('s', shiftRight);
  asm.shl(rax, cl).jmp(shifted);
  asm.label(shiftRight).neg(ecx).shr(rax, cl);
  asm.label(shifted).mov(edx, at(VCPU_INFO.tscMultiplier)).mul(rdx).shrd(rax, rdx, 32);
  asm.add(rax, at(VCPU_INFO.systemTime)).mov(r9, r8).and(r9, 1).j('nz', again);
  asm.cmp(r8d, at(VCPU_INFO.timeVersion)).j('ne', again);
}

/** rax = nanoseconds since 1970. Uses rcx, rdx, rsi, r8, r9. */
export function emitWallClock(asm: Assembler): void {
  const again = asm.unique('again');
  const at = (disp: number): ReturnType<typeof mem> => mem({ label: 'rt_shared_info', disp });
  emitSystemTime(asm);
  asm.push(rax).label(again).mov(r8d, at(0xc00)).mov(eax, at(0xc04)).mov(edx, at(0xc0c)).shl(rdx, 32).or(rax, rdx);
  asm.imul(rax, rax, 1_000_000_000).mov(edx, at(0xc08)).add(rax, rdx);
  asm.mov(r9, r8).and(r9, 1).j('nz', again).cmp(r8d, at(0xc00)).j('ne', again).pop(rdx).add(rax, rdx);
}
