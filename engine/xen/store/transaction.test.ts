// SPDX-License-Identifier: MIT
// Tests of xenstore's transactions and quotas, with serialisability as a property.

import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { DEFAULT_QUOTAS } from './edits.ts';
import { HostStore } from './host-store.ts';
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

describe('transactions', () => {
  it('are invisible until they end, then all at once; watches fire at the end', () => {
    store.addWatch(guest, 'data', 'w');
    const tx = store.startTransaction(guest);
    write('data/a', '1', tx);
    write('data/b', '2', tx);
    expect(read('data/a', tx)).toBe('1');
    expect(list('data')).toEqual([]);
    expect(events).toEqual([]);
    store.endTransaction(guest, tx, true);
    expect(list('data')).toEqual(['a', 'b']);
    expect(events).toEqual(['data/a|w', 'data/b|w']);
    expect(
      outcome(() => {
        store.endTransaction(guest, tx, true);
      }),
    ).toBe('ENOENT');
    expect(outcome(() => read('data/a', tx))).toBe('ENOENT');
  });

  it('can be abandoned', () => {
    const tx = store.startTransaction(guest);
    write('data/a', '1', tx);
    store.endTransaction(guest, tx, false);
    expect(outcome(() => read('data/a'))).toBe('ENOENT');
  });

  it('see a snapshot', () => {
    write('data/a', '1');
    const tx = store.startTransaction(guest);
    write('data/a', '2');
    expect(read('data/a', tx)).toBe('1');
    expect(
      outcome(() => {
        store.endTransaction(guest, tx, true);
      }),
    ).toBe('EAGAIN');
  });

  it.each([
    [
      'read',
      'other value',
      (tx: number) => read('data/a', tx),
      () => {
        write('data/a', '9');
      },
    ],
    [
      'list',
      'new child',
      (tx: number) => list('data', tx),
      () => {
        write('data/new', '9');
      },
    ],
    [
      'absence',
      'appearance',
      (tx: number) => outcome(() => read('data/x', tx)),
      () => {
        write('data/x', '9');
      },
    ],
    [
      'write',
      'write',
      (tx: number) => {
        write('data/a', '3', tx);
      },
      () => {
        write('data/a', '9');
      },
    ],
    [
      'creation',
      'creation',
      (tx: number) => {
        write('data/n', '3', tx);
      },
      () => {
        write('data/n', '9');
      },
    ],
    [
      'read',
      'removal',
      (tx: number) => read('data/a', tx),
      () => {
        host.remove('/local/domain/1/data/a');
      },
    ],
    [
      'read',
      'permissions',
      (tx: number) => read('data/a', tx),
      () => {
        host.setPermissions('/local/domain/1/data/a', ['r1']);
      },
    ],
    [
      'write',
      'lost permission above',
      (tx: number) => {
        write('data/d/e', '3', tx);
      },
      () => {
        host.setPermissions('/local/domain/1/data', ['n0']);
      },
    ],
  ])('EAGAIN: %s against %s', (_mine, _theirs, mine, theirs) => {
    write('data/a', '1');
    const tx = store.startTransaction(guest);
    mine(tx);
    theirs();
    expect(
      outcome(() => {
        store.endTransaction(guest, tx, true);
      }),
    ).toBe('EAGAIN');
    expect(
      outcome(() => {
        store.endTransaction(guest, tx, true);
      }),
    ).toBe('ENOENT');
  });

  it('commit beside changes that do not concern them', () => {
    const tx = store.startTransaction(guest);
    write('data/a/x', '1', tx);
    write('data/b/y', '2');
    host.write('/local/domain/0/name', 'Domain-0');
    store.endTransaction(guest, tx, true);
    expect(list('data')).toEqual(['b', 'a']);
  });

  it('are limited in number and size', () => {
    const open = Array.from({ length: DEFAULT_QUOTAS.transactions }, () => store.startTransaction(guest));
    expect(
      outcome(() => {
        store.startTransaction(guest);
      }),
    ).toBe('ENOSPC');
    const [tx] = open;
    let last = 'ok';
    for (let i = 0; i < 2000 && last !== 'ENOSPC'; i++) last = outcome(() => read(`data/n${String(i)}`, tx));
    expect(last).toBe('ENOSPC');
    store.resetWatches(guest);
    expect(store.hasTransaction(guest, tx)).toBe(false);
  });

  it('number from 1 again after 2^32', () => {
    guest.nextTransaction = 0xffffffff;
    expect(store.startTransaction(guest)).toBe(0xffffffff);
    expect(store.startTransaction(guest)).toBe(1);
  });

  it('the host repeats its own until it succeeds, and drops a failing one', () => {
    host.write('/n', '1');
    let interfered = false;
    host.transaction((tx) => {
      const n = Number(tx.read('/n'));
      if (!interfered) {
        interfered = true;
        host.write('/n', '10');
      }
      tx.write('/n', String(n + 1));
      tx.remove('/gone');
    });
    expect(host.read('/n')).toBe('11');
    expect(() => {
      host.transaction((tx) => tx.read('/none'));
    }).toThrow('ENOENT');
  });
});

