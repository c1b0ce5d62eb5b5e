// SPDX-License-Identifier: MIT
// A xenstore transaction: works on a snapshot, and is repeated on the current tree when it ends, unless it is stale.

import { applyEdit, type Edit, type Quotas, type StoreEvent } from './edits.ts';
import { find, nearest, type Tree } from './tree.ts';
import { StoreError } from './wire.ts';

/**
 * Snapshot isolation with validation: the transaction sees the tree as it was at its start plus its own changes. At
 * its end every node that it read or wrote must still have the version it had then; otherwise EAGAIN, and the client
 * starts over. So committed transactions are equivalent to some serial order.
 */
export class Transaction {
  /** The snapshot with the transaction's own changes. */
  working: Tree;
  private readonly base: Tree;
  private readonly domid: number;
  private readonly quotas: Quotas;
  private readonly edits: Edit[] = [];
  private readonly events: StoreEvent[] = [];
  /** Version in the snapshot of each node the transaction depends on; 0 for "did not exist". */
  private readonly seen = new Map<string, number>();

  constructor(base: Tree, domid: number, quotas: Quotas) {
    this.base = base;
    this.working = base;
    this.domid = domid;
    this.quotas = quotas;
  }

  /** Notes that the outcome of the transaction depends on a node (or on its absence). ENOSPC over quota. */
  touch(path: string): void {
    this.touchTarget(path);
    // The answer about a missing node comes from the nearest one above it.
    if (find(this.working, path) === null) this.touchTarget(nearest(this.base, path).path);
  }

  /** Makes a change within the transaction. */
  edit(edit: Edit): void {
    this.touchTarget(edit.path);
    let done: { tree: Tree; events: StoreEvent[] };
    try {
      done = applyEdit(this.working, edit, this.domid, this.quotas);
    } catch (error) {
      // The client acts on the refusal: it must still be right at the end.
      this.touch(edit.path);
      throw error;
    }
    this.working = done.tree;
    this.edits.push(edit);
    this.events.push(...done.events);
  }

  /** The tree and events of the transaction on top of `current`. EAGAIN when it is stale. */
  commit(current: Tree): { tree: Tree; events: StoreEvent[] } {
    if (current.root === this.base.root) return { tree: this.working, events: this.events };
    for (const [path, version] of this.seen) {
      if ((find(current, path)?.version ?? 0) !== version) throw new StoreError('EAGAIN', path);
    }
    let tree = current;
    const events: StoreEvent[] = [];
    for (const edit of this.edits) {
      try {
        const done = applyEdit(tree, edit, this.domid, this.quotas);
        tree = done.tree;
        events.push(...done.events);
      } catch {
        // Permissions above the node changed meanwhile, or a quota ran out: the client finds out by trying again.
        throw new StoreError('EAGAIN', edit.path);
      }
    }
    return { tree, events };
  }

  /** As `touch`, but a new node under an existing one does not make the parent's other children matter. */
  private touchTarget(path: string): void {
    if (this.seen.has(path)) return;
    if (this.domid !== 0 && this.seen.size >= this.quotas.transactionNodes)
      throw new StoreError('ENOSPC', 'transaction node quota');
    this.seen.set(path, find(this.base, path)?.version ?? 0);
  }
}
