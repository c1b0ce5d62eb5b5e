// SPDX-License-Identifier: MIT
// Tests of the store itself: nodes, permissions and watches.

import { beforeEach, describe, expect, it } from 'vitest';
import { DEFAULT_QUOTAS } from './edits.ts';
import { HostStore } from './host-store.ts';
import { parsePermissions } from './permissions.ts';
import { Store, type StoreConnection } from './store.ts';
import { StoreError, toBytes, toText } from './wire.ts';

let store: Store;
let host: HostStore;
let guest: StoreConnection;
let events: string[];

beforeEach(() => {
  store = new Store();
  host = new HostStore(store);
  events = [];
  guest = store.connect(1, (path, token) => events.push(`${path}|${token}`));
  host.write('/local/domain/1', '');
  host.setPermissions('/local/domain/1', ['n0', 'r1']);
  host.write('/local/domain/1/data', '');
  host.setPermissions('/local/domain/1/data', ['n1']);
});

/** The error name of a refused operation, or "ok". */
function outcome(operation: () => void): string {
  try {
    operation();
    return 'ok';
  } catch (error) {
    if (error instanceof StoreError) return error.errno;
    throw error;
  }
}
const write = (path: string, value: string, tx = 0, by = guest): void => {
  store.edit(by, tx, { op: 'write', path, value: toBytes(value) });
};
const read = (path: string, tx = 0, by = guest): string => toText(store.read(by, tx, path));
const list = (path: string, tx = 0): string[] => store.directory(guest, tx, path).names;

describe('nodes', () => {
  it('writes make parents, relative paths begin at the home directory, directories keep order', () => {
    write('data/b/x', '1');
    write('/local/domain/1/data/a', '2');
    expect(read('data/b/x')).toBe('1');
    expect(read('data/b')).toBe('');
    expect(list('data')).toEqual(['b', 'a']);
    expect(host.read('/local/domain/1/data/b/x')).toBe('1');
    expect(host.read('/nowhere')).toBeNull();
    expect(host.list('/local/domain')).toEqual(['1']);
  });

  it('rm takes the subtree; a missing node is fine if its parent exists; mkdir keeps what is there', () => {
    write('data/a/b/c', '1');
    const rm = (path: string): string =>
      outcome(() => {
        store.edit(guest, 0, { op: 'rm', path });
      });
    expect(rm('data/a')).toBe('ok');
    expect(outcome(() => read('data/a/b/c'))).toBe('ENOENT');
    expect(rm('data/a')).toBe('ok');
    expect(rm('data/a/b')).toBe('ENOENT');
    expect(rm('/')).toBe('EINVAL');
    write('data/v', 'kept');
    store.edit(guest, 0, { op: 'mkdir', path: 'data/v' });
    expect(read('data/v')).toBe('kept');
    store.edit(guest, 0, { op: 'mkdir', path: 'data/d/e' });
    expect(list('data/d')).toEqual(['e']);
  });

  it.each([
    '',
    'a//b',
    '/a/',
    'a b',
    '/a/b.c',
    '@introduceDomain',
    'x'.repeat(2049),
    `/${'y'.repeat(3072)}`,
    'a\u00e9',
  ])('refuses the path %j', (path) => {
    // A leading "@" alone is a legal character of a relative name.
    expect(outcome(() => read(path))).toBe(path === '@introduceDomain' ? 'ENOENT' : 'EINVAL');
  });

  it('keeps values byte for byte', () => {
    const value = String.fromCharCode(0, 1, 127, 128, 255);
    write('data/v', value);
    expect(read('data/v')).toBe(value);
  });
});

describe('permissions', () => {
  it('hides and protects what belongs to others', () => {
    host.write('/local/domain/2/secret', 's');
    expect(outcome(() => read('/local/domain/2/secret'))).toBe('ok');
    host.setPermissions('/local/domain/2', ['n2']);
    host.setPermissions('/local/domain/2/secret', ['n2']);
    expect(outcome(() => read('/local/domain/2/secret'))).toBe('EACCES');
    // Not even whether something exists.
    expect(outcome(() => read('/local/domain/2/other'))).toBe('EACCES');
    expect(
      outcome(() => {
        write('/local/domain/2/other', '1');
      }),
    ).toBe('EACCES');
    expect(
      outcome(() => {
        write('name', 'x');
      }),
    ).toBe('EACCES');
    expect(
      outcome(() => {
        store.edit(guest, 0, { op: 'rm', path: '/local/domain/1' });
      }),
    ).toBe('EACCES');
    expect(
      outcome(() => {
        store.edit(guest, 0, { op: 'rm', path: '/local/domain/1/none' });
      }),
    ).toBe('EACCES');
    expect(
      outcome(() => {
        write('/', 'x');
      }),
    ).toBe('EACCES');
  });

  it('letters: default for all, exceptions by domain', () => {
    const other = store.connect(2, () => undefined);
    write('data/v', '1');
    const set = (...permissions: string[]): void => {
      store.edit(guest, 0, { op: 'setPerms', path: 'data/v', permissions: parsePermissions(permissions) });
    };
    const path = '/local/domain/1/data/v';
    const can = (): string[] => [
      outcome(() => read(path, 0, other)),
      outcome(() => {
        write(path, '2', 0, other);
      }),
    ];
    expect(can()).toEqual(['EACCES', 'EACCES']);
    set('r1');
    expect(can()).toEqual(['ok', 'EACCES']);
    set('n1', 'w2');
    expect(can()).toEqual(['EACCES', 'ok']);
    set('b1', 'n2');
    expect(can()).toEqual(['EACCES', 'EACCES']);
    set('n1', 'b2');
    expect(can()).toEqual(['ok', 'ok']);
    // Writing is not owning.
    expect(
      outcome(() => {
        store.edit(other, 0, { op: 'setPerms', path, permissions: parsePermissions(['n1']) });
      }),
    ).toBe('EACCES');
    expect(
      outcome(() => {
        set('n2');
      }),
    ).toBe('EPERM');
    expect(
      outcome(() => {
        set('n1', 'r2', 'r3', 'r4', 'r5', 'r6');
      }),
    ).toBe('ENOSPC');
  });

  it('a domain owns what it creates', () => {
    host.setPermissions('/local/domain/1/data', ['r0', 'b1']);
    write('data/mine', '1');
    expect(host.permissions('/local/domain/1/data/mine')).toEqual(['r1', 'b1']);
    host.write('/local/domain/1/data/ours', '1');
    expect(host.permissions('/local/domain/1/data/ours')).toEqual(['r0', 'b1']);
    expect(host.permissions('/none')).toBeNull();
  });

  it.each([[], ['x1'], ['n'], ['n70000'], ['n-1'], ['r1 ']].map((p) => [p]))('refuses %j', (permissions) => {
    expect(outcome(() => parsePermissions(permissions))).toBe('EINVAL');
  });
});

