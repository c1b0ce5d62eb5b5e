// SPDX-License-Identifier: MIT
// Micro-guests: xenstore over the ring by hand. Reading, writing, directories, watches, transactions, refusals.
import { eax, mem, rax } from '../../../engine/x86/assembler/operands.ts';
import { EVTCHN_OP, START_INFO } from '../../../main/demo-guest/xen-abi.ts';
import { StoreLib, XS } from './lib/rings.ts';
import { testMicroGuest } from './run.ts';

const OK = 'OK\0';

testMicroGuest('xenstore: the port and the ring', (asm, lib) => {
  const status = lib.data((d) => d.dw(0x7ff0, 0).dd(0, 0, 0, 0, 0));
  asm.mov(rax, mem({ label: 'rt_start_info' })).mov(eax, mem({ base: rax, disp: START_INFO.storePort }));
  asm.mov(mem({ label: status.label, disp: 4 }), eax);
  lib.call('status of the port', 0, 'event_channel_op', EVTCHN_OP.status, status);
  lib.expectMemory('interdomain', mem({ label: status.label, disp: 8, size: 4 }), 2);
  lib.expectMemory('to domain 0', mem({ label: status.label, disp: 16, size: 2 }), 0);
  const store = new StoreLib(lib);
  asm.mov(rax, mem({ label: 'rt_store_ring' })).mov(eax, mem({ base: rax, disp: 0x814 }));
  lib.expect('connected', 0);
  store.exchange('a request', XS.read, 'no/such/key\0', { error: 'ENOENT' });
});

testMicroGuest('xenstore: nodes', (_asm, lib) => {
  const store = new StoreLib(lib);
  store.exchange('write creates parents', XS.write, 'data/a/b/c\0hello', OK);
  store.exchange('read', XS.read, 'data/a/b/c\0', 'hello');
  store.exchange('a parent is empty', XS.read, 'data/a\0', '');
  store.exchange('write again', XS.write, 'data/a/b/c\0', OK);
  store.exchange('an empty value', XS.read, 'data/a/b/c\0', '');
  store.exchange('a value may hold NULs', XS.write, 'data/a/b/c\0x\0y', OK);
  store.exchange('and gives them back', XS.read, 'data/a/b/c\0', 'x\0y');
  store.exchange('mkdir', XS.mkdir, 'data/a/d\0', OK);
  store.exchange('mkdir of what exists', XS.mkdir, 'data/a/d\0', OK);
  store.exchange('directory', XS.directory, 'data/a\0', 'b\0d\0');
  store.exchange('directory of a leaf', XS.directory, 'data/a/d\0', '');
  store.exchange('directory of nothing', XS.directory, 'data/none\0', { error: 'ENOENT' });
  store.exchange('rm', XS.rm, 'data/a/b\0', OK);
  store.exchange('takes the children along', XS.read, 'data/a/b/c\0', { error: 'ENOENT' });
  store.exchange('rm of nothing below a parent', XS.rm, 'data/a/b\0', OK);
  store.exchange('rm without a parent', XS.rm, 'data/none/b\0', { error: 'ENOENT' });
  store.exchange('the rest stays', XS.directory, 'data/a\0', 'd\0');
});

testMicroGuest('xenstore: refusals', (_asm, lib) => {
  const store = new StoreLib(lib);
  store.exchange('a character no path has', XS.read, 'data/a b\0', { error: 'EINVAL' });
  store.exchange('two slashes', XS.read, 'data//a\0', { error: 'EINVAL' });
  store.exchange('a slash at the end', XS.read, 'data/\0', { error: 'EINVAL' });
  store.exchange('a path without NUL', XS.read, 'data', { error: 'EINVAL' });
  store.exchange('nothing at all', XS.read, '', { error: 'EINVAL' });
  store.exchange('a node of another domain', XS.write, '/local/domain/0/x\0y', { error: 'EACCES' });
  store.exchange('an unknown type', 99, '\0', { error: 'ENOSYS' });
  store.exchange('a transaction that is not there', XS.transactionEnd, 'T\0', { error: 'ENOENT' });
  store.exchange('a watch nobody set', XS.unwatch, 'data\0token\0', { error: 'ENOENT' });
  store.exchange('it goes on', XS.write, 'data/after\0fine', OK);
  store.exchange('as before', XS.read, 'data/after\0', 'fine');
});

testMicroGuest('xenstore: who we are', (asm, lib) => {
  const store = new StoreLib(lib);
  store.request(XS.read, 'domid\0');
  lib.expectMemory('domid: type', mem({ label: 'rt_store_reply', size: 4 }), XS.read);
  asm.call('rt_store_number').test(eax, eax);
  lib.expectCondition('domid is a number, not 0', 'nz');
  store.request(XS.getDomainPath, '0\0');
  store.expectReply('path of domain 0', XS.getDomainPath, '/local/domain/0\0');
  store.exchange('console/type', XS.read, 'console/type\0', 'xenconsoled');
  store.exchange('control/shutdown', XS.read, 'control/shutdown\0', '');
});

