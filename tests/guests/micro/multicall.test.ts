// SPDX-License-Identifier: MIT
// Micro-guests: multicall. Results per entry, nesting, an iret among the entries.
import {
  addressOf,
  mem,
  rax,
  rdi,
  rsi,
  rsp,
  type Immediate,
  type LabelAddress,
  type Memory,
} from '../../../engine/x86/assembler/operands.ts';
import type { Assembler } from '../../../engine/x86/assembler/assembler.ts';
import { ERRNO, FLAT_DS, FLAT_KERNEL_CS, HYPERCALL, PTE_RW, UVMF } from '../../../main/demo-guest/xen-abi.ts';
import { testMicroGuest } from './run.ts';

const ENTRY_BYTES = 64;
const UNTOUCHED = 0x5a5a5a5a;

/** One entry: operation, place for the result, six arguments. */
function entry(asm: Assembler, op: number, ...args: (Immediate | LabelAddress)[]): void {
  asm.dq(op, UNTOUCHED, ...args, ...Array.from({ length: 6 - args.length }, () => 0));
}

const result = (list: LabelAddress, index: number): Memory =>
  mem({ label: list.label, disp: index * ENTRY_BYTES + 8, size: 8 });

testMicroGuest('multicall: results per entry', (asm, lib) => {
  const buffer = lib.pages('buffer');
  const list = lib.data((d) => {
    entry(d, HYPERCALL.xen_version, 7);
    entry(d, 63);
    entry(d, HYPERCALL.xen_version, 3, addressOf(buffer));
    entry(d, HYPERCALL.set_segment_base, 0, 1n << 60n);
    entry(d, HYPERCALL.stack_switch, FLAT_DS, addressOf('rt_kernel_stack_top'));
  });
  lib.call('multicall', 0, 'multicall', list, 5);
  lib.expectMemory('a value', result(list, 0), 4096);
  lib.expectMemory('an unknown hypercall', result(list, 1), -ERRNO.ENOSYS);
  lib.expectMemory('a pointer argument', result(list, 2), 0);
  lib.expectMemory('which was written through', mem({ label: buffer, size: 4 }), 0x2d6e6578);
  lib.expectMemory('a refusal', result(list, 3), -ERRNO.EINVAL);
  lib.expectMemory('the last', result(list, 4), 0);

  lib.call('of no entries', 0, 'multicall', list, 0);
  lib.call('of an unreadable list', -ERRNO.EFAULT, 'multicall', 0x7000, 1);
  asm.mov(mem({ label: list.label, disp: 8, size: 8 }), UNTOUCHED);
  lib.call('again, fewer', 0, 'multicall', list, 1);
  lib.expectMemory('first entry', result(list, 0), 4096);
});

testMicroGuest('multicall inside a multicall', (_asm, lib) => {
  const inner = lib.data((d) => {
    entry(d, HYPERCALL.xen_version, 7);
  });
  const outer = lib.data((d) => {
    entry(d, HYPERCALL.multicall, inner, 1);
    entry(d, HYPERCALL.xen_version, 7);
  });
  lib.call('outer', 0, 'multicall', outer, 2);
  lib.expectMemory('nesting is refused', result(outer, 0), -ERRNO.EINVAL);
  lib.expectMemory('the inner list was not run', result(inner, 0), UNTOUCHED);
  lib.expectMemory('the outer went on', result(outer, 1), 4096);
});

testMicroGuest('iret inside a multicall ends it', (asm, lib) => {
  const back = asm.unique('back');
  const list = lib.data((d) => {
    entry(d, HYPERCALL.xen_version, 7);
    entry(d, HYPERCALL.iret);
    entry(d, HYPERCALL.xen_version, 7);
  });
  asm.push(FLAT_DS).push(addressOf('rt_stack_top')).push(2).push(FLAT_KERNEL_CS).push(addressOf(back));
  asm.push(0).push(0x11).push(0x22).push(0x33);
  lib.hypercall('multicall', list, 3);
  asm.ud2().label(back);
  lib.expect('rax is the one of the frame', 0x33);
  lib.expectMemory('the entry before it was run', result(list, 0), 4096);
  lib.expectMemory('the entry after it was not', result(list, 2), UNTOUCHED);
  asm.mov(rax, rsp);
  lib.expect('the stack is the one of the frame', addressOf('rt_stack_top'));
});

testMicroGuest('a batch of page-table updates', (asm, lib) => {
  const [a, b] = [lib.pages('a', 4), lib.pages('b', 4)];
  const list = lib.data((d) => {
    for (let i = 0; i < 4; i++) entry(d, HYPERCALL.update_va_mapping, addressOf(a, i * 4096), 0, UVMF.invlpg);
  });
  for (let i = 0; i < 4; i++) {
    asm.mov(mem({ label: b, disp: i * 4096, size: 8 }), 0x100 + i);
    asm
      .lea(rdi, mem({ label: b, disp: i * 4096 }))
      .call('rt_maddr')
      .or(rax, PTE_RW)
      .mov(rsi, rax);
    asm.mov(mem({ label: list.label, disp: i * ENTRY_BYTES + 24 }), rsi);
  }
  lib.call('multicall', 0, 'multicall', list, 4);
  for (let i = 0; i < 4; i++) {
    lib.expectMemory(`result ${i.toString()}`, result(list, i), 0);
    lib.expectMemory(`page ${i.toString()}`, mem({ label: a, disp: i * 4096, size: 8 }), 0x100 + i);
  }
});
