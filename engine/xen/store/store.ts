// SPDX-License-Identifier: MIT
// Xenstore: the shared tree, its connections with their watches and transactions (docs/misc/xenstore.txt).

import { DEFAULT_QUOTAS, applyEdit, readNode, type Edit, type Quotas, type StoreEvent } from './edits.ts';
import { READ, accessOf } from './permissions.ts';
import { canonicalPath, emptyTree, type Node, type Tree } from './tree.ts';
import { Transaction } from './transaction.ts';
import { MAX_RELATIVE_PATH, StoreError } from './wire.ts';

/** A registered watch. */
interface Watch {
  /** Absolute path, or a special event name beginning with "@". */
  readonly path: string;
  readonly token: string;
  readonly relative: boolean;
}

/** Receives the watch events of a connection. */
export type EventSink = (path: string, token: string) => void;

/** One client: a guest's ring, or the engine itself as the control domain. */
export interface StoreConnection {
  readonly domid: number;
  /** Where relative paths begin: "/local/domain/<domid>". */
  readonly home: string;
  readonly sink: EventSink;
  readonly watches: Watch[];
  readonly transactions: Map<number, Transaction>;
  nextTransaction: number;
}

/** Special watch names. */
export const INTRODUCE_DOMAIN = '@introduceDomain';
export const RELEASE_DOMAIN = '@releaseDomain';

/** The home directory of a domain. */
export function domainPath(domid: number): string {
  return `/local/domain/${String(domid)}`;
}

/** The store. Every operation throws `StoreError` when it is refused and has then changed nothing. */
export class Store {
  private tree: Tree = emptyTree();
  private readonly quotas: Quotas;
  private readonly connections = new Set<StoreConnection>();
  private readonly introduced = new Set<number>([0]);

  constructor(quotas: Quotas = DEFAULT_QUOTAS) {
    this.quotas = quotas;
  }

  /** Opens a connection for a domain. */
  connect(domid: number, sink: EventSink): StoreConnection {
    const connection: StoreConnection = {
      domid,
      home: domainPath(domid),
      sink,
      watches: [],
      transactions: new Map(),
      nextTransaction: 1,
    };
    this.connections.add(connection);
    return connection;
  }

  /** Closes a connection: its watches and transactions are gone. */
  disconnect(connection: StoreConnection): void {
    this.resetWatches(connection);
    this.connections.delete(connection);
  }

  // --- Nodes. `transaction` is 0 for none; paths may be relative. ---

  /** The value of a node; do not change it. */
  read(connection: StoreConnection, transaction: number, path: string): Uint8Array {
    return this.node(connection, transaction, path).value;
  }

  /** Names of the children, oldest first, and a number that changes whenever they do. */
  directory(connection: StoreConnection, transaction: number, path: string): { names: string[]; generation: number } {
    const node = this.node(connection, transaction, path);
    return { names: [...node.children.keys()], generation: node.version };
  }

  /** A node with its permissions, for a connection that may read it. */
  node(connection: StoreConnection, transaction: number, path: string): Node {
    const absolute = canonicalPath(path, connection.home);
    if (transaction === 0) return readNode(this.tree, absolute, connection.domid);
    const open = this.transaction(connection, transaction);
    open.touch(absolute);
    return readNode(open.working, absolute, connection.domid);
  }

  /** Writes, makes, removes a node or sets its permissions. The path in `edit` may be relative. */
  edit(connection: StoreConnection, transaction: number, edit: Edit): void {
    const canonical = { ...edit, path: canonicalPath(edit.path, connection.home) };
    if (transaction !== 0) {
      this.transaction(connection, transaction).edit(canonical);
      return;
    }
    const done = applyEdit(this.tree, canonical, connection.domid, this.quotas);
    this.tree = done.tree;
    this.fire(done.events);
  }

  // --- Transactions. ---

  /** Starts a transaction and returns its id (not 0). ENOSPC over quota. */
  startTransaction(connection: StoreConnection): number {
    if (connection.domid !== 0 && connection.transactions.size >= this.quotas.transactions) {
      throw new StoreError('ENOSPC', 'transaction quota');
    }
    let id: number;
    do {
      id = connection.nextTransaction;
      connection.nextTransaction = id === 0xffffffff ? 1 : id + 1;
    } while (connection.transactions.has(id));
    connection.transactions.set(id, new Transaction(this.tree, connection.domid, this.quotas));
    return id;
  }

