// SPDX-License-Identifier: MIT
// Micro-guests: grant_table_op. Table setup, own grants mapped and unmapped, copy, versions, statuses of refusals.
import {
  addressOf,
  cx,
  eax,
  ecx,
  mem,
  rax,
  rbx,
  rdi,
  rdx,
  rsi,
  type LabelAddress,
  type Memory,
} from '../../../engine/x86/assembler/operands.ts';
import { DOMID_SELF, ERRNO, MMUEXT, PTE_RO, PTE_RW, UVMF } from '../../../main/demo-guest/xen-abi.ts';
import type { GuestLib } from './lib/guest.ts';
import { testMicroGuest } from './run.ts';

const GNTTABOP = {
  mapGrantRef: 0,
  unmapGrantRef: 1,
  setupTable: 2,
  dumpTable: 3,
  transfer: 4,
  copy: 5,
  querySize: 6,
  setVersion: 8,
  getStatusFrames: 9,
  getVersion: 10,
  swapRef: 11,
  cacheFlush: 12,
} as const;
const GNTMAP = { device: 1, host: 2, readonly: 4, applicationMap: 8, containsPte: 16 } as const;
const GTF = { permitAccess: 1, readonly: 4, reading: 8, writing: 16 } as const;
const STATUS = {
  okay: 0,
  generalError: -1,
  badDomain: -2,
  badReference: -3,
  badHandle: -4,
  badVirtualAddress: -5,
  permission: -8,
} as const;
const FIRST_FREE = 8;

/** Sets the table up with one frame and maps it at a page; returns the page. */
function mapTable(lib: GuestLib): string {
  const { asm } = lib;
  const table = lib.pages('grant_table');
  const frames = lib.data((d) => d.dq(0));
  const setup = lib.data((d) => d.dw(DOMID_SELF, 0).dd(1, 0xffff).dd(0).dq(frames));
  lib.call('setup_table', 0, 'grant_table_op', GNTTABOP.setupTable, setup, 1);
  lib.expectMemory('its status', mem({ label: setup.label, disp: 8, size: 2 }), STATUS.okay);
  asm
    .mov(rsi, mem({ label: frames.label }))
    .shl(rsi, 12)
    .or(rsi, PTE_RW);
  lib.call('map the table', 0, 'update_va_mapping', addressOf(table), rsi, UVMF.invlpg);
  return table;
}

/** Grants `page` to ourselves in entry `reference`. */
function grant(lib: GuestLib, table: string, reference: number, page: string, flags: number): void {
  const { asm } = lib;
  const entry = (disp: number, size: 2 | 4): Memory => mem({ label: table, disp: reference * 8 + disp, size });
  lib.machineAddress(page);
  asm
    .shr(rax, 12)
    .mov(entry(4, 4), eax)
    .mov(ecx, mem({ label: 'own_domid' }))
    .mov(entry(2, 2), cx);
  asm.mov(entry(0, 2), flags);
}

/** Stores our own domain id at `own_domid`: mapping does not take DOMID_SELF. */
function learnDomid(lib: GuestLib): void {
  const { asm } = lib;
  asm.section('data').align(4).label('own_domid').dd(0).section('text');
  // Nothing tells a PV guest its id directly, but the status of a channel to itself names the remote domain.
  const alloc = lib.data((d) => d.dw(DOMID_SELF, DOMID_SELF).dd(0));
  lib.hypercall('event_channel_op', 6, alloc);
  const bind = lib.data((d) => d.dw(DOMID_SELF, 0).dd(0, 0));
  asm.mov(ecx, mem({ label: alloc.label, disp: 4 })).mov(mem({ label: bind.label, disp: 4 }), ecx);
  lib.hypercall('event_channel_op', 0, bind);
  const status = lib.data((d) => d.dw(DOMID_SELF, 0).dd(0, 0, 0, 0, 0));
  asm.mov(ecx, mem({ label: bind.label, disp: 8 })).mov(mem({ label: status.label, disp: 4 }), ecx);
  lib.hypercall('event_channel_op', 5, status);
  asm.movzx(eax, mem({ label: status.label, disp: 16, size: 2 })).mov(mem({ label: 'own_domid' }), eax);
}

