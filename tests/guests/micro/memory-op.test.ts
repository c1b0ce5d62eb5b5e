// SPDX-License-Identifier: MIT
// Micro-guests: memory_op with all sub-operations, ballooning included.
import {
  addressOf,
  mem,
  r12,
  r13,
  rax,
  rbx,
  rcx,
  rsi,
  type LabelAddress,
} from '../../../engine/x86/assembler/operands.ts';
import {
  DOMID_SELF,
  ERRNO,
  M2P_VIRT_START,
  PTE_RW,
  SHARED_INFO,
  START_INFO,
  UVMF,
} from '../../../main/demo-guest/xen-abi.ts';
import type { GuestLib } from './lib/guest.ts';
import { testMicroGuest } from './run.ts';

const XENMEM = {
  increaseReservation: 0,
  decreaseReservation: 1,
  maximumRamPage: 2,
  currentReservation: 3,
  maximumReservation: 4,
  machphysMfnList: 5,
  populatePhysmap: 6,
  addToPhysmap: 7,
  memoryMap: 9,
  machineMemoryMap: 10,
  exchange: 11,
  machphysMapping: 12,
  maximumGpfn: 14,
  claimPages: 24,
} as const;

interface Reservation {
  extents: LabelAddress | number;
  count: number;
  order?: number;
  domid?: number;
}

function reservation(lib: GuestLib, { extents, count, order = 0, domid = DOMID_SELF }: Reservation): LabelAddress {
  return lib.data((a) => a.dq(extents, count).dd(order, 0).dw(domid, 0).dd(0));
}

testMicroGuest('ballooning: decrease_reservation and populate_physmap', (asm, lib) => {
  const page = lib.pages('page');
  const list = lib.data((d) => d.dq(0));
  asm.mov(mem({ label: page, size: 8 }), 0x1234);
  lib.machineAddress(page);
  asm
    .shr(rax, 12)
    .mov(r12, rax)
    .mov(mem({ label: list.label }), rax);
  lib.call('unmap', 0, 'update_va_mapping', addressOf(page), 0, UVMF.invlpg);
  lib.call(
    'give the frame back',
    1,
    'memory_op',
    XENMEM.decreaseReservation,
    reservation(lib, { extents: list, count: 1 }),
  );
  asm.mov(rsi, r12).shl(rsi, 12).or(rsi, PTE_RW);
  lib.hypercall('update_va_mapping', addressOf(page), rsi, UVMF.invlpg);
  lib.expect('it can no longer be mapped', -ERRNO.EBUSY);
  lib.call(
    'give it back twice',
    0,
    'memory_op',
    XENMEM.decreaseReservation,
    reservation(lib, { extents: list, count: 1 }),
  );

  // populate_physmap takes PFNs and answers with MFNs.
  asm
    .lea(rax, mem({ label: page }))
    .mov(rcx, 0xffffffff80000000n)
    .sub(rax, rcx)
    .shr(rax, 12);
  asm.mov(r13, rax).mov(mem({ label: list.label }), rax);
  lib.call('take a frame', 1, 'memory_op', XENMEM.populatePhysmap, reservation(lib, { extents: list, count: 1 }));
  asm
    .mov(rax, mem({ label: list.label }))
    .mov(r12, rax)
    .mov(rbx, M2P_VIRT_START);
  asm.mov(rax, mem({ base: rbx, index: rax, scale: 8 })).sub(rax, r13);
  lib.expect('the M2P names its PFN', 0);
  asm.mov(rsi, r12).shl(rsi, 12).or(rsi, PTE_RW);
  lib.call('map it', 0, 'update_va_mapping', addressOf(page), rsi, UVMF.invlpg);
  asm.mov(mem({ label: page, disp: 8, size: 8 }), 1);
  lib.expectMemory('it is memory', mem({ label: page, disp: 8, size: 8 }), 1);

  // These answer with the number of extents done, errors included.
  lib.call(
    'nothing to give',
    0,
    'memory_op',
    XENMEM.decreaseReservation,
    reservation(lib, { extents: list, count: 0 }),
  );
  const wild = lib.data((d) => d.dq(0x7fffffff));
  lib.call(
    'a frame that does not exist',
    0,
    'memory_op',
    XENMEM.decreaseReservation,
    reservation(lib, { extents: wild, count: 1 }),
  );
  lib.call(
    'an unreadable list',
    0,
    'memory_op',
    XENMEM.decreaseReservation,
    reservation(lib, { extents: 0x7000, count: 1 }),
  );
  lib.call('an unreadable argument', 0, 'memory_op', XENMEM.decreaseReservation, 0x7000);
  lib.call(
    'another domain',
    0,
    'memory_op',
    XENMEM.decreaseReservation,
    reservation(lib, { extents: list, count: 1, domid: 77 }),
  );
});

testMicroGuest('a mapped frame given back stays until it is unmapped', (asm, lib) => {
  const page = lib.pages('page');
  const list = lib.data((d) => d.dq(0));
  lib.machineAddress(page);
  asm.shr(rax, 12).mov(mem({ label: list.label }), rax);
  lib.call(
    'give the mapped frame back',
    1,
    'memory_op',
    XENMEM.decreaseReservation,
    reservation(lib, { extents: list, count: 1 }),
  );
  asm.mov(mem({ label: page, size: 8 }), 5);
  lib.expectMemory('the mapping still works', mem({ label: page, size: 8 }), 5);
  lib.call('unmap', 0, 'update_va_mapping', addressOf(page), 0, UVMF.invlpg);
});

