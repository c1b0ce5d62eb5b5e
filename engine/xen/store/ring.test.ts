// SPDX-License-Identifier: MIT
// Tests of the xenstore ring: every request type over the shared page, partial messages, back-pressure, hostile pages.

import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { Counters } from '../counters.ts';
import { fakeMemory } from '../fake-machine.ts';
import type { MachineMemoryView } from '../context.ts';
import { writeDomainTree } from './domain-tree.ts';
import { HostStore } from './host-store.ts';
import { XenstoreRing } from './ring.ts';
import { Store } from './store.ts';
import { Xs, encodeMessage, toBytes, toText, type Message } from './wire.ts';

const PAGE = 0x1000;

let mem: MachineMemoryView;
let store: Store;
let host: HostStore;
let ring: XenstoreRing;
let counters: Counters;
let kicks: number;
/** Bytes the guest has read and not yet understood. */
let inbox: number[];

beforeEach(() => {
  mem = fakeMemory(4);
  store = new Store();
  host = new HostStore(store);
  counters = new Counters();
  kicks = 0;
  inbox = [];
  writeDomainTree(host, {
    domid: 1,
    name: 'pv1',
    uuid: 'ea9352ae-e543-11f1-8987-df5f05817c97',
    vcpus: 1,
    memoryKib: 262144,
    storePort: 1,
    storeMfn: 111617,
    consolePort: 2,
    consoleMfn: 111618,
  });
  store.introduce(1);
  ring = new XenstoreRing({ mem, page: PAGE, store, domid: 1, counters, notifyGuest: () => kicks++ });
});

const at = (offset: number): number => (PAGE + offset) >>> 2;

/** Puts as many request bytes as fit; the number put. */
function put(bytes: Uint8Array): number {
  const prod = mem.u32[at(0x804)];
  const room = 1024 - ((prod - mem.u32[at(0x800)]) >>> 0);
  const n = Math.min(room, bytes.length);
  for (let i = 0; i < n; i++) mem.u8[PAGE + ((prod + i) & 1023)] = bytes[i];
  mem.u32[at(0x804)] = prod + n;
  return n;
}

/** Takes everything out of the response ring. */
function drain(): void {
  while (mem.u32[at(0x808)] !== mem.u32[at(0x80c)]) {
    inbox.push(mem.u8[PAGE + 0x400 + (mem.u32[at(0x808)] & 1023)]);
    mem.u32[at(0x808)]++;
  }
}

/** The next complete message the guest has got. */
function nextMessage(): Message | null {
  drain();
  if (inbox.length < 16) return null;
  const view = new DataView(Uint8Array.from(inbox.slice(0, 16)).buffer);
  const [type, requestId, transactionId, length] = [0, 4, 8, 12].map((o) => view.getUint32(o, true));
  if (inbox.length < 16 + length) return null;
  return { type, requestId, transactionId, payload: Uint8Array.from(inbox.splice(0, 16 + length).slice(16)) };
}

/** Sends a request and gathers messages until its reply; events on the way are kept. */
function talk(type: number, payload: string, tx = 0): { reply: Message; events: string[] } {
  const bytes = encodeMessage({ type, requestId: 77, transactionId: tx, payload: toBytes(payload) });
  const events: string[] = [];
  let sent = 0;
  let reply: Message | null = null;
  for (let turns = 0; turns < 100; turns++) {
    sent += put(bytes.subarray(sent));
    ring.service();
    for (let m = nextMessage(); m !== null; m = nextMessage()) {
      if (m.type === Xs.watchEvent) events.push(toText(m.payload).replaceAll('\0', '|'));
      else reply = m;
    }
    if (reply !== null && mem.u32[at(0x808)] === mem.u32[at(0x80c)] && turns > 0) return { reply, events };
  }
  throw new Error('no reply');
}

/** The text of a reply, NULs shown as "|"; errors as "!NAME". */
function ask(type: number, payload: string, tx = 0): string {
  const { reply } = talk(type, payload, tx);
  expect(reply.requestId).toBe(77);
  expect(reply.transactionId).toBe(tx);
  const text = toText(reply.payload).replaceAll('\0', '|');
  if (reply.type === Xs.error) return `!${text.slice(0, -1)}`;
  expect(reply.type).toBe(type);
  return text;
}