interface MapRequest {
  argument: LabelAddress;
  status: Memory;
  handle: Memory;
}

function mapRequest(lib: GuestLib, target: LabelAddress | number, flags: number, reference: number): MapRequest {
  const argument = lib.data((d) => d.dq(target).dd(flags, reference).dw(0, 0x7777).dd(0).dq(0));
  lib.asm.movzx(ecx, mem({ label: 'own_domid', size: 2 })).mov(mem({ label: argument.label, disp: 16 }), cx);
  const at = (disp: number, size: 2 | 4): Memory => mem({ label: argument.label, disp, size });
  return { argument, status: at(18, 2), handle: at(20, 4) };
}

testMicroGuest('setup_table, query_size, versions', (asm, lib) => {
  const table = mapTable(lib);
  asm.mov(mem({ label: table, disp: 4092, size: 4 }), 0x1234);
  lib.expectMemory('the table can be written', mem({ label: table, disp: 4092, size: 4 }), 0x1234);
  const query = lib.data((d) => d.dw(DOMID_SELF, 0).dd(0, 0, 0));
  lib.call('query_size', 0, 'grant_table_op', GNTTABOP.querySize, query, 1);
  lib.expectMemory('its status', mem({ label: query.label, disp: 12, size: 2 }), STATUS.okay);
  asm.mov(eax, mem({ label: query.label, disp: 4 })).cmp(eax, 1);
  lib.expectCondition('at least one frame', 'ae');
  asm.cmp(eax, mem({ label: query.label, disp: 8 }));
  lib.expectCondition('not more than the maximum', 'be');
  const many = lib.data((d) => d.dw(DOMID_SELF, 0).dd(100_000, 0).dd(0).dq(0x7000));
  lib.call('more frames than the maximum', 0, 'grant_table_op', GNTTABOP.setupTable, many, 1);
  lib.expectMemory('is a general error', mem({ label: many.label, disp: 8, size: 2 }), STATUS.generalError);
  const stranger = lib.data((d) => d.dw(77, 0).dd(1, 0).dd(0).dq(0x7000));
  lib.call('of another domain', 0, 'grant_table_op', GNTTABOP.setupTable, stranger, 1);
  lib.expectMemory('is a bad domain', mem({ label: stranger.label, disp: 8, size: 2 }), STATUS.badDomain);

  const version = lib.data((d) => d.dw(DOMID_SELF, 0).dd(0));
  lib.call('get_version', 0, 'grant_table_op', GNTTABOP.getVersion, version, 1);
  lib.expectMemory('is 1', mem({ label: version.label, disp: 4, size: 4 }), 1);
  lib.call(
    'set_version 1',
    0,
    'grant_table_op',
    GNTTABOP.setVersion,
    lib.data((d) => d.dd(1)),
    1,
  );
  lib.call(
    'set_version 3',
    -ERRNO.EINVAL,
    'grant_table_op',
    GNTTABOP.setVersion,
    lib.data((d) => d.dd(3)),
    1,
  );
  lib.call('unknown operation', -ERRNO.ENOSYS, 'grant_table_op', 99, version, 1);
  lib.call('an unreadable argument', -ERRNO.EFAULT, 'grant_table_op', GNTTABOP.querySize, 0x7000, 1);
  lib.call('query_size of no requests', -ERRNO.EINVAL, 'grant_table_op', GNTTABOP.querySize, query, 0);
  lib.call('map of no requests', 0, 'grant_table_op', GNTTABOP.mapGrantRef, query, 0);
});

