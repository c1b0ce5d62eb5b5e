// SPDX-License-Identifier: MIT
// Micro-guests: mmu_update, update_va_mapping, mmuext_op, page types, M2P.
import {
  addressOf,
  eax,
  mem,
  r12,
  r13,
  rax,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  type LabelAddress,
} from '../../../engine/x86/assembler/operands.ts';
import {
  DOMID_SELF,
  ERRNO,
  M2P_VIRT_START,
  MMUEXT,
  PTE,
  PTE_RO,
  PTE_RW,
  START_INFO,
  UVMF,
} from '../../../main/demo-guest/xen-abi.ts';
import type { GuestLib } from './lib/guest.ts';

import { testMicroGuest } from './run.ts';

/** Kinds of mmu_update request, in the low two bits of the pointer. */
const MMU = { normal: 0, machphys: 1, preserveAd: 2 } as const;
/** Flags of an entry that the guest can rely on: Xen uses bit 8 (global) for itself. */
const VISIBLE = 0xeff;
const TABLE = PTE.present | PTE.writable | PTE.user | PTE.accessed | PTE.dirty;

/** A request block for one mmu_update, filled in at run time: label of {ptr, val}. */
function request(lib: GuestLib): string {
  return lib.data((a) => a.dq(0, 0)).label;
}

/** mmu_update of one entry; `prepare` leaves the machine address of the entry in rbx and the value in rcx. */
function update(lib: GuestLib, check: string, result: number, prepare: () => void): void {
  const block = request(lib);
  prepare();
  lib.asm.mov(mem({ label: block }), rbx).mov(mem({ label: block, disp: 8 }), rcx);
  lib.call(check, result, 'mmu_update', addressOf(block), 1, 0, DOMID_SELF);
}

/** rbx = machine address of the L1 entry that maps `label`. */
function entryOf(lib: GuestLib, label: string): void {
  lib.walk(label);
  lib.asm.mov(rbx, rdx);
}

/** rcx = entry for the frame of `label` with `flags`. Keeps rbx. */
function valueFor(lib: GuestLib, label: string, flags: number): void {
  lib.machineAddress(label);
  lib.asm.or(rax, flags).mov(rcx, rax);
}

function protect(lib: GuestLib, page: string, flags: number): void {
  lib.machineAddress(page);
  lib.asm.or(rax, flags).mov(rsi, rax);
  lib.hypercall('update_va_mapping', addressOf(page), rsi, UVMF.invlpg);
}

/** One mmuext operation on the frame of `page`. */
function extended(lib: GuestLib, check: string, result: number, command: number, page: string): void {
  const op = lib.data((a) => a.dd(command, 0).dq(0, 0));
  lib.machineAddress(page);
  lib.asm.shr(rax, 12).mov(mem({ label: op.label, disp: 8 }), rax);
  lib.call(check, result, 'mmuext_op', op, 1, 0, DOMID_SELF);
}

testMicroGuest('update_va_mapping', (asm, lib) => {
  const [a, b] = [lib.pages('a'), lib.pages('b')];
  asm.mov(mem({ label: a, size: 8 }), 0x11).mov(mem({ label: b, size: 8 }), 0x22);
  valueFor(lib, b, PTE_RW);
  asm.mov(rsi, rcx);
  lib.call('map another frame', 0, 'update_va_mapping', addressOf(a), rsi, UVMF.invlpg);
  lib.expectMemory('it is seen at once', mem({ label: a, size: 8 }), 0x22);
  asm.mov(mem({ label: a, size: 8 }), 0x33);
  lib.expectMemory('both addresses share it', mem({ label: b, size: 8 }), 0x33);
  lib.call('unmap', 0, 'update_va_mapping', addressOf(a), 0, UVMF.invlpg);
  lib.expectTrap('it is gone', { vector: 14, error: 0, cr2: addressOf(a) }, () => asm.mov(rax, mem({ label: a })));
  valueFor(lib, a, PTE_RW);
  asm.mov(rsi, rcx);
  lib.call('map again, flushing all', 0, 'update_va_mapping', addressOf(a), rsi, UVMF.tlbFlush);
  lib.expectMemory('its own content is back', mem({ label: a, size: 8 }), 0x11);

  lib.call('an address without tables', -ERRNO.EINVAL, 'update_va_mapping', 0x7000, PTE_RW, UVMF.none);
  lib.call('an address of the hypervisor', -ERRNO.EINVAL, 'update_va_mapping', M2P_VIRT_START, 0, UVMF.none);
  asm.mov(rsi, 0x000fffffffff0000n | BigInt(PTE_RW));
  lib.call('a frame that does not exist', -ERRNO.EPERM, 'update_va_mapping', addressOf(a), rsi, UVMF.none);
  lib.expectMemory('a refusal changes nothing', mem({ label: a, size: 8 }), 0x11);
});

