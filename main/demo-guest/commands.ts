// SPDX-License-Identifier: MIT
// The keyboard of the demonstration guest: waits for console input by event and obeys single letters.
import type { Assembler } from '../../engine/x86/assembler/assembler.ts';
import { al, ecx, edx, mem, rax, rbx, rcx, rdi, rdx, type Memory } from '../../engine/x86/assembler/operands.ts';
import { print } from './print.ts';
import { CONSOLE_RING, SHUTDOWN } from './xen-abi.ts';

interface Command {
  readonly key: string;
  readonly help: string;
  /** Emits what the key does; may jump away. */
  readonly action: (asm: Assembler) => void;
}

const COMMANDS: readonly Command[] = [
  { key: 'h', help: 'this help', action: (asm) => asm.call('help') },
  { key: 'b', help: 'the benchmark again', action: (asm) => asm.call('benchmark') },
  { key: 'w', help: 'work: ordinary code for five seconds', action: (asm) => asm.call('ordinary_code') },
  {
    key: 't',
    help: 'date and time',
    action: (asm) => {
      print(asm, '    ');
      asm.call('print_date_and_time');
      print(asm, '\n');
    },
  },
  {
    key: 'c',
    help: 'crash: follow a null pointer',
    action: (asm) => asm.mov(ecx, 0).mov(rax, mem({ base: rcx })),
  },
  {
    key: 'r',
    help: 'reboot',
    action: (asm) => {
      print(asm, '    rebooting\n');
      asm.mov(rdi, SHUTDOWN.reboot).jmp('shut_down');
    },
  },
  {
    key: 'q',
    help: 'power off',
    action: (asm) => {
      print(asm, '    powering off\n');
      asm.mov(rdi, SHUTDOWN.poweroff).jmp('shut_down');
    },
  },
];

/** Emits `command_loop`, which never returns, and `help`. */
export function emitCommands(asm: Assembler): void {
  const prompt = asm.unique('prompt');
  asm.label('command_loop').label(prompt);
  print(asm, '\n  demo> ');
  asm.call('flush').call('read_key');
  for (const { key, action } of COMMANDS) {
    const other = asm.unique('other');
    asm.cmp(al, key.charCodeAt(0)).j('ne', other);
    print(asm, `${key}\n`);
    action(asm);
    asm.jmp(prompt).label(other);
  }
  print(asm, '?\n    press h for help');
  asm.jmp(prompt);

  asm.label('help');
  for (const { key, help } of COMMANDS) print(asm, `    ${key}  ${help}\n`);
  asm.ret();
  emitReadKey(asm);
}

/** Emits `read_key`: al = the next character; sleeps until there is one. */
function emitReadKey(asm: Assembler): void {
  const look = asm.unique('look');
  const ready = asm.unique('ready');
  const at = (disp: number): Memory => mem({ base: rbx, disp });
  asm.label('read_key').mov(rbx, mem({ label: 'console_ring' }));
  asm.label(look).mov(ecx, at(CONSOLE_RING.inputConsumer)).cmp(ecx, at(CONSOLE_RING.inputProducer)).j('ne', ready);
  asm.call('wait_for_event').jmp(look);
  asm
    .label(ready)
    .mov(edx, ecx)
    .and(edx, CONSOLE_RING.inputSize - 1);
  asm.movzx({ ...rax, name: 'eax', size: 4 }, mem({ base: rbx, index: rdx, disp: CONSOLE_RING.input, size: 1 }));
  asm.inc(ecx).mov(at(CONSOLE_RING.inputConsumer), ecx).jmp('flush');
}
