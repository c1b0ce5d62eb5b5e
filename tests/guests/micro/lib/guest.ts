// SPDX-License-Identifier: MIT
// Micro-guests: a boot path, the runtime routines, and the vocabulary in which each test guest is written.
import { Assembler } from '../../../../engine/x86/assembler/assembler.ts';
import {
  encodeXenNotes,
  segmentsOf,
  writeElf,
  xenGuestSection,
  type XenNote,
} from '../../../../engine/x86/assembler/elf-writer.ts';
import {
  addressOf,
  al,
  cs,
  ds,
  eax,
  es,
  fs,
  gs,
  mem,
  r11,
  r15,
  r8,
  rax,
  rbp,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  rsp,
  ss,
  type Immediate,
  type LabelAddress,
  type Memory,
  type Register,
} from '../../../../engine/x86/assembler/operands.ts';
import type { Condition } from '../../../../engine/x86/assembler/general-instructions.ts';
import { emitHypercall, type HypercallArgument } from '../../../../main/demo-guest/hypercall.ts';
import {
  CALLBACK,
  CALLBACK_OP,
  FLAT_USER_CS,
  PTE_RW,
  SHUTDOWN,
  START_INFO,
  UVMF,
  type HypercallName,
} from '../../../../main/demo-guest/xen-abi.ts';
import { emitPageTableRoutines, VIRT_BASE } from './page-tables.ts';
import { emitReportRoutines, placeText } from './report.ts';
import { emitConsoleRoutines, emitStoreRoutines } from './rings.ts';
import {
  emitEventRoutines,
  emitSetTrapTable,
  emitTrapRoutines,
  emitTrapTable,
  eventField,
  field,
  NO_ERROR_CODE,
  TRAP_VECTORS,
} from './traps.ts';
import { emitIretTo, emitUserModeRoutines } from './user-mode.ts';

/** Physical address at which the image is loaded: 1 MiB, as kernels do. */
const LOAD_ADDRESS = 0x100000n;

export interface MicroGuestOptions {
  /** Adds a HYPERCALL_PAGE note; the page is the label `rt_hypercall_page`. */
  hypercallPage?: boolean;
  /** Describes the image by a legacy `__xen_guest` section instead of notes. */
  legacySection?: boolean;
  /** Notes in addition to the usual ones. */
  notes?: readonly XenNote[];
}

export interface MicroGuest {
  readonly kernel: Uint8Array;
  /** Names of all checks, in the order of the source: the guest prints `OK name` for each. */
  readonly checks: readonly string[];
  readonly symbols: ReadonlyMap<string, bigint>;
}

/** What a trap is expected to look like; what is left out is not checked. */
export interface ExpectedTrap {
  vector: number;
  /** The error code, or 'none' for a frame without one. */
  error?: number | 'none';
  cr2?: Immediate | LabelAddress;
  /** Label of the instruction that rip must name; by default the first one of the body. */
  rip?: string | false;
}

/** The words in which the body of a micro-guest is written. */
export class GuestLib {
  readonly asm: Assembler;
  readonly checks: string[] = [];

  constructor(asm: Assembler) {
    this.asm = asm;
  }

  /** Checks that rax holds `value` (64 bits, negative numbers as errnos). Changes no register. */
  expect(name: string, value: Immediate | LabelAddress): void {
    this.expectRegister(name, rax, value);
  }

  expectRegister(name: string, register: Register, value: Immediate | LabelAddress): void {
    const { asm } = this;
    this.checks.push(name);
    asm.mov(mem({ label: 'rt_actual' }), register).push(rax);
    if (typeof value === 'object') asm.mov(rax, value);
    else asm.mov(rax, BigInt.asUintN(64, BigInt(value)));
    asm.mov(mem({ label: 'rt_expected' }), rax).lea(rax, mem({ label: placeText(asm, name) }));
    asm
      .mov(mem({ label: 'rt_name' }), rax)
      .pop(rax)
      .call('rt_report');
  }