  /** Ends a transaction, which is gone whatever the outcome. EAGAIN when it conflicts with a later change; ENOENT. */
  endTransaction(connection: StoreConnection, id: number, commit: boolean): void {
    const open = this.transaction(connection, id);
    connection.transactions.delete(id);
    if (!commit) return;
    const done = open.commit(this.tree);
    this.tree = done.tree;
    this.fire(done.events);
  }

  /** Whether the connection has an open transaction of that id. */
  hasTransaction(connection: StoreConnection, id: number): boolean {
    return connection.transactions.has(id);
  }

  // --- Watches. ---

  /**
   * Registers a watch. The caller reports the first event, which every new watch gets at once, with `path` as given.
   * EEXIST for the same path and token, E2BIG over quota, EINVAL for an illegal path.
   */
  addWatch(connection: StoreConnection, path: string, token: string): void {
    const special = path.startsWith('@');
    if (special && path.length > MAX_RELATIVE_PATH) throw new StoreError('EINVAL', 'event name too long');
    const absolute = special ? path : canonicalPath(path, connection.home);
    if (connection.watches.some((w) => w.path === absolute && w.token === token)) throw new StoreError('EEXIST', path);
    if (connection.domid !== 0 && connection.watches.length >= this.quotas.watches)
      throw new StoreError('E2BIG', 'watch quota');
    connection.watches.push({ path: absolute, token, relative: !special && !path.startsWith('/') });
  }

  /** Removes a watch. ENOENT when there is none of that path and token. */
  removeWatch(connection: StoreConnection, path: string, token: string): void {
    const absolute = path.startsWith('@') ? path : canonicalPath(path, connection.home);
    const index = connection.watches.findIndex((w) => w.path === absolute && w.token === token);
    if (index < 0) throw new StoreError('ENOENT', path);
    connection.watches.splice(index, 1);
  }

  /** Drops all watches and transactions of a connection (XS_RESET_WATCHES). */
  resetWatches(connection: StoreConnection): void {
    connection.watches.length = 0;
    connection.transactions.clear();
  }

  // --- Domains. ---

  /** Announces a domain to those who watch `@introduceDomain`. */
  introduce(domid: number): void {
    this.introduced.add(domid);
    this.fireSpecial(INTRODUCE_DOMAIN);
  }

  /** Announces a domain's end to those who watch `@releaseDomain`. */
  release(domid: number): void {
    this.introduced.delete(domid);
    this.fireSpecial(RELEASE_DOMAIN);
  }

  isIntroduced(domid: number): boolean {
    return this.introduced.has(domid);
  }

  /** Nodes owned by a domain (statistics). */
  ownedNodes(domid: number): number {
    return this.tree.owned.get(domid) ?? 0;
  }

  private transaction(connection: StoreConnection, id: number): Transaction {
    const open = connection.transactions.get(id);
    if (open === undefined) throw new StoreError('ENOENT', `no transaction ${String(id)}`);
    return open;
  }

  private fire(events: readonly StoreEvent[]): void {
    for (const event of events) {
      for (const connection of [...this.connections]) {
        if (!event.visibleBy.some((p) => (accessOf(p, connection.domid) & READ) !== 0)) continue;
        for (const watch of [...connection.watches]) {
          if (!watches(watch.path, event)) continue;
          connection.sink(watch.relative ? event.path.slice(connection.home.length + 1) : event.path, watch.token);
        }
      }
    }
  }

  /** Special events concern the control domain only. */
  private fireSpecial(name: string): void {
    for (const connection of [...this.connections]) {
      if (connection.domid !== 0) continue;
      for (const watch of [...connection.watches]) if (watch.path === name) connection.sink(name, watch.token);
    }
  }
}

function watches(path: string, event: StoreEvent): boolean {
  if (event.path === path) return true;
  return !event.exact && (path === '/' || event.path.startsWith(`${path}/`));
}