describe('quotas', () => {
  it('nodes per domain, whoever created the directory; removal gives back', () => {
    let made = 0;
    while (
      outcome(() => {
        write(`data/d${String(made % 40)}/n${String(made)}`, '');
      }) === 'ok'
    )
      made++;
    expect(store.ownedNodes(1)).toBe(DEFAULT_QUOTAS.nodes);
    expect(
      outcome(() => {
        write('data/one', '');
      }),
    ).toBe('ENOSPC');
    expect(
      outcome(() => {
        write('data/d0', 'a value is no node');
      }),
    ).toBe('ok');
    store.edit(guest, 0, { op: 'rm', path: 'data/d1' });
    expect(
      outcome(() => {
        write('data/one', '');
      }),
    ).toBe('ok');
    // In a transaction as well.
    const tx = store.startTransaction(guest);
    for (let i = 0; i < 30; i++)
      outcome(() => {
        write(`data/t${String(i)}`, '', tx);
      });
    store.endTransaction(guest, tx, true);
    expect(store.ownedNodes(1)).toBeLessThanOrEqual(DEFAULT_QUOTAS.nodes);
  });

  it('size of a node: its value and its list of children', () => {
    expect(
      outcome(() => {
        write('data/v', 'x'.repeat(2000));
      }),
    ).toBe('ok');
    expect(
      outcome(() => {
        write('data/v', 'x'.repeat(2048));
      }),
    ).toBe('ENOSPC');
    let i = 0;
    while (
      outcome(() => {
        write(`data/${'c'.repeat(100)}${String(i)}`, '');
      }) === 'ok'
    )
      i++;
    expect(i).toBeLessThan(21);
    host.write('/local/domain/1/big', 'x'.repeat(4000));
    expect(read('big').length).toBe(4000);
  });

  it('counts stay right through any sequence (property)', () => {
    const paths = ['data/a', 'data/a/b', 'data/a/b/c', 'data/d', 'data/d/e'];
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom(...paths), fc.constantFrom('write', 'mkdir', 'rm'), fc.boolean())),
        (steps) => {
          const s = new Store();
          const h = new HostStore(s);
          const g = s.connect(1, () => undefined);
          h.write('/local/domain/1/data', '');
          h.setPermissions('/local/domain/1/data', ['b1']);
          for (const [path, op, byGuest] of steps) {
            const absolute = `/local/domain/1/${path}`;
            const edit =
              op === 'write'
                ? ({ op, path: absolute, value: toBytes('v') } as const)
                : { op: op as 'mkdir' | 'rm', path: absolute };
            outcome(() => {
              if (byGuest) s.edit(g, 0, edit);
              else if (edit.op === 'rm') h.remove(absolute);
              else if (edit.op === 'mkdir') h.mkdir(absolute);
              else h.write(absolute, 'v');
            });
          }
          let owned = 0;
          const walk = (path: string): void => {
            if (h.permissions(path)?.[0].slice(1) === '1') owned++;
            for (const name of h.list(path) ?? []) walk(path === '/' ? `/${name}` : `${path}/${name}`);
          };
          walk('/');
          expect(s.ownedNodes(1)).toBe(owned);
        },
      ),
      { seed: 11, numRuns: 100 },
    );
  });
});

