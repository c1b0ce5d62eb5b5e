// SPDX-License-Identifier: MIT
// What programs do most of the time, for some seconds: arithmetic, loads and stores, branches that depend on data, calls. By this the speed
// of guests on a computer is told; the benchmark beside it measures what a kernel does with its hypervisor.
import type { Assembler } from '../../engine/x86/assembler/assembler.ts';
import { edx, mem, r12, r13, r14, rax, rbx, rdi, rdx } from '../../engine/x86/assembler/operands.ts';
import { emitSystemTime } from './clock.ts';

const NANOSECONDS = 5_000_000_000;
/** Between two looks at the clock. */
const TURNS = 1_000_000;

/** Instructions of one turn; one of them is run in half of the turns only. */
export const INSTRUCTIONS_PER_TURN = 14.5;

const FACTOR = 1103515245;
const STEP = 12345;
const BRANCH_BIT = 0x40000;

/** Emits `ordinary_code`. Uses all registers but rsp. */
export function emitOrdinaryCode(asm: Assembler): void {
  const more = asm.unique('more');
  const turn = asm.unique('turn');
  const even = asm.unique('even');
  asm.label('ordinary_code');
  emitSystemTime(asm, 'shared_info');
  asm
    .mov(r13, rax)
    .mov(rax, NANOSECONDS / 1000)
    .imul(rax, rax, 1000)
    .add(r13, rax);
  asm
    .label(more)
    .mov(r12, TURNS)
    .lea(rdi, mem({ label: 'scratch_page' }));
  asm.label(turn).imul(r14, r14, FACTOR).add(r14, STEP);
  asm.mov(rdx, r14).shr(rdx, 16).and(edx, 0xff8);
  asm.add(mem({ base: rdi, index: rdx }), r14);
  asm.test(r14, BRANCH_BIT).j('z', even).xor(rbx, r14).label(even);
  asm.call('ordinary_step').dec(r12).j('nz', turn);
  emitSystemTime(asm, 'shared_info');
  asm.cmp(rax, r13).j('b', more).ret();
  asm
    .label('ordinary_step')
    .rol(rbx, 7)
    .add(rbx, mem({ base: rdi, index: rdx }))
    .ret();
}

/** Turns of the same work that this computer does by itself in a second: the best of a few tries. */
export function nativeTurnsPerSecond(): number {
  const table = new Int32Array(512);
  const turns = 20_000_000;
  let best = 0;
  let y = 0;
  for (let round = 0; round < 5; round++) {
    let x = round + 1;
    const start = performance.now();
    const before = process.cpuUsage();
    for (let i = 0; i < turns; i++) {
      x = (Math.imul(x, FACTOR) + STEP) | 0;
      const at = (x >>> 16) & 511;
      table[at] += x;
      if ((x & BRANCH_BIT) !== 0) y ^= x;
      y = (((y << 7) | (y >>> 25)) + table[at]) | 0;
    }
    const { user, system } = process.cpuUsage(before);
    // On a busy computer we wait for a core, as the guest did: only time at work counts.
    const seconds = Math.min((performance.now() - start) * 1e-3, (user + system) * 1e-6);
    // `y` is used so that the loop is not removed.
    if (y !== 0.5) best = Math.max(best, turns / seconds);
  }
  return best;
}
