// SPDX-License-Identifier: MIT
// The engine's own access to xenstore as the control domain: text values, callbacks for watches.

import { formatPermissions, parsePermissions } from './permissions.ts';
import type { Store, StoreConnection } from './store.ts';
import { StoreError, toBytes, toText } from './wire.ts';

/** Called with the path that changed (in the form the watch was registered in). */
export type WatchCallback = (path: string) => void;

/**
 * Store operations as domain 0. Paths are absolute. Watch callbacks run after the operation that caused them, outside
 * of any other callback, so they may use the store freely.
 */
export class HostStore {
  private readonly store: Store;
  private readonly connection: StoreConnection;
  private readonly callbacks = new Map<string, WatchCallback>();
  private readonly pending: { path: string; token: string }[] = [];
  private delivering = false;
  private lastToken = 0;

  constructor(store: Store) {
    this.store = store;
    this.connection = store.connect(0, (path, token) => {
      this.pending.push({ path, token });
      this.deliver();
    });
  }

  /** The value of a node as text (one character per byte), or null when it does not exist. */
  read(path: string): string | null {
    return this.unlessMissing(() => toText(this.store.read(this.connection, 0, path)));
  }

  /** Names of a node's children, or null when it does not exist. */
  list(path: string): string[] | null {
    return this.unlessMissing(() => this.store.directory(this.connection, 0, path).names);
  }

  /** Permissions of a node in wire form ("n0", "r1"), or null when it does not exist. */
  permissions(path: string): string[] | null {
    return this.unlessMissing(() => formatPermissions(this.store.node(this.connection, 0, path).permissions));
  }

  /** Writes a value, making missing nodes. */
  write(path: string, value: string): void {
    this.store.edit(this.connection, 0, { op: 'write', path, value: toBytes(value) });
  }

  /** Makes an empty node unless it exists. */
  mkdir(path: string): void {
    this.store.edit(this.connection, 0, { op: 'mkdir', path });
  }

  /** Removes a node and all below it. */
  remove(path: string): void {
    this.store.edit(this.connection, 0, { op: 'rm', path });
  }

  /** Sets permissions given in wire form, owner first. */
  setPermissions(path: string, permissions: readonly string[]): void {
    this.store.edit(this.connection, 0, { op: 'setPerms', path, permissions: parsePermissions(permissions) });
  }

  /**
   * Runs `body` as one transaction: others see all of its writes or none. Repeated when it conflicts, so `body` must do
   * nothing else. Returns what `body` returns.
   */
  transaction<T>(body: (store: TransactionView) => T): T {
    for (;;) {
      const id = this.store.startTransaction(this.connection);
      let result: T;
      try {
        result = body(new TransactionView(this.store, this.connection, id));
      } catch (error) {
        this.store.endTransaction(this.connection, id, false);
        throw error;
      }
      try {
        this.store.endTransaction(this.connection, id, true);
        return result;
      } catch (error) {
        if (!(error instanceof StoreError) || error.errno !== 'EAGAIN') throw error;
      }
    }
  }

  /** Watches a node and all below it (or a special event); called once at once. Returns the function that ends it. */
  watch(path: string, callback: WatchCallback): () => void {
    const token = String(++this.lastToken);
    this.store.addWatch(this.connection, path, token);
    this.callbacks.set(token, callback);
    this.pending.push({ path, token });
    this.deliver();
    return () => {
      if (!this.callbacks.delete(token)) return;
      this.store.removeWatch(this.connection, path, token);
    };
  }

  private deliver(): void {
    if (this.delivering) return;
    this.delivering = true;
    try {
      for (let event = this.pending.shift(); event !== undefined; event = this.pending.shift()) {
        this.callbacks.get(event.token)?.(event.path);
      }
    } finally {
      this.delivering = false;
    }
  }

  private unlessMissing<T>(operation: () => T): T | null {
    try {
      return operation();
    } catch (error) {
      if (error instanceof StoreError && error.errno === 'ENOENT') return null;
      throw error;
    }
  }
}

/** The store inside a transaction. */
export class TransactionView {
  private readonly store: Store;
  private readonly connection: StoreConnection;
  private readonly id: number;

  constructor(store: Store, connection: StoreConnection, id: number) {
    this.store = store;
    this.connection = connection;
    this.id = id;
  }

  /** The value of a node as text. Throws `StoreError` ENOENT when it does not exist. */
  read(path: string): string {
    return toText(this.store.read(this.connection, this.id, path));
  }

  /** Writes a value, making missing nodes. */
  write(path: string, value: string): void {
    this.store.edit(this.connection, this.id, { op: 'write', path, value: toBytes(value) });
  }

  /** Removes a node and all below it. */
  remove(path: string): void {
    this.store.edit(this.connection, this.id, { op: 'rm', path });
  }
}
