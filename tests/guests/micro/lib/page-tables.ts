// SPDX-License-Identifier: MIT
// Guest code that translates addresses (P2M and M2P) and walks its own page tables.
import type { Assembler } from '../../../../engine/x86/assembler/assembler.ts';
import { cl, mem, r8, r9, rax, rcx, rdi, rdx, rsi } from '../../../../engine/x86/assembler/operands.ts';
import { M2P_VIRT_START, START_INFO } from '../../../../main/demo-guest/xen-abi.ts';

/** Virtual address of pseudo-physical frame 0. */
export const VIRT_BASE = 0xffffffff80000000n;

/** Mask of the frame-number bits of a page-table entry, in place. */
const FRAME_MASK = 0x000ffffffffff000n;

/** Emits the routines `rt_maddr`, `rt_frame_to_virt` and `rt_walk`. */
export function emitPageTableRoutines(asm: Assembler): void {
  // rt_maddr: rdi virtual address of the image -> rax machine address. Uses rcx, rdx.
  asm.label('rt_maddr').mov(rax, rdi).mov(rcx, VIRT_BASE).sub(rax, rcx).shr(rax, 12);
  asm.mov(rcx, mem({ label: 'rt_start_info' })).mov(rcx, mem({ base: rcx, disp: START_INFO.mfnList }));
  asm.mov(rax, mem({ base: rcx, index: rax, scale: 8 })).shl(rax, 12);
  asm.mov(rdx, rdi).and(rdx, 0xfff).or(rax, rdx).ret();

  // rt_frame_to_virt: rax page-table entry -> rax virtual address of the frame it names. Uses rcx.
  asm.label('rt_frame_to_virt').mov(rcx, FRAME_MASK).and(rax, rcx).shr(rax, 9);
  asm
    .mov(rcx, M2P_VIRT_START)
    .mov(rax, mem({ base: rax, index: rcx }))
    .shl(rax, 12);
  asm.mov(rcx, VIRT_BASE).add(rax, rcx).ret();

  // rt_walk: rdi virtual address, rsi level (1-4) -> rax virtual address of its entry in the table of that level,
  // rdx machine address of the entry, r9 its content. Uses rcx, r8.
  const level = asm.unique('level');
  const found = asm.unique('found');
  asm.label('rt_walk').mov(r8, 39);
  asm.mov(rax, mem({ label: 'rt_start_info' })).mov(rax, mem({ base: rax, disp: START_INFO.pageTableBase }));
  asm.mov(rdx, 4);
  asm.label(level).push(rdi).mov(rcx, r8).shr(rdi, cl).and(rdi, 511);
  asm
    .lea(rax, mem({ base: rax, index: rdi, scale: 8 }))
    .pop(rdi)
    .mov(r9, mem({ base: rax }));
  asm.cmp(rdx, rsi).j('e', found).dec(rdx).sub(r8, 9);
  asm.mov(rax, r9).call('rt_frame_to_virt').jmp(level);
  asm.label(found).push(rdi).push(rax).mov(rdi, rax).call('rt_maddr').mov(rdx, rax).pop(rax).pop(rdi).ret();

  asm.section('data').align(8).label('rt_start_info').dq(0).section('text');
}