testMicroGuest('memory_op: questions', (asm, lib) => {
  asm.mov(rbx, mem({ label: 'rt_start_info' })).mov(rbx, mem({ base: rbx, disp: START_INFO.nrPages }));
  const domid = lib.data((d) => d.dw(DOMID_SELF));
  lib.hypercall('memory_op', XENMEM.currentReservation, domid);
  asm.sub(rax, rbx);
  lib.expect('current_reservation is nr_pages', 0);
  lib.hypercall('memory_op', XENMEM.maximumReservation, domid);
  asm.cmp(rax, rbx);
  lib.expectCondition('maximum_reservation is not less', 'ae');
  const stranger = lib.data((d) => d.dw(77));
  lib.call('of another domain', -ERRNO.ESRCH, 'memory_op', XENMEM.currentReservation, stranger);
  lib.call('of an unreadable domain id', -ERRNO.EFAULT, 'memory_op', XENMEM.currentReservation, 0x7000);

  const mapping = lib.data((d) => d.dq(0, 0, 0));
  lib.call('machphys_mapping', 0, 'memory_op', XENMEM.machphysMapping, mapping);
  lib.expectMemory('it starts at the fixed address', mem({ label: mapping.label, size: 8 }), M2P_VIRT_START);
  asm.mov(rax, mem({ label: mapping.label, disp: 8 })).cmp(rax, mem({ label: mapping.label }));
  lib.expectCondition('it has a size', 'a');
  lib.hypercall('memory_op', XENMEM.maximumRamPage, 0);
  asm
    .mov(r12, rax)
    .mov(r13, mem({ label: 'rt_start_info' }))
    .mov(r13, mem({ base: r13, disp: START_INFO.mfnList }));
  asm.mov(rax, mem({ base: r13 })).cmp(rax, r12);
  lib.expectCondition('maximum_ram_page is not below a frame we own', 'be');
  asm.mov(rax, mem({ base: r13 })).cmp(rax, mem({ label: mapping.label, disp: 16 }));
  lib.expectCondition('nor is max_mfn', 'be');

  lib.call('machine_memory_map', -ERRNO.EPERM, 'memory_op', XENMEM.machineMemoryMap, mapping);
  lib.call('unknown operation', -ERRNO.ENOSYS, 'memory_op', 63, mapping);
});

testMicroGuest('memory_map', (asm, lib) => {
  const entries = lib.pages('entries');
  const map = lib.data((d) => d.dd(16, 0).dq(addressOf(entries)));
  lib.call('memory_map', 0, 'memory_op', XENMEM.memoryMap, map);
  lib.expectMemory('one entry', mem({ label: map.label, size: 4 }), 1);
  lib.expectMemory('from 0', mem({ label: entries, size: 8 }), 0);
  asm.mov(rax, mem({ label: entries, disp: 8 })).shr(rax, 12);
  asm.mov(rbx, mem({ label: 'rt_start_info' })).cmp(rax, mem({ base: rbx, disp: START_INFO.nrPages }));
  lib.expectCondition('at least as long as nr_pages', 'ae');
  lib.expectMemory('RAM', mem({ label: entries, disp: 16, size: 4 }), 1);
  lib.call(
    'an unwritable buffer',
    -ERRNO.EFAULT,
    'memory_op',
    XENMEM.memoryMap,
    lib.data((d) => d.dd(16, 0).dq(0x7000)),
  );
});

testMicroGuest('increase_reservation and operations for others', (asm, lib) => {
  const list = lib.data((d) => d.dq(0));
  const page = lib.pages('page');
  lib.machineAddress(page);
  asm.shr(rax, 12).mov(mem({ label: list.label }), rax);
  lib.call('unmap a page', 0, 'update_va_mapping', addressOf(page), 0, UVMF.invlpg);
  const one = reservation(lib, { extents: list, count: 1 });
  lib.call('give its frame back', 1, 'memory_op', XENMEM.decreaseReservation, one);
  lib.call('increase_reservation', 1, 'memory_op', XENMEM.increaseReservation, one);
  asm
    .mov(rsi, mem({ label: list.label }))
    .shl(rsi, 12)
    .or(rsi, PTE_RW);
  lib.call('the new frame can be mapped', 0, 'update_va_mapping', addressOf(page), rsi, UVMF.invlpg);
  asm.mov(mem({ label: page, size: 8 }), 9);
  lib.expectMemory('and used', mem({ label: page, size: 8 }), 9);
  lib.call('beyond the maximum', 0, 'memory_op', XENMEM.increaseReservation, one);

  const many = reservation(lib, { extents: list, count: 0xffffffffffff });
  lib.call('an absurd count', 0, 'memory_op', XENMEM.populatePhysmap, many);
  const domid = lib.data((d) => d.dw(DOMID_SELF));
  asm.mov(rbx, mem({ label: 'rt_start_info' })).mov(rbx, mem({ base: rbx, disp: START_INFO.nrPages }));
  asm.mov(mem({ label: 'rt_shared_info', disp: SHARED_INFO.maxPfn }), rbx);
  lib.hypercall('memory_op', XENMEM.maximumGpfn, domid);
  asm.inc(rax).sub(rax, rbx);
  lib.expect('maximum_gpfn is the last frame of what the guest says it has', 0);
});

testMicroGuest('memory exchange with a wild pointer', (_asm, lib) => {
  const exchange = lib.data((d) => {
    for (let i = 0; i < 2; i++) d.dq(0x7000, 1).dd(0, 0).dw(DOMID_SELF, 0).dd(0);
    d.dq(0);
  });
  lib.call('exchange', -ERRNO.EFAULT, 'memory_op', XENMEM.exchange, exchange);
  lib.call('an unreadable argument', -ERRNO.EFAULT, 'memory_op', XENMEM.exchange, 0x7000);
});