testMicroGuest('mapping and unmapping an own grant', (asm, lib) => {
  learnDomid(lib);
  const table = mapTable(lib);
  const [page, window] = [lib.pages('page'), lib.pages('window')];
  asm.mov(mem({ label: page, size: 8 }), 0x1111);
  grant(lib, table, FIRST_FREE, page, GTF.permitAccess);
  lib.call('empty the window', 0, 'update_va_mapping', addressOf(window), 0, UVMF.invlpg);
  const map = mapRequest(lib, addressOf(window), GNTMAP.host, FIRST_FREE);
  lib.call('map', 0, 'grant_table_op', GNTTABOP.mapGrantRef, map.argument, 1);
  lib.expectMemory('status', map.status, STATUS.okay);
  lib.expectMemory('the page is seen', mem({ label: window, size: 8 }), 0x1111);
  asm.mov(mem({ label: window, size: 8 }), 0x2222);
  lib.expectMemory('and written', mem({ label: page, size: 8 }), 0x2222);
  lib.expectMemory(
    'the entry shows its use',
    mem({ label: table, disp: FIRST_FREE * 8, size: 2 }),
    GTF.permitAccess | GTF.reading | GTF.writing,
  );

  const unmap = lib.data((d) => d.dq(addressOf(window), 0).dd(0, 0xffff));
  asm.mov(ecx, map.handle).mov(mem({ label: unmap.label, disp: 16 }), ecx);
  lib.call('unmap', 0, 'grant_table_op', GNTTABOP.unmapGrantRef, unmap, 1);
  lib.expectMemory('unmap status', mem({ label: unmap.label, disp: 20, size: 2 }), STATUS.okay);
  lib.expectTrap('the window is empty', { vector: 14, error: 0, cr2: addressOf(window) }, () =>
    asm.mov(rax, mem({ label: window })),
  );
  lib.expectMemory('the entry is free of uses', mem({ label: table, disp: FIRST_FREE * 8, size: 2 }), GTF.permitAccess);
  lib.call('unmap twice', 0, 'grant_table_op', GNTTABOP.unmapGrantRef, unmap, 1);
  lib.expectMemory('is a bad handle', mem({ label: unmap.label, disp: 20, size: 2 }), STATUS.badHandle);

  // With the references gone the page may become a table.
  asm
    .cld()
    .lea(rdi, mem({ label: page }))
    .mov(eax, 0)
    .mov(ecx, 512)
    .rep()
    .stos(8);
  lib.machineAddress(page);
  asm.or(rax, PTE_RO).mov(rsi, rax);
  lib.call('map the page read-only', 0, 'update_va_mapping', addressOf(page), rsi, UVMF.invlpg);
  const pin = lib.data((d) => d.dd(MMUEXT.pinL1, 0).dq(0, 0));
  lib.machineAddress(page);
  asm.shr(rax, 12).mov(mem({ label: pin.label, disp: 8 }), rax);
  lib.call('pin it', 0, 'mmuext_op', pin, 1, 0, DOMID_SELF);
});

testMicroGuest('read-only grants and bad references', (asm, lib) => {
  learnDomid(lib);
  const table = mapTable(lib);
  const [page, window] = [lib.pages('page'), lib.pages('window')];
  grant(lib, table, FIRST_FREE, page, GTF.permitAccess | GTF.readonly);
  const attempt = (
    check: string,
    status: number,
    flags: number,
    reference: number,
    target: LabelAddress | number = addressOf(window),
  ): MapRequest => {
    const request = mapRequest(lib, target, flags, reference);
    lib.call(check, 0, 'grant_table_op', GNTTABOP.mapGrantRef, request.argument, 1);
    lib.expectMemory(`${check}: status`, request.status, status);
    return request;
  };
  attempt('read-only grant, writable', STATUS.generalError, GNTMAP.host, FIRST_FREE);
  attempt('read-only grant, read-only', STATUS.okay, GNTMAP.host | GNTMAP.readonly, FIRST_FREE);
  lib.expectTrap('cannot be written', { vector: 14, error: 3, cr2: addressOf(window) }, () =>
    asm.mov(mem({ label: window, size: 8 }), 1),
  );
  attempt('an empty entry', STATUS.generalError, GNTMAP.host, FIRST_FREE + 1);
  attempt('a reference beyond the table', STATUS.badReference, GNTMAP.host, 0x7fffffff);
  attempt('neither host nor device', STATUS.badReference, 0, FIRST_FREE);
  const other = mapRequest(lib, addressOf(window), GNTMAP.host, FIRST_FREE);
  asm.mov(mem({ label: other.argument.label, disp: 16, size: 2 }), 77);
  lib.call('of another domain', 0, 'grant_table_op', GNTTABOP.mapGrantRef, other.argument, 1);
  lib.expectMemory('is a bad domain', other.status, STATUS.badDomain);

  // A misaligned place for the entry itself.
  lib.walk(window);
  asm.mov(rbx, rdx).or(rbx, 4);
  const pte = mapRequest(lib, 0, GNTMAP.host | GNTMAP.containsPte | GNTMAP.readonly, FIRST_FREE);
  asm.mov(mem({ label: pte.argument.label }), rbx);
  lib.call('contains_pte, misaligned', 0, 'grant_table_op', GNTTABOP.mapGrantRef, pte.argument, 1);
  lib.expectMemory('is a general error', pte.status, STATUS.generalError);
  asm.and(rbx, ~7).mov(mem({ label: pte.argument.label }), rbx);
  lib.call('contains_pte', 0, 'grant_table_op', GNTTABOP.mapGrantRef, pte.argument, 1);
  lib.expectMemory('works with the address of the entry', pte.status, STATUS.okay);
});