testMicroGuest('mmu_update', (asm, lib) => {
  const [a, b] = [lib.pages('a'), lib.pages('b')];
  asm.mov(mem({ label: b, size: 8 }), 0x22);
  update(lib, 'map b at a', 0, () => {
    entryOf(lib, a);
    valueFor(lib, b, PTE_RW);
  });
  const invalidate = lib.data((d) => d.dd(MMUEXT.invlpgLocal, 0).dq(addressOf(a), 0));
  lib.call('INVLPG', 0, 'mmuext_op', invalidate, 1, 0, DOMID_SELF);
  lib.expectMemory('it is seen', mem({ label: a, size: 8 }), 0x22);

  // PRESERVE_AD keeps the accessed and dirty bits the entry has.
  asm.mov(mem({ label: a, size: 8 }), 0x23);
  update(lib, 'new flags, A and D preserved', 0, () => {
    entryOf(lib, a);
    asm.or(rbx, MMU.preserveAd);
    valueFor(lib, b, PTE.present | PTE.writable | PTE.user);
  });
  lib.walk(a);
  asm.mov(rax, mem({ base: rax })).and(eax, VISIBLE);
  lib.expect('A and D are still there', PTE_RW);
  update(lib, 'new flags without preserving', 0, () => {
    entryOf(lib, a);
    valueFor(lib, b, PTE.present | PTE.writable | PTE.user);
  });
  lib.walk(a);
  asm.mov(rax, mem({ base: rax })).and(eax, VISIBLE);
  lib.expect('A and D are clear', PTE.present | PTE.writable | PTE.user);
  update(lib, 'USER left out', 0, () => {
    entryOf(lib, a);
    valueFor(lib, b, PTE.present | PTE.writable);
  });
  lib.expectMemory('is added: the kernel runs in ring 3', mem({ label: a, size: 8 }), 0x23);
  update(lib, 'a page-size bit is no error in an L1 entry, nor is its frame changed', 0, () => {
    entryOf(lib, a);
    valueFor(lib, b, PTE_RW);
  });

  // Frames without a table type are plain memory: the value is stored.
  const plain = lib.pages('plain');
  update(lib, 'a word of ordinary memory', 0, () => {
    lib.machineAddress(plain);
    asm.lea(rbx, mem({ base: rax, disp: 24 })).mov(rcx, 0xfedcba9876543210n);
  });
  lib.expectMemory('is stored', mem({ label: plain, disp: 24, size: 8 }), 0xfedcba9876543210n);

  update(lib, 'an entry in a frame that does not exist', -ERRNO.EINVAL, () => {
    asm.mov(rbx, 0x000fffffffff0000n).mov(rcx, 0);
  });
  update(lib, 'command 3 is a normal update', 0, () => {
    entryOf(lib, a);
    asm.or(rbx, 3).mov(rcx, 0);
  });
  lib.call('unreadable requests', -ERRNO.EFAULT, 'mmu_update', 0x7000, 1, 0, DOMID_SELF);
  lib.call('nothing to do', 0, 'mmu_update', 0, 0, 0, DOMID_SELF);
});

testMicroGuest('mmu_update stops at the first error and counts', (asm, lib) => {
  const block = lib.data((d) => {
    for (let i = 0; i < 6; i++) d.dq(0);
  }).label;
  const plain = lib.pages('plain');
  const done = lib.data((d) => d.dd(5, 0x77777777));
  lib.machineAddress(plain);
  asm.mov(mem({ label: block }), rax).mov(mem({ label: block, disp: 8, size: 8 }), 1);
  asm.mov(rbx, 0x000fffffffff0000n).mov(mem({ label: block, disp: 16 }), rbx);
  asm
    .add(rax, 16)
    .mov(mem({ label: block, disp: 32 }), rax)
    .mov(mem({ label: block, disp: 40, size: 8 }), 3);
  lib.call('result', -ERRNO.EINVAL, 'mmu_update', addressOf(block), 3, done, DOMID_SELF);
  lib.expectMemory('the first is done', mem({ label: plain, size: 8 }), 1);
  lib.expectMemory('the third is not', mem({ label: plain, disp: 16, size: 8 }), 0);
  lib.expectMemory('the count', mem({ label: done.label, size: 4 }), 1);
  asm.mov(rax, mem({ label: block })).mov(mem({ label: block, disp: 16 }), rax);
  lib.call('without the bad one', 0, 'mmu_update', addressOf(block), 3, done, DOMID_SELF);
  lib.expectMemory('all three counted', mem({ label: done.label, size: 4 }), 3);
  lib.expectMemory('nothing written behind the count', mem({ label: done.label, disp: 4, size: 4 }), 0x77777777);
});