describe('watches', () => {
  it('fire for the node and what is below it, in the form registered', () => {
    store.addWatch(guest, 'data', 'rel');
    store.addWatch(guest, '/local/domain/1/data/a', 'abs');
    write('data/a/b', '1');
    write('data/ab', '1');
    expect(events).toEqual(['data/a/b|rel', '/local/domain/1/data/a/b|abs', 'data/ab|rel']);
  });

  it('fire on removal: once above, once for each watched node inside', () => {
    write('data/a/b/c', '1');
    store.addWatch(guest, 'data', 'above');
    store.addWatch(guest, 'data/a/b', 'inside');
    store.edit(guest, 0, { op: 'rm', path: 'data/a' });
    expect(events).toEqual(['data/a|above', 'data/a/b|inside']);
  });

  it('fire for changed permissions and not for a mkdir of what exists', () => {
    store.addWatch(guest, 'data', 't');
    store.edit(guest, 0, { op: 'mkdir', path: 'data' });
    expect(events).toEqual([]);
    store.edit(guest, 0, { op: 'setPerms', path: 'data', permissions: parsePermissions(['r1']) });
    expect(events).toEqual(['data|t']);
  });

  it('tell nothing about nodes the domain may not see', () => {
    host.write('/secret', '');
    host.setPermissions('/secret', ['n0']);
    store.addWatch(guest, '/secret', 's');
    host.write('/secret/x', '1');
    expect(events).toEqual([]);
    // The root is readable: that something in it changed may be known.
    host.write('/secret', '2');
    expect(events).toEqual(['/secret|s']);
  });

  it('are unique per path and token, limited, and removable', () => {
    store.addWatch(guest, 'data', 't');
    expect(
      outcome(() => {
        store.addWatch(guest, '/local/domain/1/data', 't');
      }),
    ).toBe('EEXIST');
    store.addWatch(guest, 'data', 'u');
    store.removeWatch(guest, 'data', 't');
    expect(
      outcome(() => {
        store.removeWatch(guest, 'data', 't');
      }),
    ).toBe('ENOENT');
    for (let i = 1; i < DEFAULT_QUOTAS.watches; i++) store.addWatch(guest, 'data', String(i));
    expect(
      outcome(() => {
        store.addWatch(guest, 'data', 'more');
      }),
    ).toBe('E2BIG');
    store.resetWatches(guest);
    write('data/x', '1');
    expect(events).toEqual([]);
    expect(
      outcome(() => {
        store.addWatch(guest, 'a//b', 't');
      }),
    ).toBe('EINVAL');
    expect(
      outcome(() => {
        store.addWatch(guest, `@${'x'.repeat(3000)}`, 't');
      }),
    ).toBe('EINVAL');
  });

  it('special events reach the control domain only', () => {
    const seen: string[] = [];
    const stop = host.watch('@introduceDomain', (path) => seen.push(path));
    host.watch('@releaseDomain', (path) => seen.push(path));
    store.addWatch(guest, '@introduceDomain', 't');
    store.introduce(1);
    expect(store.isIntroduced(1)).toBe(true);
    store.release(1);
    expect(store.isIntroduced(1)).toBe(false);
    expect(seen).toEqual(['@introduceDomain', '@releaseDomain', '@introduceDomain', '@releaseDomain']);
    expect(events).toEqual([]);
    stop();
    stop();
    store.introduce(2);
    expect(seen.length).toBe(4);
  });

  it('host callbacks may use the store, and follow one another', () => {
    const seen: string[] = [];
    host.watch('/local/domain/1/data', (path) => {
      seen.push(path);
      if (path.endsWith('/state')) host.write('/local/domain/1/data/answer', '1');
    });
    write('data/state', '4');
    expect(seen).toEqual(['/local/domain/1/data', '/local/domain/1/data/state', '/local/domain/1/data/answer']);
  });
});