describe('requests', () => {
  it('directory, read, write, mkdir, rm', () => {
    expect(ask(Xs.directory, 'memory\0')).toBe('static-max|target|videoram|');
    expect(ask(Xs.read, 'memory/target\0')).toBe('262144');
    expect(ask(Xs.read, 'nothing\0')).toBe('!ENOENT');
    expect(ask(Xs.read, 'memory/target')).toBe('!EINVAL');
    expect(ask(Xs.read, '')).toBe('!EINVAL');
    expect(ask(Xs.read, 'a\0b\0')).toBe('!EINVAL');
    expect(ask(Xs.write, 'data/x\0value')).toBe('OK|');
    expect(ask(Xs.write, 'data/y\0')).toBe('OK|');
    expect(ask(Xs.write, 'data/z')).toBe('!EINVAL');
    expect(ask(Xs.read, 'data/x\0')).toBe('value');
    expect(ask(Xs.read, 'data/y\0')).toBe('');
    expect(ask(Xs.mkdir, 'data/d\0')).toBe('OK|');
    expect(ask(Xs.directory, 'data\0')).toBe('x|y|d|');
    expect(ask(Xs.rm, 'data/x\0')).toBe('OK|');
    expect(ask(Xs.directory, 'data/d\0')).toBe('');
    expect(ask(Xs.write, 'name\0other')).toBe('!EACCES');
    expect(counters.get('store.refused.EACCES')).toBe(1);
    expect(counters.get('store.request.write')).toBe(4);
  });

  it('permissions', () => {
    expect(ask(Xs.getPerms, 'memory\0')).toBe('n0|r1|');
    expect(ask(Xs.getPerms, 'data\0')).toBe('n1|');
    expect(ask(Xs.setPerms, 'data\0n1\0r0\0')).toBe('OK|');
    expect(ask(Xs.getPerms, 'data\0')).toBe('n1|r0|');
    expect(ask(Xs.setPerms, 'data\0')).toBe('!EINVAL');
    expect(ask(Xs.setPerms, 'data\0q1\0')).toBe('!EINVAL');
    expect(ask(Xs.setPerms, 'memory\0n1\0')).toBe('!EACCES');
  });

  it('watches: the reply, then the first event at once, then changes', () => {
    const { reply, events } = talk(Xs.watch, 'control/shutdown\0token\0');
    expect(toText(reply.payload)).toBe('OK\0');
    expect(events).toEqual(['control/shutdown|token|']);
    const before = kicks;
    host.write('/local/domain/1/control/shutdown', 'poweroff');
    expect(kicks).toBe(before + 1);
    expect(toText(nextMessage()?.payload ?? new Uint8Array())).toBe('control/shutdown\0token\0');
    expect(talk(Xs.write, 'control/shutdown\0').events).toEqual(['control/shutdown|token|']);
    expect(ask(Xs.watch, 'control/shutdown\0token\0')).toBe('!EEXIST');
    expect(ask(Xs.unwatch, 'control/shutdown\0token\0')).toBe('OK|');
    expect(ask(Xs.unwatch, 'control/shutdown\0token\0')).toBe('!ENOENT');
    expect(ask(Xs.watch, 'control/shutdown\0')).toBe('!EINVAL');
    expect(talk(Xs.watch, '@releaseDomain\0t\0').events).toEqual(['@releaseDomain|t|']);
    expect(ask(Xs.resetWatches, '\0')).toBe('OK|');
    expect(talk(Xs.write, 'control/shutdown\0').events).toEqual([]);
  });

  it('transactions', () => {
    const id = Number(ask(Xs.transactionStart, '\0').slice(0, -1));
    expect(ask(Xs.write, 'data/t\x001', id)).toBe('OK|');
    expect(ask(Xs.read, 'data/t\0')).toBe('!ENOENT');
    expect(ask(Xs.read, 'data/t\0', id)).toBe('1');
    expect(ask(Xs.transactionStart, '\0', id)).toBe('!EBUSY');
    expect(ask(Xs.transactionEnd, 'X\0', id)).toBe('!EINVAL');
    expect(ask(Xs.transactionEnd, 'T\0', id)).toBe('OK|');
    expect(ask(Xs.transactionEnd, 'T\0', id)).toBe('!ENOENT');
    expect(ask(Xs.transactionEnd, 'T\0')).toBe('!ENOENT');
    expect(ask(Xs.read, 'data/t\0', 999)).toBe('!ENOENT');
    const loser = Number(ask(Xs.transactionStart, '\0').slice(0, -1));
    ask(Xs.read, 'data/t\0', loser);
    ask(Xs.write, 'data/t\x002');
    ask(Xs.write, 'data/u\x003', loser);
    expect(ask(Xs.transactionEnd, 'T\0', loser)).toBe('!EAGAIN');
    expect(ask(Xs.read, 'data/u\0')).toBe('!ENOENT');
    const abandoned = Number(ask(Xs.transactionStart, '\0').slice(0, -1));
    ask(Xs.write, 'data/u\x003', abandoned);
    expect(ask(Xs.transactionEnd, 'F\0', abandoned)).toBe('OK|');
    expect(ask(Xs.read, 'data/u\0')).toBe('!ENOENT');
  });

  it('domains, and what only the control domain may do', () => {
    expect(ask(Xs.getDomainPath, '1\0')).toBe('/local/domain/1|');
    expect(ask(Xs.getDomainPath, '5\0')).toBe('/local/domain/5|');
    expect(ask(Xs.getDomainPath, 'x\0')).toBe('!EINVAL');
    expect(ask(Xs.isDomainIntroduced, '0\0')).toBe('T|');
    expect(ask(Xs.isDomainIntroduced, '1\0')).toBe('T|');
    expect(ask(Xs.isDomainIntroduced, '2\0')).toBe('F|');
    for (const type of [Xs.control, Xs.introduce, Xs.release, Xs.resume, Xs.setTarget])
      expect(ask(type, '1\0')).toBe('!EACCES');
    for (const type of [15, 16, 20, 23, 0xffffffff]) expect(ask(type, '1\0')).toBe('!ENOSYS');
    expect(counters.get('store.request.unknown')).toBe(3);
  });

  it('long directories: E2BIG, then in parts', () => {
    const names = Array.from({ length: 500 }, (_, i) => `child-number-${String(i)}`);
    for (const name of names) host.write(`/local/domain/1/many/${name}`, '');
    expect(ask(Xs.directory, 'many\0')).toBe('!E2BIG');
    const got: string[] = [];
    let offset = 0;
    let generation = '';
    for (let complete = false; !complete;) {
      const [gen, ...part] = ask(Xs.directoryPart, `many\0${String(offset)}\0`)
        .slice(0, -1)
        .split('|');
      generation ||= gen;
      expect(gen).toBe(generation);
      complete = part.at(-1) === '';
      if (complete) part.pop();
      offset += part.join('|').length + (part.length > 0 ? 1 : 0);
      got.push(...part);
    }
    expect(got).toEqual(names);
    expect(ask(Xs.directoryPart, `many\x0099999\0`)).toBe(`${generation}||`);
    expect(ask(Xs.directoryPart, 'many\0x\0')).toBe('!EINVAL');
    expect(ask(Xs.directoryPart, 'many\0')).toBe('!EINVAL');
    host.write('/local/domain/1/many/last', '');
    expect(ask(Xs.directoryPart, 'many\x000\0').split('|')[0]).not.toBe(generation);
  });
});

