// SPDX-License-Identifier: MIT
// First instructions of the demonstration guest: stack, shared_info, console ring, and what start_info says.
import type { Assembler } from '../../engine/x86/assembler/assembler.ts';
import {
  addressOf,
  eax,
  mem,
  rax,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  rsp,
  type Memory,
} from '../../engine/x86/assembler/operands.ts';
import { emitHypercall } from './hypercall.ts';
import { print, printDecimal, printHex } from './print.ts';
import { M2P_VIRT_START, PTE_RW, START_INFO, UVMF } from './xen-abi.ts';

/** Virtual address of pseudo-physical frame 0. */
export const VIRT_BASE = 0xffffffff80000000n;

const EARLY_MESSAGE = 'Paravane demonstration guest: first words, by console_io\r\n';
const LABEL_WIDTH = 18;

/** Emits `start`: rsi holds the address of start_info. Afterwards print works and rbx is start_info. */
export function emitBoot(asm: Assembler): void {
  asm
    .label('start')
    .cld()
    .lea(rsp, mem({ label: 'stack_top' }))
    .mov(mem({ label: 'start_info' }), rsi)
    .mov(rbx, rsi);
  emitHypercall(asm, 'console_io', 0, EARLY_MESSAGE.length, addressOf('early_message'));
  asm.mov(rsi, startInfo(START_INFO.sharedInfo)).or(rsi, PTE_RW);
  emitHypercall(asm, 'update_va_mapping', addressOf('shared_info'), rsi, UVMF.invlpg);

  // The ring's page is part of our memory: the M2P tells where the builder mapped it.
  asm.mov(rax, startInfo(START_INFO.consoleMfn)).mov(rcx, M2P_VIRT_START);
  asm
    .mov(rax, mem({ base: rcx, index: rax, scale: 8 }))
    .shl(rax, 12)
    .mov(rcx, VIRT_BASE)
    .add(rax, rcx);
  asm.mov(mem({ label: 'console_ring' }), rax);
  asm.mov(eax, startInfo(START_INFO.consolePort)).mov(mem({ label: 'console_port' }), eax);

  asm.section('data').align(8).label('start_info').dq(0).label('early_message').ascii(EARLY_MESSAGE);
  asm.section('bss').align(4096).label('shared_info').reserve(4096).reserve(16384).label('stack_top').section('text');
}

/** Emits `machine_address`: rdi virtual address -> rax machine address, through the P2M list. Uses rcx. */
export function emitMemoryRoutines(asm: Assembler): void {
  asm.label('machine_address').mov(rax, rdi).mov(rcx, VIRT_BASE).sub(rax, rcx).shr(rax, 12);
  asm.mov(rcx, mem({ label: 'start_info' })).mov(rcx, mem({ base: rcx, disp: START_INFO.mfnList }));
  asm
    .mov(rax, mem({ base: rcx, index: rax, scale: 8 }))
    .shl(rax, 12)
    .ret();

  // find_text: CF set if the text at rsi occurs in the text at rdi. Uses rax, rcx, rdx.
  const outer = asm.unique('outer');
  const inner = asm.unique('inner');
  const found = asm.unique('found');
  const next = asm.unique('next');
  const character = { ...rax, name: 'al', size: 1 } as const;
  asm.label('find_text').label(outer).mov(rcx, rdi).mov(rdx, rsi);
  asm
    .label(inner)
    .mov(character, mem({ base: rdx }))
    .test(character, character)
    .j('z', found);
  asm
    .cmp(character, mem({ base: rcx }))
    .j('ne', next)
    .inc(rcx)
    .inc(rdx)
    .jmp(inner);
  asm
    .label(next)
    .cmp(mem({ base: rdi, size: 1 }), 0)
    .j('e', 'find_text_end')
    .inc(rdi)
    .jmp(outer);
  asm.label(found).stc().ret().label('find_text_end').clc().ret();
}

function startInfo(disp: number): Memory {
  return mem({ base: rbx, disp });
}

/** Emits the description of the machine, as start_info and the hypervisor give it. */
export function emitDescribeMachine(asm: Assembler): void {
  const line = (label: string, value: () => void): void => {
    print(asm, `    ${label.padEnd(LABEL_WIDTH)}`);
    value();
    print(asm, '\n');
  };
  const text = (disp: number): void => {
    asm.lea(rdi, mem({ base: rbx, disp })).call('put_text');
  };
  asm.mov(rbx, mem({ label: 'start_info' }));
  print(asm, '\n  What the domain builder told us (start_info):\n');
  line('magic', () => text(START_INFO.magic));
  line('memory', () => {
    asm.mov(rax, startInfo(START_INFO.nrPages)).shr(rax, 8);
    printDecimal(asm, rax);
    print(asm, ' MiB in ');
    printDecimal(asm, startInfo(START_INFO.nrPages));
    print(asm, ' frames');
  });
  line('flags', () => {
    asm.mov(eax, startInfo(START_INFO.flags));
    printHex(asm, rax);
  });
  line('shared_info', () => {
    print(asm, 'machine address ');
    printHex(asm, startInfo(START_INFO.sharedInfo));
  });
  for (const [name, mfn, port] of [
    ['xenstore', START_INFO.storeMfn, START_INFO.storePort],
    ['console', START_INFO.consoleMfn, START_INFO.consolePort],
  ] as const) {
    line(name, () => {
      print(asm, 'machine frame ');
      printHex(asm, startInfo(mfn));
      print(asm, ', port ');
      asm.mov(eax, startInfo(port));
      printDecimal(asm, rax);
    });
  }
  line('page tables', () => {
    printDecimal(asm, startInfo(START_INFO.nrPageTableFrames));
    print(asm, ' frames at ');
    printHex(asm, startInfo(START_INFO.pageTableBase));
  });
  line('command line', () => {
    print(asm, '"');
    text(START_INFO.commandLine);
    print(asm, '"');
  });
  line('hypervisor', () => {
    emitHypercall(asm, 'xen_version', 0, 0);
    asm.mov(rdi, rax).shr(rdi, 16).and(rax, 0xffff);
    print(asm, 'Xen interface ');
    asm.call('put_decimal');
    print(asm, '.');
    printDecimal(asm, rax);
  });
}