  /** Checks memory of the given width (zero-extended). Changes no register. */
  expectMemory(name: string, operand: Memory, value: Immediate | LabelAddress): void {
    const { asm } = this;
    asm.push(rax);
    const shifted = operand.base?.code === 4 ? mem({ ...presentOptions(operand), disp: operand.disp + 8 }) : operand;
    this.#loadZeroExtended(shifted);
    this.expect(name, typeof value === 'object' ? value : BigInt.asUintN((operand.size ?? 8) * 8, BigInt(value)));
    asm.pop(rax);
  }

  /** Checks that a condition of the flags holds. Changes no general register. */
  expectCondition(name: string, condition: Condition): void {
    const { asm } = this;
    asm.push(rax).set(condition, al).movzx(eax, al);
    this.expect(name, 1);
    asm.pop(rax);
  }

  #loadZeroExtended(operand: Memory): void {
    const { asm } = this;
    const size = operand.size ?? 8;
    if (size < 4) asm.movzx(eax, operand);
    else asm.mov(size === 4 ? eax : rax, operand);
  }

  /** A hypercall; the result is in rax. */
  hypercall(name: HypercallName | number, ...args: HypercallArgument[]): void {
    emitHypercall(this.asm, name, ...args);
  }

  /** A hypercall whose result must be `value`. */
  call(check: string, value: Immediate, name: HypercallName | number, ...args: HypercallArgument[]): void {
    this.hypercall(name, ...args);
    this.expect(check, value);
  }

  /** Places data that `emit` writes, 8-byte aligned; returns its address. */
  data(emit: (asm: Assembler) => void, label = this.asm.unique('data')): LabelAddress {
    const { asm } = this;
    asm.section('data').align(8).label(label);
    emit(asm);
    asm.section('text');
    return addressOf(label);
  }

  /** Reserves `count` zeroed pages of their own; returns their label. */
  pages(stem: string, count = 1): string {
    const label = this.asm.unique(stem);
    this.asm
      .section('bss')
      .align(4096)
      .label(label)
      .reserve(4096 * count)
      .section('text');
    return label;
  }

  /** rax = machine address of a label. Uses rcx, rdx, rdi. */
  machineAddress(label: string): void {
    this.asm.lea(rdi, mem({ label })).call('rt_maddr');
  }

  /** rax, rdx, r9 = virtual address, machine address, content of the level-`level` entry that maps `label`. */
  walk(label: string, level = 1): void {
    this.asm.lea(rdi, mem({ label })).mov(rsi, level).call('rt_walk');
  }

  /** Maps the frame of `source` at the page `label` with `flags`. The result is in rax; uses rcx, rdx and the arguments. */
  remap(label: string, source: string, flags: number): void {
    this.machineAddress(source);
    this.asm.or(rax, flags).mov(rsi, rax);
    this.hypercall('update_va_mapping', addressOf(label), rsi, UVMF.invlpg);
  }

  /** Tells the trap handler that one trap is welcome, and where to go on (default: where the frame says). */
  arm(resume?: string): void {
    const { asm } = this;
    asm.push(rax).mov(rax, resume === undefined ? 0 : addressOf(resume));
    asm.mov(mem({ label: 'rt_trap_resume' }), rax).pop(rax);
    asm.mov(field('vector'), -1).mov(mem({ label: 'rt_trap_armed', size: 8 }), 1);
  }

  /** Checks the trap record against `expected`. */
  expectTrapRecord(name: string, expected: ExpectedTrap): void {
    this.expectMemory(`${name}: vector`, field('vector'), expected.vector);
    if (expected.error !== undefined) {
      const code = expected.error === 'none' ? NO_ERROR_CODE : expected.error;
      this.expectMemory(`${name}: error code`, field('error'), code);
    }
    if (expected.cr2 !== undefined) this.expectMemory(`${name}: cr2`, field('cr2'), expected.cr2);
    if (typeof expected.rip === 'string') this.expectMemory(`${name}: rip`, field('rip'), addressOf(expected.rip));
  }

  /** Runs `body`, which must trap as described; execution goes on after it, with all registers as they were. */
  expectTrap(name: string, expected: ExpectedTrap, body: () => void): void {
    const { asm } = this;
    const site = asm.unique('site');
    const after = asm.unique('after');
    this.arm(after);
    asm.label(site);
    body();
    asm.label(after);
    this.expectTrapRecord(name, { ...expected, rip: expected.rip ?? site });
  }

  /** Prepares user mode: kernel stack, system-call entry, user page tables (the kernel's own). */
  setUpUserMode(): void {
    this.asm.call('rt_user_setup');
  }

  /**
   * Runs `body` in user mode with events masked unless `rflags` says otherwise. It ends with a system call whose
   * record is in `rt_syscall_record`; the kernel continues with rsp restored and all other registers as user left them.
   */
  user(body: () => void, options: { rflags?: number } = {}): void {
    const { asm } = this;
    const entry = asm.unique('user');
    const back = asm.unique('back');
    asm
      .push(rax)
      .mov(rax, addressOf(back))
      .mov(mem({ label: 'rt_user_return' }), rax)
      .pop(rax);
    asm.mov(mem({ label: 'rt_user_return_rsp' }), rsp);
    this.iretTo(entry, 'rt_user_stack_top', { cs: FLAT_USER_CS, ...options });
    asm.label(entry);
    body();
    asm.syscall().label(back);
  }

  /** Leaves through HYPERVISOR_iret to `rip` on the given stack. */
  iretTo(rip: string, stack: string, options: Parameters<typeof emitIretTo>[3]): void {
    emitIretTo(this.asm, rip, stack, options);
  }

  /** Registers the event entry point and leaves events masked. */
  setUpEvents(): void {
    const callback = this.data((asm) => asm.dw(CALLBACK.event, 0).dd(0).dq(addressOf('rt_event')));
    this.hypercall('callback_op', CALLBACK_OP.register, callback);
  }

  /** Opens the event mask the way a kernel does: store, test, and a cheap hypercall to have pending events delivered. */
  unmaskEvents(): void {
    this.asm.mov(mem({ label: 'rt_shared_info', disp: 1, size: 1 }), 0);
    this.hypercall('xen_version', 0, 0);
  }

  maskEvents(): void {
    this.asm.mov(mem({ label: 'rt_shared_info', disp: 1, size: 1 }), 1);
  }

  /** rax = 1 if `rt_event_ports` has the port whose number is in memory, and forgets it. Uses rcx. */
  takeEvent(port: Memory): void {
    const { asm } = this;
    asm.mov(eax, port).btr(mem({ label: 'rt_event_ports', size: 4 }), eax);
    asm.set('c', al).movzx(eax, al);
  }

  /** Ends the guest early with the given shutdown reason. */
  shutDown(reason: number): void {
    this.asm.mov(rdi, reason).jmp('rt_shutdown');
  }

  /** Prints a line of text. */
  print(text: string): void {
    const { asm } = this;
    asm.push(rax).push(rcx).push(rdi).push(rsi).push(r11);
    asm
      .lea(rdi, mem({ label: placeText(asm, text) }))
      .call('rt_put_text')
      .call('rt_end_line');
    asm.pop(r11).pop(rsi).pop(rdi).pop(rcx).pop(rax);
  }

  /** Field of the event record, for expectMemory. */
  readonly event = eventField;
  /** Field of the trap record, for expectMemory. */
  readonly trap = field;
}

