// SPDX-License-Identifier: MIT
// The demonstration guest: a paravirtualised kernel of our own, assembled by our own assembler, that shows what a PV guest sees.
import { Assembler } from '../../engine/x86/assembler/assembler.ts';
import { encodeXenNotes, segmentsOf, writeElf } from '../../engine/x86/assembler/elf-writer.ts';
import { mem, rbp, rbx, rdi, rsi } from '../../engine/x86/assembler/operands.ts';
import { emitBenchmark, emitBenchmarkSetup } from './bench.ts';
import { emitBoot, emitDescribeMachine, emitMemoryRoutines, VIRT_BASE } from './boot.ts';
import { emitCalendar } from './calendar.ts';
import { emitCommands } from './commands.ts';
import { emitOrdinaryCode } from './ordinary-code.ts';
import { emitEventRoutines, emitEventSetup } from './events.ts';
import { emitPrintRoutines, placeText, print, printDecimal } from './print.ts';
import { SHUTDOWN, START_INFO } from './xen-abi.ts';

/** Where the image lies in the guest's own memory: 1 MiB, as kernels do. */
const LOAD_ADDRESS = 0x100000n;
const ONE_SECOND = 1_000_000_000;
const TICKS = 3;

const BANNER = `
  Paravane
  A paravirtualised demonstration guest, assembled by Paravane itself.
  There is no BIOS and no hardware here: only hypercalls, shared pages and events.
`;

/**
 * Builds the guest as an ELF64 image with Xen notes. Needs 8 MiB of memory. It prints what it finds, then obeys keys;
 * with `demo=auto` on its command line it powers off instead.
 */
export function buildDemoGuest(): Uint8Array {
  const asm = new Assembler();
  emitBoot(asm);
  emitEventSetup(asm);
  emitBenchmarkSetup(asm);
  emitMain(asm);
  emitPrintRoutines(asm);
  emitMemoryRoutines(asm);
  emitEventRoutines(asm);
  emitCalendar(asm);
  emitBenchmark(asm);
  emitOrdinaryCode(asm);
  emitCommands(asm);

  const base = VIRT_BASE + LOAD_ADDRESS;
  const image = asm.link(base);
  const entry = image.symbols.get('start') ?? base;
  const notes = encodeXenNotes([
    { name: 'GUEST_OS', value: 'paravane-demo' },
    { name: 'GUEST_VERSION', value: '1' },
    { name: 'XEN_VERSION', value: 'xen-3.0' },
    { name: 'LOADER', value: 'generic' },
    { name: 'VIRT_BASE', value: VIRT_BASE },
    { name: 'PADDR_OFFSET', value: 0n },
    { name: 'ENTRY', value: entry },
    { name: 'PAE_MODE', value: 'yes' },
  ]);
  return writeElf({ bits: 64, entry, segments: segmentsOf(image, base, LOAD_ADDRESS), notes });
}

/** The demonstration itself, in the order in which it is seen. */
function emitMain(asm: Assembler): void {
  print(asm, BANNER);
  emitDescribeMachine(asm);

  print(asm, '\n  The clock, from shared memory:\n    ');
  asm.call('print_date_and_time');
  print(asm, '\n\n  A one-second timer, asleep in between:\n');
  const tick = asm.unique('tick');
  asm.mov(rbp, 1).label(tick).mov(rdi, ONE_SECOND).call('sleep');
  print(asm, '    tick ');
  printDecimal(asm, rbp);
  print(asm, '\n');
  asm.inc(rbp).cmp(rbp, TICKS).j('be', tick);

  print(asm, '\n  What things cost:\n');
  asm.call('benchmark');

  const interactive = asm.unique('interactive');
  asm.mov(rbx, mem({ label: 'start_info' })).lea(rdi, mem({ base: rbx, disp: START_INFO.commandLine }));
  asm
    .lea(rsi, mem({ label: placeText(asm, 'demo=auto') }))
    .call('find_text')
    .j('nc', interactive);
  print(asm, '\n  demo=auto: powering off\n');
  asm.mov(rdi, SHUTDOWN.poweroff).jmp('shut_down');
  asm.label(interactive);
  print(asm, '\n  Press a key:\n');
  asm.call('help').jmp('command_loop');
}