describe('the tree of a new domain', () => {
  it('lists as under a real toolstack', () => {
    // Order and values of a listing of a PV guest's directory under Xen 4.17, before its kernel announced its features.
    const show = (path: string): string[] =>
      (host.list(path) ?? []).flatMap((name) => [
        `${path}/${name}=${host.read(`${path}/${name}`) ?? ''}`.replace('/local/domain/1/', ''),
        ...show(`${path}/${name}`),
      ]);
    expect(show('/local/domain/1')).toEqual([
      'vm=/vm/ea9352ae-e543-11f1-8987-df5f05817c97',
      'name=pv1',
      'cpu=',
      'cpu/0=',
      'cpu/0/availability=online',
      'memory=',
      'memory/static-max=262144',
      'memory/target=262144',
      'memory/videoram=0',
      'device=',
      'device/suspend=',
      'device/suspend/event-channel=',
      'control=',
      'control/shutdown=',
      'control/feature-poweroff=',
      'control/feature-reboot=',
      'control/feature-suspend=',
      'control/sysrq=',
      'control/platform-feature-multiprocessor-suspend=1',
      'control/platform-feature-xs_reset_watches=1',
      'data=',
      'drivers=',
      'feature=',
      'attr=',
      'error=',
      'domid=1',
      'store=',
      'store/port=1',
      'store/ring-ref=111617',
      'console=',
      'console/backend=/local/domain/0/backend/console/1/0',
      'console/backend-id=0',
      'console/limit=1048576',
      'console/type=xenconsoled',
      'console/output=pty',
      'console/tty=',
      'console/port=2',
      'console/ring-ref=111618',
    ]);
  });

  it('lets the guest write where it must and nowhere else', () => {
    for (const path of [
      'control/shutdown',
      'control/feature-poweroff',
      'data/x',
      'attr/eth0',
      'device/suspend/event-channel',
    ]) {
      expect(ask(Xs.write, `${path}\x001`)).toBe('OK|');
    }
    for (const path of ['domid', 'vm', 'memory/target', 'store/port', 'console/port', 'control/new', 'x']) {
      expect(ask(Xs.write, `${path}\x001`)).toBe('!EACCES');
    }
    expect(ask(Xs.read, '/local/domain/0/backend/console/1/0/protocol\0')).toBe('vt100');
  });
});

