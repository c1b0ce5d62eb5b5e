// SPDX-License-Identifier: MIT
// Reads the paravirtual clock of vCPU 0 and the wall clock from shared_info (xen/include/public/xen.h).
import type { Assembler } from '../../engine/x86/assembler/assembler.ts';
import {
  cl,
  eax,
  ecx,
  edx,
  mem,
  r8,
  r8d,
  r9,
  rax,
  rdx,
  rsi,
  type Memory,
} from '../../engine/x86/assembler/operands.ts';
import { SHARED_INFO, VCPU_INFO } from './xen-abi.ts';

/** rax = nanoseconds of system time. `sharedInfo` is the label of the mapped page. Uses rcx, rdx, rsi, r8, r9. */
export function emitSystemTime(asm: Assembler, sharedInfo: string): void {
  const again = asm.unique('again');
  const shiftRight = asm.unique('shift_right');
  const shifted = asm.unique('shifted');
  const at = (disp: number): Memory => mem({ base: rsi, disp });
  asm.lea(rsi, mem({ label: sharedInfo }));
  asm.label(again).mov(r8d, at(VCPU_INFO.timeVersion));
  asm.rdtsc().shl(rdx, 32).or(rax, rdx).sub(rax, at(VCPU_INFO.tscTimestamp));
  asm
    .movsx(ecx, mem({ base: rsi, disp: VCPU_INFO.tscShift, size: 1 }))
    .test(ecx, ecx)
    .j('s', shiftRight);
  asm.shl(rax, cl).jmp(shifted);
  asm.label(shiftRight).neg(ecx).shr(rax, cl);
  asm.label(shifted).mov(edx, at(VCPU_INFO.tscMultiplier)).mul(rdx).shrd(rax, rdx, 32);
  asm.add(rax, at(VCPU_INFO.systemTime));

  // An odd or changed version: the hypervisor was writing.
  asm.mov(r9, r8).and(r9, 1).j('nz', again).cmp(r8d, at(VCPU_INFO.timeVersion)).j('ne', again);
}

/** rax = nanoseconds since 1970. Uses rcx, rdx, rsi, r8, r9. */
export function emitWallClock(asm: Assembler, sharedInfo: string): void {
  const again = asm.unique('again');
  const at = (disp: number): Memory => mem({ label: sharedInfo, disp });
  emitSystemTime(asm, sharedInfo);
  asm.push(rax).label(again).mov(r8d, at(SHARED_INFO.wallClockVersion));
  asm
    .mov(eax, at(SHARED_INFO.wallClockSeconds))
    .mov(edx, at(SHARED_INFO.wallClockSecondsHigh))
    .shl(rdx, 32)
    .or(rax, rdx);
  asm.imul(rax, rax, 1_000_000_000).mov(edx, at(SHARED_INFO.wallClockNanoseconds)).add(rax, rdx);
  asm.mov(r9, r8).and(r9, 1).j('nz', again).cmp(r8d, at(SHARED_INFO.wallClockVersion)).j('ne', again);
  asm.pop(rdx).add(rax, rdx);
}