/** One step of a client inside its transaction. */
type Step = { kind: 'read' | 'write' | 'rm' | 'list'; key: number; value: number };

it('committed transactions are equivalent to running them one after another, in order of their ends (property)', () => {
  const keys = ['data/a', 'data/b', 'data/b/c', 'data/d', 'data/d/e'];
  const step: fc.Arbitrary<Step> = fc.record({
    kind: fc.constantFrom('read' as const, 'write' as const, 'rm' as const, 'list' as const),
    key: fc.nat(keys.length - 1),
    value: fc.nat(9),
  });
  const fresh = (): { s: Store; g: StoreConnection } => {
    const s = new Store();
    const h = new HostStore(s);
    h.write('/local/domain/1/data/a', '0');
    h.write('/local/domain/1/data/b', '0');
    for (const p of ['/local/domain/1/data', '/local/domain/1/data/a', '/local/domain/1/data/b'])
      h.setPermissions(p, ['n1']);
    return { s, g: s.connect(1, () => undefined) };
  };
  /** Carries out a step; what the client observes. A written value depends on what it read before. */
  const run = (s: Store, g: StoreConnection, tx: number, { kind, key, value }: Step, log: string[]): void => {
    log.push(
      outcome(() => {
        if (kind === 'read') log.push(toText(s.read(g, tx, keys[key])));
        else if (kind === 'list') log.push([...s.directory(g, tx, keys[key]).names].sort().join());
        else if (kind === 'rm') s.edit(g, tx, { op: 'rm', path: keys[key] });
        else s.edit(g, tx, { op: 'write', path: keys[key], value: toBytes(`${log.join().slice(-6)}${String(value)}`) });
      }),
    );
  };
  const dump = (s: Store, g: StoreConnection, path = 'data'): string => {
    const names = [...s.directory(g, 0, path).names].sort();
    return `${path}=${toText(s.read(g, 0, path))};${names.map((n) => dump(s, g, `${path}/${n}`)).join('')}`;
  };
  fc.assert(
    fc.property(
      fc.array(fc.array(step, { minLength: 1, maxLength: 5 }), { minLength: 2, maxLength: 4 }),
      fc.array(fc.nat(3), { minLength: 20, maxLength: 20 }),
      (clients, schedule) => {
        const { s, g } = fresh();
        const state = clients.map((steps) => ({
          steps,
          next: 0,
          tx: s.startTransaction(g),
          log: [] as string[],
          done: false,
        }));
        const committed: typeof state = [];
        // Interleaves the clients as scheduled, then lets each finish.
        for (const turn of [
          ...schedule,
          ...clients.flatMap((steps, c) => new Array(steps.length + 1).fill(c) as number[]),
        ]) {
          const client = state[turn % state.length];
          if (client.done) continue;
          if (client.next < client.steps.length) {
            run(s, g, client.tx, client.steps[client.next++], client.log);
          } else {
            client.done = true;
            if (
              outcome(() => {
                s.endTransaction(g, client.tx, true);
              }) === 'ok'
            )
              committed.push(client);
          }
        }
        expect(committed.length).toBeGreaterThan(0);
        const serial = fresh();
        for (const client of committed) {
          const log: string[] = [];
          for (const one of client.steps) run(serial.s, serial.g, 0, one, log);
          expect(client.log).toEqual(log);
        }
        expect(dump(s, g)).toBe(dump(serial.s, serial.g));
      },
    ),
    { seed: 12, numRuns: 1500 },
  );
});