describe('the ring', () => {
  it('assembles messages from single bytes and across index wrap', () => {
    for (const offset of [0x800, 0x804, 0x808, 0x80c]) mem.u32[at(offset)] = 0xfffffffb;
    const bytes = encodeMessage({ type: Xs.read, requestId: 5, transactionId: 0, payload: toBytes('domid\0') });
    for (const byte of bytes) {
      put(Uint8Array.of(byte));
      ring.service();
    }
    expect(nextMessage()).toEqual({ type: Xs.read, requestId: 5, transactionId: 0, payload: toBytes('1') });
    expect(ask(Xs.read, 'name\0')).toBe('pv1');
  });

  it('moves messages longer than the ring in both directions', () => {
    const value = 'x'.repeat(1900);
    expect(ask(Xs.write, `data/long\0${value}`)).toBe('OK|');
    expect(ask(Xs.read, 'data/long\0')).toBe(value);
  });

  it('takes no further requests while the guest does not read', () => {
    const one = encodeMessage({ type: Xs.directory, requestId: 1, transactionId: 0, payload: toBytes('control\0') });
    let sent = 0;
    for (let i = 0; i < 2000; i++) {
      if (put(one) < one.length) break;
      sent++;
      ring.service();
    }
    expect(sent).toBeLessThan(300);
    expect(ring.broken).toBeNull();
  });

  it('merges, then drops events for a guest that does not read', () => {
    talk(Xs.watch, 'data\0t\0');
    for (let i = 0; i < 3000; i++) host.write('/local/domain/1/data/same', String(i));
    expect(counters.get('store.events-merged')).toBeGreaterThan(1000);
    expect(counters.get('store.events-dropped')).toBe(0);
    let seen = 0;
    for (let turns = 0; turns < 200; turns++) {
      ring.service();
      for (let m = nextMessage(); m !== null; m = nextMessage()) seen++;
    }
    expect(seen).toBe(3000 - counters.get('store.events-merged'));
    const long = 'n'.repeat(1500);
    for (let i = 0; i < 900; i++) host.write(`/local/domain/1/data/${long}${String(i)}`, '');
    expect(counters.get('store.events-dropped')).toBeGreaterThan(0);
  });

  it('does not send an event that cannot be a message', () => {
    expect(ask(Xs.watch, `data\0${'t'.repeat(4000)}\0`)).toBe('OK|');
    host.write(`/local/domain/1/data/${'p'.repeat(200)}`, '');
    expect(counters.get('store.event-too-long')).toBe(1);
  });

  it('is given up for impossible indices and lengths, and starts afresh on reconnect', () => {
    mem.u32[at(0x804)] = mem.u32[at(0x800)] + 1025;
    ring.service();
    expect(ring.broken).toBe('ring-index');
    expect(mem.u32[at(0x818)]).toBe(2);
    expect(counters.get('store.broken.ring-index')).toBe(1);
    ring.service();
    host.write('/local/domain/1/data/x', '1');
    ring.reconnect();
    inbox = [];
    expect(ask(Xs.read, 'domid\0')).toBe('1');

    mem.u32[at(0x80c)] = mem.u32[at(0x808)] + 5000;
    put(encodeMessage({ type: Xs.read, requestId: 0, transactionId: 0, payload: toBytes('domid\0') }));
    ring.service();
    expect(ring.broken).toBe('ring-index');
    ring.reconnect();

    const wrong = encodeMessage({ type: Xs.read, requestId: 0, transactionId: 0, payload: toBytes('x\0') });
    new DataView(wrong.buffer).setUint32(12, 4097, true);
    put(wrong);
    ring.service();
    expect(ring.broken).toBe('protocol');
    expect(mem.u32[at(0x818)]).toBe(3);
    ring.close();
  });

  it('answers any well-formed message of any type (property)', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            type: fc.oneof(fc.nat(24), fc.nat(0xffffffff)),
            tx: fc.oneof(fc.constant(0), fc.nat(4)),
            payload: fc.oneof(
              fc.uint8Array({ maxLength: 300 }).map(toText),
              fc
                .array(fc.constantFrom('data', 'data/a', 'control/shutdown', '/', '@x', '0', '1', 'T', 'F', 'n1', ''), {
                  maxLength: 4,
                })
                .map((s) => s.map((x) => `${x}\0`).join('')),
            ),
          }),
          { maxLength: 30 },
        ),
        (messages) => {
          for (const { type, tx, payload } of messages) {
            const { reply } = talk(type, payload, tx);
            expect([type, Xs.error]).toContain(reply.type);
          }
          expect(ring.broken).toBeNull();
        },
      ),
      { seed: 31, numRuns: 100 },
    );
  });

  it('survives mutated pages without touching other memory (fuzz, fixed seed)', () => {
    const word = fc.oneof(fc.nat(2048), fc.integer({ min: 0, max: 0xffffffff }));
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            bytes: fc.uint8Array({ minLength: 0, maxLength: 600 }),
            place: fc.nat(1023),
            index: fc.constantFrom(0x800, 0x804, 0x808, 0x80c, 0x810, 0x814, 0x818),
            value: word,
            valid: fc.boolean(),
          }),
          { maxLength: 12 },
        ),
        (mutations) => {
          mem.u8.fill(0x5a, 0, PAGE);
          mem.u8.fill(0x5a, PAGE + 4096);
          for (const m of mutations) {
            if (m.valid)
              put(encodeMessage({ type: Xs.watch, requestId: 1, transactionId: 0, payload: toBytes('data\0t\0') }));
            for (const [i, byte] of m.bytes.entries()) mem.u8[PAGE + ((m.place + i) & 1023)] = byte;
            mem.u32[at(m.index)] = m.value;
            ring.service();
            host.write('/local/domain/1/data/fuzz', '');
            if (ring.broken !== null && m.valid) ring.reconnect();
          }
          expect(mem.u8.subarray(0, PAGE).every((b) => b === 0x5a)).toBe(true);
          expect(mem.u8.subarray(PAGE + 4096).every((b) => b === 0x5a)).toBe(true);
          ring.reconnect();
          inbox = [];
          expect(ask(Xs.read, 'domid\0')).toBe('1');
        },
      ),
      { seed: 32, numRuns: 400 },
    );
  });
});
