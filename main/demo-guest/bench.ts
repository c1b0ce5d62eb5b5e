// SPDX-License-Identifier: MIT
// Micro-benchmark of the demonstration guest: nanoseconds for each of the small things a PV kernel does all day.
import type { Assembler } from '../../engine/x86/assembler/assembler.ts';
import { addressOf, edx, mem, r12, r13, r14, rax, rdi, rdx } from '../../engine/x86/assembler/operands.ts';
import { emitSystemTime } from './clock.ts';
import { emitHypercall } from './hypercall.ts';
import { print, printDecimal } from './print.ts';
import { EVTCHN_OP, UVMF } from './xen-abi.ts';

interface Measurement {
  readonly name: string;
  readonly iterations: number;
  /** Emits one iteration; r12, r13 and r14 belong to the loop. */
  readonly body: (asm: Assembler) => void;
}

const MEASUREMENTS: readonly Measurement[] = [
  {
    name: 'hypercall (xen_version)',
    iterations: 200_000,
    body: (asm) => emitHypercall(asm, 'xen_version', 0, 0),
  },
  {
    name: 'page-table update (update_va_mapping)',
    iterations: 100_000,
    body: (asm) => emitHypercall(asm, 'update_va_mapping', addressOf('scratch_page'), r14, UVMF.invlpg),
  },
  {
    name: 'exception and return (#BP, iret)',
    iterations: 100_000,
    body: (asm) => asm.int3(),
  },
  {
    name: 'event to ourselves (send)',
    iterations: 100_000,
    body: (asm) => emitHypercall(asm, 'event_channel_op', EVTCHN_OP.send, addressOf('bench_port')),
  },
  {
    name: 'loop of two instructions',
    iterations: 20_000_000,
    body: () => undefined,
  },
];
const NAME_WIDTH = 40;

/** Emits `benchmark`, which prints one line per measurement. Uses all registers but rsp. */
export function emitBenchmark(asm: Assembler): void {
  asm.label('benchmark');
  for (const { name, iterations, body } of MEASUREMENTS) {
    const next = asm.unique('next');
    print(asm, `    ${name.padEnd(NAME_WIDTH)}`);
    asm
      .lea(rdi, mem({ label: 'scratch_page' }))
      .call('machine_address')
      .or(rax, 0x67)
      .mov(r14, rax);
    emitSystemTime(asm, 'shared_info');
    asm.mov(r13, rax).mov(r12, iterations).label(next);
    body(asm);
    asm.dec(r12).j('nz', next);
    emitSystemTime(asm, 'shared_info');

    // Tenths of nanoseconds per iteration, printed with one decimal.
    asm.sub(rax, r13).imul(rax, rax, 10).mov(edx, 0).mov(rdi, iterations).div(rdi);
    asm.mov(edx, 0).mov(rdi, 10).div(rdi);
    printDecimal(asm, rax);
    print(asm, '.');
    printDecimal(asm, rdx);
    print(asm, ' ns\n');
  }
  asm.ret();
  asm.section('data').align(8).label('bench_bind').dd(0).label('bench_port').dd(0).section('text');
  asm.section('bss').align(4096).label('scratch_page').reserve(4096).section('text');
}

/** Emits the binding of the event channel that the benchmark sends to, masked so that it costs no upcall. */
export function emitBenchmarkSetup(asm: Assembler): void {
  emitHypercall(asm, 'event_channel_op', EVTCHN_OP.bindIpi, addressOf('bench_bind'));
}