testMicroGuest('copy between own pages', (asm, lib) => {
  learnDomid(lib);
  const table = mapTable(lib);
  const [from, to] = [lib.pages('from'), lib.pages('to')];
  asm.mov(rax, 0x1122334455667788n).mov(mem({ label: from, disp: 24 }), rax);
  grant(lib, table, FIRST_FREE, from, GTF.permitAccess | GTF.readonly);
  grant(lib, table, FIRST_FREE + 1, to, GTF.permitAccess);
  const copy = (flags: number, source: number, offset: number, length: number): LabelAddress =>
    lib.data((d) =>
      d
        .dq(source)
        .dw(DOMID_SELF, offset)
        .dd(0)
        .dq(FIRST_FREE + 1)
        .dw(DOMID_SELF, 100)
        .dd(0)
        .dw(length, flags, 0x7777, 0),
    );
  const status = (argument: LabelAddress): Memory => mem({ label: argument.label, disp: 36, size: 2 });
  const good = copy(3, FIRST_FREE, 24, 8);
  lib.call('reference to reference', 0, 'grant_table_op', GNTTABOP.copy, good, 1);
  lib.expectMemory('status', status(good), STATUS.okay);
  lib.expectMemory('the bytes arrived', mem({ label: to, disp: 100, size: 8 }), 0x1122334455667788n);
  const frame = copy(2, 0, 24, 4);
  lib.machineAddress(from);
  asm.shr(rax, 12).mov(mem({ label: frame.label }), rax);
  lib.call('frame to reference', 0, 'grant_table_op', GNTTABOP.copy, frame, 1);
  lib.expectMemory('frame: status', status(frame), STATUS.okay);
  const long = copy(3, FIRST_FREE, 4090, 100);
  lib.call('beyond the page', 0, 'grant_table_op', GNTTABOP.copy, long, 1);
  lib.expectMemory('is a bad copy argument', status(long), -10);
  const wrong = copy(3, FIRST_FREE + 5, 0, 8);
  lib.call('from an empty entry', 0, 'grant_table_op', GNTTABOP.copy, wrong, 1);
  lib.expectMemory('is a general error', status(wrong), STATUS.generalError);
});

testMicroGuest('operations nobody needs', (_asm, lib) => {
  const zeros = lib.data((d) => {
    for (let i = 0; i < 8; i++) d.dq(0);
  });
  lib.call('cache_flush of nothing', 0, 'grant_table_op', GNTTABOP.cacheFlush, zeros, 0);
  lib.call('dump_table', -ERRNO.ENOSYS, 'grant_table_op', GNTTABOP.dumpTable, zeros, 1);
  lib.call('swap of a reference with itself', 0, 'grant_table_op', GNTTABOP.swapRef, zeros, 1);
});