function presentOptions(operand: Memory): Parameters<typeof mem>[0] {
  const { base, index, scale, label, seg, size } = operand;
  return {
    scale,
    ...(base && { base }),
    ...(index && { index }),
    ...(label !== undefined && { label }),
    ...(seg && { seg }),
    ...(size && { size }),
  };
}

/** Assembles a guest: boot path, `body`, power-off, runtime. */
export function microGuest(body: (asm: Assembler, lib: GuestLib) => void, options: MicroGuestOptions = {}): MicroGuest {
  const asm = new Assembler();
  const lib = new GuestLib(asm);
  if (options.hypercallPage === true || options.legacySection === true) {
    asm.label('rt_hypercall_page').bytes(new Uint8Array(4096).fill(0xc3));
  }
  asm.label('rt_start');
  emitSaveEntryState(asm);
  asm.mov(mem({ label: 'rt_start_info' }), rsi).lea(rsp, mem({ label: 'rt_stack_top' }));
  emitSetTrapTable(asm, 'rt_trap_table');
  asm.mov(rsi, mem({ label: 'rt_start_info' })).mov(rsi, mem({ base: rsi, disp: START_INFO.sharedInfo }));
  asm.or(rsi, PTE_RW);
  emitHypercall(asm, 'update_va_mapping', addressOf('rt_shared_info'), rsi, UVMF.invlpg);
  body(asm, lib);
  lib.shutDown(SHUTDOWN.poweroff);

  emitReportRoutines(asm);
  emitPageTableRoutines(asm);
  emitTrapRoutines(asm);
  emitEventRoutines(asm);
  emitUserModeRoutines(asm);
  emitStoreRoutines(asm);
  emitConsoleRoutines(asm);
  emitTrapTable(asm, 'rt_trap_table', TRAP_VECTORS, {});
  asm.section('bss').align(4096).label('rt_shared_info').reserve(4096).reserve(16384).label('rt_stack_top');
  return finish(asm, lib, options);
}