testMicroGuest('P2M and M2P are inverse', (asm, lib) => {
  asm.mov(r12, mem({ label: 'rt_start_info' })).mov(r13, mem({ base: r12, disp: START_INFO.mfnList }));
  asm
    .mov(rcx, mem({ base: r12, disp: START_INFO.nrPages }))
    .mov(rdi, 0)
    .mov(rbx, M2P_VIRT_START)
    .mov(rdx, 0);
  const next = asm.unique('next');
  const good = asm.unique('good');
  asm
    .label(next)
    .mov(rax, mem({ base: r13, index: rdi, scale: 8 }))
    .mov(rax, mem({ base: rbx, index: rax, scale: 8 }));
  asm.cmp(rax, rdi).j('e', good).inc(rdx).label(good).inc(rdi).cmp(rdi, rcx).j('b', next);
  lib.expectRegister('frames that do not come back', rdx, 0);

  const page = lib.pages('page');
  update(lib, 'MACHPHYS_UPDATE', 0, () => {
    lib.machineAddress(page);
    asm.lea(rbx, mem({ base: rax, disp: MMU.machphys })).mov(rcx, 0x1234);
  });
  lib.machineAddress(page);
  asm
    .shr(rax, 12)
    .mov(rbx, M2P_VIRT_START)
    .mov(rax, mem({ base: rbx, index: rax, scale: 8 }));
  lib.expect('changes the table', 0x1234);
  asm.mov(rbx, M2P_VIRT_START);
  lib.expectTrap('the table is read-only', { vector: 14, error: 3, cr2: M2P_VIRT_START }, () => {
    asm.mov(mem({ base: rbx }), rax);
  });
});

testMicroGuest('page types: a table is not writable, a writable page is no table', (asm, lib) => {
  const table = lib.pages('table');
  extended(lib, 'pin a page that is mapped writable', -ERRNO.EINVAL, MMUEXT.pinL1, table);
  protect(lib, table, PTE_RO);
  extended(lib, 'pin as L1', 0, MMUEXT.pinL1, table);
  extended(lib, 'pin twice', -ERRNO.EINVAL, MMUEXT.pinL1, table);
  valueFor(lib, table, PTE_RW);
  asm.mov(rsi, rcx);
  lib.call('map a table writable', -ERRNO.EBUSY, 'update_va_mapping', addressOf(table), rsi, UVMF.invlpg);
  extended(lib, 'pin an L1 as L2', -ERRNO.EINVAL, MMUEXT.pinL2, table);
  lib.expectTrap('write to a table', { vector: 14, error: 3, cr2: addressOf(table) }, () => {
    asm.mov(mem({ label: table, size: 8 }), 0);
  });

  const page = lib.pages('page');
  update(lib, 'an entry of the pinned table', 0, () => {
    lib.machineAddress(table);
    asm.mov(rbx, rax);
    valueFor(lib, page, PTE_RW);
  });
  extended(lib, 'its page counts as mapped', -ERRNO.EINVAL, MMUEXT.pinL1, page);
  update(lib, 'a table mapped writable through another table', -ERRNO.EBUSY, () => {
    lib.machineAddress(table);
    asm.lea(rbx, mem({ base: rax, disp: 8 }));
    valueFor(lib, table, PTE_RW);
  });
  extended(lib, 'unpin', 0, MMUEXT.unpin, table);
  extended(lib, 'unpin twice', -ERRNO.EINVAL, MMUEXT.unpin, table);
  protect(lib, table, PTE_RW);
  lib.expect('writable again', 0);
  asm.mov(mem({ label: table, size: 8 }), 0);
  lib.expectMemory('and it can be written', mem({ label: table, size: 8 }), 0);
});