testMicroGuest('version 2: status frames', (asm, lib) => {
  learnDomid(lib);
  const version = lib.data((d) => d.dd(2));
  lib.call('set_version 2', 0, 'grant_table_op', GNTTABOP.setVersion, version, 1);
  lib.expectMemory('is confirmed', mem({ label: version.label, size: 4 }), 2);
  const query = lib.data((d) => d.dw(DOMID_SELF, 0).dd(0));
  lib.call('get_version', 0, 'grant_table_op', GNTTABOP.getVersion, query, 1);
  lib.expectMemory('is 2', mem({ label: query.label, disp: 4, size: 4 }), 2);
  const table = mapTable(lib);
  const [statuses, page, window] = [lib.pages('statuses'), lib.pages('page'), lib.pages('window')];
  const frames = lib.data((d) => d.dq(0));
  const get = lib.data((d) => d.dd(1).dw(DOMID_SELF, 0x7777).dq(frames));
  lib.call('get_status_frames', 0, 'grant_table_op', GNTTABOP.getStatusFrames, get, 1);
  lib.expectMemory('its status', mem({ label: get.label, disp: 6, size: 2 }), STATUS.okay);
  asm
    .mov(rsi, mem({ label: frames.label }))
    .shl(rsi, 12)
    .or(rsi, PTE_RW);
  lib.call('map it', 0, 'update_va_mapping', addressOf(statuses), rsi, UVMF.invlpg);

  const entry = (disp: number, size: 2 | 8): Memory => mem({ label: table, disp: FIRST_FREE * 16 + disp, size });
  asm.mov(mem({ label: page, size: 8 }), 0x3333);
  lib.machineAddress(page);
  asm
    .shr(rax, 12)
    .mov(entry(8, 8), rax)
    .mov(ecx, mem({ label: 'own_domid' }))
    .mov(entry(2, 2), cx);
  asm.mov(entry(0, 2), GTF.permitAccess);
  const map = mapRequest(lib, addressOf(window), GNTMAP.host, FIRST_FREE);
  lib.call('map a grant', 0, 'grant_table_op', GNTTABOP.mapGrantRef, map.argument, 1);
  lib.expectMemory('map: status', map.status, STATUS.okay);
  lib.expectMemory('the page is seen', mem({ label: window, size: 8 }), 0x3333);
  lib.expectMemory(
    'its use shows in the status frame',
    mem({ label: statuses, disp: FIRST_FREE * 2, size: 2 }),
    GTF.reading | GTF.writing,
  );
  lib.expectMemory('and not in the entry', entry(0, 2), GTF.permitAccess);
  lib.call(
    'set_version 1 while in use',
    -ERRNO.EBUSY,
    'grant_table_op',
    GNTTABOP.setVersion,
    lib.data((d) => d.dd(1)),
    1,
  );
  const unmap = lib.data((d) => d.dq(addressOf(window), 0).dd(0, 0xffff));
  asm.mov(ecx, map.handle).mov(mem({ label: unmap.label, disp: 16 }), ecx);
  lib.call('unmap', 0, 'grant_table_op', GNTTABOP.unmapGrantRef, unmap, 1);
  lib.expectMemory('unmap: status', mem({ label: unmap.label, disp: 20, size: 2 }), STATUS.okay);
  lib.expectMemory('the use is gone', mem({ label: statuses, disp: FIRST_FREE * 2, size: 2 }), 0);
  asm.mov(entry(0, 2), 0);
  lib.call(
    'set_version 1 while a status frame is mapped',
    -ERRNO.EBUSY,
    'grant_table_op',
    GNTTABOP.setVersion,
    lib.data((d) => d.dd(1)),
    1,
  );
  lib.call('unmap the status frame', 0, 'update_va_mapping', addressOf(statuses), 0, UVMF.invlpg);
  lib.call(
    'set_version 1',
    0,
    'grant_table_op',
    GNTTABOP.setVersion,
    lib.data((d) => d.dd(1)),
    1,
  );
});