/** Stores what the domain builder left in the registers at `rt_entry_state`, as boot tests read it. */
function emitSaveEntryState(asm: Assembler): void {
  const slot = (index: number): Memory => mem({ label: 'rt_entry_state', disp: index * 8, size: 8 });
  for (const [index, register] of [rax, rcx, rdx, rbx, rbp, rdi, r8, r15].entries()) asm.mov(slot(index), register);
  for (const [index, segment] of [cs, ss, ds, es, fs, gs].entries()) {
    asm.movFromSegment(eax, segment).mov(slot(8 + index), rax);
  }
  asm.pushf().pop(slot(14)).mov(slot(15), rsp);
  asm.section('data').align(8).label('rt_entry_state').reserve(128).section('text');
}

function finish(asm: Assembler, lib: GuestLib, options: MicroGuestOptions): MicroGuest {
  const base = VIRT_BASE + LOAD_ADDRESS;
  const image = asm.link(base);
  const address = (label: string): bigint => image.symbols.get(label) ?? 0n;
  const notes: XenNote[] = [
    { name: 'GUEST_OS', value: 'paravane-micro-guest' },
    { name: 'XEN_VERSION', value: 'xen-3.0' },
    { name: 'LOADER', value: 'generic' },
    { name: 'VIRT_BASE', value: VIRT_BASE },
    { name: 'PADDR_OFFSET', value: 0n },
    { name: 'ENTRY', value: address('rt_start') },
    { name: 'PAE_MODE', value: 'yes' },
    ...(options.hypercallPage === true
      ? [{ name: 'HYPERCALL_PAGE', value: address('rt_hypercall_page') } as const]
      : []),
    ...(options.notes ?? []),
  ];
  const hypercallPageNumber = LOAD_ADDRESS / 4096n;
  const legacy = xenGuestSection({
    GUEST_OS: 'paravane-micro-guest',
    XEN_VER: 'xen-3.0',
    LOADER: 'generic',
    VIRT_BASE: `0x${VIRT_BASE.toString(16)}`,
    VIRT_ENTRY: `0x${address('rt_start').toString(16)}`,
    ELF_PADDR_OFFSET: '0x0',
    HYPERCALL_PAGE: `0x${hypercallPageNumber.toString(16)}`,
    PAE: 'yes',
  });
  const kernel = writeElf({
    bits: 64,
    entry: address('rt_start'),
    segments: segmentsOf(image, base, LOAD_ADDRESS),
    notes: options.legacySection === true ? undefined : encodeXenNotes(notes),
    sections: options.legacySection === true ? [legacy] : undefined,
  });
  return { kernel, checks: lib.checks, symbols: image.symbols };
}
