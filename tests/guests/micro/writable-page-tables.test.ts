// SPDX-License-Identifier: MIT
// Micro-guests: writable page tables, the assist that emulates a kernel's own writes to its L1 tables.
import { addressOf, eax, mem, r12, r13, rax, rbx } from '../../../engine/x86/assembler/operands.ts';
import { DOMID_SELF, MMUEXT, PTE_RW } from '../../../main/demo-guest/xen-abi.ts';
import { testMicroGuest } from './run.ts';

const WRITABLE_PAGETABLES = 2;
/** Accessed and dirty bits, and bit 8, which Xen uses for itself. */
const VOLATILE = 0x160;

testMicroGuest('writable page tables', (asm, lib) => {
  const [a, b] = [lib.pages('a'), lib.pages('b')];
  const invalidate = lib.data((d) => d.dd(MMUEXT.invlpgLocal, 0).dq(addressOf(a), 0));
  const flush = (): void => {
    lib.hypercall('mmuext_op', invalidate, 1, 0, DOMID_SELF);
  };
  asm.mov(mem({ label: a, size: 8 }), 0x11).mov(mem({ label: b, size: 8 }), 0x22);
  lib.walk(a);
  asm.mov(r12, rax).mov(r13, r12);
  lib.machineAddress(b);
  asm.or(rax, PTE_RW).mov(rbx, rax);
  lib.expectTrap('without the assist a write to a table faults', { vector: 14, error: 3 }, () => {
    asm.mov(mem({ base: r12 }), rbx);
  });
  lib.call('enable', 0, 'vm_assist', 0, WRITABLE_PAGETABLES);
  asm.mov(mem({ base: r12 }), rbx);
  flush();
  lib.expectMemory('mov: the new frame is seen', mem({ label: a, size: 8 }), 0x22);
  asm
    .mov(eax, 0)
    .xchg(mem({ base: r12 }), rax)
    .sub(rax, rbx)
    .and(rax, ~VOLATILE);
  lib.expect('xchg returns the old entry', 0);
  flush();
  lib.expectTrap('xchg: the page is gone', { vector: 14, error: 0, cr2: addressOf(a) }, () => {
    asm.mov(rax, mem({ label: a }));
  });
  asm
    .mov(eax, 0)
    .lock()
    .cmpxchg(mem({ base: r12 }), rbx);
  lib.expectCondition('cmpxchg on an empty entry succeeds', 'e');
  lib.expectMemory('cmpxchg: the page is there', mem({ label: a, size: 8 }), 0x22);
  asm
    .mov(eax, 1)
    .lock()
    .cmpxchg(mem({ base: r12 }), rbx);
  lib.expectCondition('cmpxchg with another old value fails', 'ne');
  asm.lock().btr(mem({ base: r12, size: 8 }), 1);
  lib.expectCondition('btr saw the bit', 'c');
  flush();
  lib.expectTrap('btr: read-only now', { vector: 14, error: 3, cr2: addressOf(a) }, () => {
    asm.mov(mem({ label: a, size: 8 }), 1);
  });
  asm.lock().or(mem({ base: r12, size: 8 }), 2);
  flush();
  asm.mov(mem({ label: a, size: 8 }), 0x24);
  lib.expectMemory('or: writable again', mem({ label: b, size: 8 }), 0x24);
  asm
    .and(mem({ base: r12, size: 1 }), 0x9f)
    .mov(rax, mem({ base: r12 }))
    .and(eax, 0x60);
  lib.expect('a byte of an entry can be written: A and D cleared', 0);
  flush();
  asm
    .mov(rax, mem({ label: a }))
    .mov(rax, mem({ base: r12 }))
    .and(eax, 0x60);
  lib.expect('a read sets A again', 0x20);
  asm
    .mov(mem({ label: a, size: 8 }), 0x25)
    .mov(rax, mem({ base: r12 }))
    .and(eax, 0x60);
  lib.expect('a write sets D', 0x60);

  // What the hypervisor would refuse is a fault for the guest.
  asm.mov(rbx, 0x000fffffffff0000n | BigInt(PTE_RW));
  lib.expectTrap('an entry with a frame that does not exist', { vector: 14, error: 3 }, () => {
    asm.mov(mem({ base: r12 }), rbx);
  });
  lib.walk(a, 2);
  asm.mov(r12, rax);
  lib.expectTrap('L2 tables are not writable', { vector: 14, error: 3 }, () => asm.mov(mem({ base: r12 }), rbx));
  lib.call('disable', 0, 'vm_assist', 1, WRITABLE_PAGETABLES);
  lib.expectTrap('disabled: a fault again', { vector: 14, error: 3 }, () => asm.mov(mem({ base: r13 }), rbx));
});