testMicroGuest('building an address space', (asm, lib) => {
  // A copy of the kernel's top level with a page of its own in slot 0: L4[0] -> L3[0] -> L2[0] -> L1[5] -> page.
  const [l4, l3, l2, l1, page] = [
    lib.pages('l4'),
    lib.pages('l3'),
    lib.pages('l2'),
    lib.pages('l1'),
    lib.pages('page'),
  ];
  asm.mov(mem({ label: page, size: 8 }), 0x5ca1ab1e);
  asm
    .cld()
    .mov(rsi, mem({ label: 'rt_start_info' }))
    .mov(rsi, mem({ base: rsi, disp: START_INFO.pageTableBase }));
  asm
    .lea(rdi, mem({ label: l4 }))
    .mov(rcx, 512)
    .rep()
    .movs(8);
  // Xen's own slots read as whatever they are; a guest leaves them empty.
  asm
    .lea(rdi, mem({ label: l4, disp: 256 * 8 }))
    .mov(eax, 0)
    .mov(rcx, 16)
    .rep()
    .stos(8);
  const link = (table: string, index: number, target: string, flags: number): void => {
    valueFor(lib, target, flags);
    asm.mov(mem({ label: table, disp: index * 8 }), rcx);
  };
  link(l4, 0, l3, TABLE);
  link(l3, 0, l2, TABLE);
  link(l2, 0, l1, TABLE);
  link(l1, 5, page, PTE_RW);
  for (const table of [l4, l3, l2, l1]) protect(lib, table, PTE_RO);
  extended(lib, 'pin L4', 0, MMUEXT.pinL4, l4);
  extended(lib, 'NEW_BASEPTR', 0, MMUEXT.newBasePointer, l4);
  asm.mov(rax, mem({ disp: 5 * 4096 }));
  lib.expect('the page is seen in the new address space', 0x5ca1ab1e);
  valueFor(lib, l1, PTE_RW);
  asm.mov(rsi, rcx);
  lib.call('a table in use is not writable', -ERRNO.EBUSY, 'update_va_mapping', addressOf(l1), rsi, UVMF.none);
  lib.call('update_va_mapping works in the new tables', 0, 'update_va_mapping', 5 * 4096, 0, UVMF.invlpg);
  lib.expectTrap('it is gone', { vector: 14, error: 0, cr2: 5 * 4096 }, () => asm.mov(rax, mem({ disp: 5 * 4096 })));
  extended(lib, 'NEW_BASEPTR of a frame that is no table', -ERRNO.EINVAL, MMUEXT.newBasePointer, page);

  asm.mov(rdi, mem({ label: 'rt_start_info' })).mov(rdi, mem({ base: rdi, disp: START_INFO.pageTableBase }));
  asm.call('rt_maddr').shr(rax, 12).mov(rbx, rax);
  const back = lib.data((d) => d.dd(MMUEXT.newBasePointer, 0).dq(0, 0).dd(MMUEXT.unpin, 0).dq(0, 0));
  asm.mov(mem({ label: back.label, disp: 8 }), rbx);
  lib.machineAddress(l4);
  asm.shr(rax, 12).mov(mem({ label: back.label, disp: 32 }), rax);
  lib.call('back to the first tables and unpin, in one call', 0, 'mmuext_op', back, 2, 0, DOMID_SELF);
  protect(lib, l4, PTE_RW);
  lib.expect('the top level is ordinary memory again', 0);
  protect(lib, l1, PTE_RW);
  lib.expect('so are the lower levels', 0);
});

testMicroGuest('entries that are refused', (asm, lib) => {
  const [a, l1] = [lib.pages('a'), lib.pages('l1')];
  const upper = (level: number): void => {
    lib.walk(a, level);
    asm.mov(rbx, rdx);
  };
  protect(lib, l1, PTE_RO);
  update(lib, 'L2: a large page', -ERRNO.EINVAL, () => {
    lib.walk(a, 2);
    asm.lea(rbx, mem({ base: rdx, disp: 8 }));
    valueFor(lib, l1, TABLE | PTE.pageSize);
  });
  update(lib, 'L2: a frame that does not exist', -ERRNO.EINVAL, () => {
    lib.walk(a, 2);
    asm.lea(rbx, mem({ base: rdx, disp: 8 }));
    valueFor(lib, l1, TABLE);
    asm.bts(rcx, 51);
  });
  update(lib, 'L2: a page that is mapped writable', -ERRNO.EINVAL, () => {
    lib.walk(a, 2);
    asm.lea(rbx, mem({ base: rdx, disp: 8 }));
    valueFor(lib, a, TABLE);
  });
  update(lib, 'L2: a new table', 0, () => {
    upper(2);
    asm.add(rbx, 2 * 8);
    valueFor(lib, l1, TABLE);
  });
  update(lib, 'L2: and gone again', 0, () => {
    upper(2);
    asm.add(rbx, 2 * 8).mov(rcx, 0);
  });
  update(lib, 'L4: a slot of the hypervisor', -ERRNO.EINVAL, () => {
    upper(4);
    asm
      .and(rbx, ~0xfff)
      .add(rbx, 256 * 8)
      .mov(rcx, 0);
  });
  update(lib, 'L1: cache attributes', -ERRNO.EINVAL, () => {
    entryOf(lib, a);
    valueFor(lib, a, PTE_RW | 0x10);
  });
  update(lib, 'L1: shared_info may be mapped writable', 0, () => {
    entryOf(lib, a);
    asm
      .mov(rcx, mem({ label: 'rt_start_info' }))
      .mov(rcx, mem({ base: rcx, disp: START_INFO.sharedInfo }))
      .or(rcx, PTE_RW);
  });
  lib.expectMemory('and is the same page', mem({ label: a, disp: 1, size: 1 }), 1);
});