testMicroGuest('xenstore: watches', (_asm, lib) => {
  const store = new StoreLib(lib);
  store.exchange('watch', XS.watch, 'data/w\0tok\0', OK);
  store.expectEvents('fires once at once', 1);
  store.expectEvent('with path and token', 'data/w\0tok\0');
  store.exchange('write', XS.write, 'data/w\x001', OK);
  store.expectEvents('fires', 1);
  store.expectEvent('as registered', 'data/w\0tok\0');
  store.exchange('write below', XS.write, 'data/w/x/y\x002', OK);
  store.expectEvents('fires for a child', 1);
  store.expectEvent('with the path of the child', 'data/w/x/y\0tok\0');
  store.exchange('write elsewhere', XS.write, 'data/v\x003', OK);
  store.expectEvents('does not fire', 0);
  store.exchange('watch twice', XS.watch, 'data/w\0tok\0', { error: 'EEXIST' });
  store.exchange('rm', XS.rm, 'data/w\0', OK);
  store.expectEvents('fires for the node and not again for children', 1);
  store.expectEvent('removed', 'data/w\0tok\0');
  store.exchange('unwatch', XS.unwatch, 'data/w\0tok\0', OK);
  store.exchange('write unwatched', XS.write, 'data/w\x004', OK);
  store.expectEvents('is silent', 0);
  store.exchange('watch a special path', XS.watch, '@releaseDomain\0t\0', OK);
  store.expectEvents('it fires once too', 1);
  store.exchange('reset_watches', XS.resetWatches, '\0', OK);
});

testMicroGuest(
  'xenstore: the host asks for a shutdown',
  (asm, lib) => {
    const store = new StoreLib(lib);
    store.exchange('watch', XS.watch, 'control/shutdown\0tok\0', OK);
    store.expectEvents('at once', 1);
    lib.print('waiting for the host');
    lib.setUpEvents();
    asm
      .label('asked')
      .call('rt_store_drain')
      .cmp(mem({ label: 'rt_store_events', size: 8 }), 0)
      .j('ne', 'answered');
    lib.hypercall('sched_op', 1, 0);
    lib.maskEvents();
    asm.jmp('asked').label('answered');
    store.expectEvent('the event', 'control/shutdown\0tok\0');
    store.exchange('the request', XS.read, 'control/shutdown\0', 'reboot');
    store.exchange('acknowledged', XS.write, 'control/shutdown\0', OK);
    lib.shutDown(1);
  },
  {
    outcome: { kind: 'reboot' },
    steps: [{ waitFor: 'waiting for the host', action: (machine) => machine.requestShutdown('reboot') }],
  },
);

testMicroGuest('xenstore: transactions', (_asm, lib) => {
  const store = new StoreLib(lib);
  store.exchange('before', XS.write, 'data/t\0old', OK);
  const first = store.begin('begin');
  store.exchange('write inside', XS.write, 'data/t\0new', OK, first);
  store.exchange('is seen inside', XS.read, 'data/t\0', 'new', first);
  store.exchange('and not outside', XS.read, 'data/t\0', 'old');
  store.exchange('commit', XS.transactionEnd, 'T\0', OK, first);
  store.exchange('now it is', XS.read, 'data/t\0', 'new');
  store.exchange('it is over', XS.read, 'data/t\0', { error: 'ENOENT' }, first);

  const second = store.begin('begin again');
  store.exchange('write', XS.write, 'data/t\0never', OK, second);
  store.exchange('abort', XS.transactionEnd, 'F\0', OK, second);
  store.exchange('nothing happened', XS.read, 'data/t\0', 'new');

  const third = store.begin('begin a third');
  store.exchange('read inside', XS.read, 'data/t\0', 'new', third);
  store.exchange('somebody else writes', XS.write, 'data/t\0theirs', OK);
  store.exchange('write', XS.write, 'data/t\0ours', OK, third);
  store.exchange('commit conflicts', XS.transactionEnd, 'T\0', { error: 'EAGAIN' }, third);
  store.exchange('theirs stays', XS.read, 'data/t\0', 'theirs');

  store.exchange('watch', XS.watch, 'data/t\0tok\0', OK);
  store.expectEvents('at once', 1);
  const fourth = store.begin('begin a fourth');
  store.exchange('write watched', XS.write, 'data/t\0late', OK, fourth);
  store.expectEvents('no event before the commit', 0);
  store.exchange('commit the fourth', XS.transactionEnd, 'T\0', OK, fourth);
  store.expectEvents('one after it', 1);
});