testMicroGuest('mmuext_op: other commands and refusals', (asm, lib) => {
  const [a, b] = [lib.pages('a'), lib.pages('b')];
  asm.mov(mem({ label: a, disp: 128, size: 8 }), 0x1234);
  extended(lib, 'CLEAR_PAGE', 0, MMUEXT.clearPage, a);
  lib.expectMemory('it is zero', mem({ label: a, disp: 128, size: 8 }), 0);
  asm.mov(mem({ label: a, disp: 256, size: 8 }), 0x4321);
  const copy = lib.data((d) => d.dd(MMUEXT.copyPage, 0).dq(0, 0));
  lib.machineAddress(b);
  asm.shr(rax, 12).mov(mem({ label: copy.label, disp: 8 }), rax);
  lib.machineAddress(a);
  asm.shr(rax, 12).mov(mem({ label: copy.label, disp: 16 }), rax);
  lib.call('COPY_PAGE', 0, 'mmuext_op', copy, 1, 0, DOMID_SELF);
  lib.expectMemory('it is copied', mem({ label: b, disp: 256, size: 8 }), 0x4321);

  const mask = lib.data((d) => d.dq(0xffffffffffffffffn));
  const simple = (name: string, result: number, command: number, arg1: LabelAddress | number = 0): void => {
    lib.call(
      name,
      result,
      'mmuext_op',
      lib.data((d) => d.dd(command, 0).dq(arg1, mask)),
      1,
      0,
      DOMID_SELF,
    );
  };
  simple('TLB_FLUSH_LOCAL', 0, MMUEXT.tlbFlushLocal);
  simple('INVLPG_LOCAL', 0, MMUEXT.invlpgLocal, addressOf(a));
  simple('TLB_FLUSH_MULTI, mask of vCPUs that do not exist', 0, MMUEXT.tlbFlushMulti);
  simple('INVLPG_MULTI', 0, MMUEXT.invlpgMulti, addressOf(a));
  simple('TLB_FLUSH_ALL', 0, MMUEXT.tlbFlushAll);
  simple('INVLPG_ALL', 0, MMUEXT.invlpgAll, addressOf(a));
  simple('unknown command', -ERRNO.ENOSYS, 14);
  simple('NEW_USER_BASEPTR with 0 is none', 0, MMUEXT.newUserBasePointer, 0);
  simple('UNPIN of a frame that does not exist', -ERRNO.EINVAL, MMUEXT.unpin, 0x7fffffff);
  simple('CLEAR_PAGE of a frame that does not exist', -ERRNO.EINVAL, MMUEXT.clearPage, 0x7fffffff);

  const done = lib.data((d) => d.dd(0, 0));
  const two = lib.data((d) => d.dd(MMUEXT.tlbFlushLocal, 0).dq(0, 0).dd(14, 0).dq(0, 0));
  lib.call('stops at the first error', -ERRNO.ENOSYS, 'mmuext_op', two, 2, done, DOMID_SELF);
  lib.expectMemory('and counts what was done', mem({ label: done.label, size: 4 }), 1);
  lib.call('unreadable operations', -ERRNO.EFAULT, 'mmuext_op', 0x7000, 1, 0, DOMID_SELF);

  // The tables the domain was built with are pinned: they can be unpinned and pinned again.
  asm.mov(rdi, mem({ label: 'rt_start_info' })).mov(rdi, mem({ base: rdi, disp: START_INFO.pageTableBase }));
  asm.call('rt_maddr').shr(rax, 12).mov(rbx, rax);
  for (const [name, command] of [
    ['unpin the initial tables', MMUEXT.unpin],
    ['pin them again', MMUEXT.pinL4],
  ] as const) {
    const op = lib.data((d) => d.dd(command, 0).dq(0, 0));
    asm.mov(mem({ label: op.label, disp: 8 }), rbx);
    lib.call(name, 0, 'mmuext_op', op, 1, 0, DOMID_SELF);
  }
});
