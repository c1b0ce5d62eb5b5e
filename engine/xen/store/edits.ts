// SPDX-License-Identifier: MIT
// Reading and changing the xenstore tree as a given domain: permission checks, quotas, and the watch events that follow.

import { READ, WRITE, accessOf, inheritPermissions, type Permissions } from './permissions.ts';
import { change, create, find, forEachNode, nearest, parentPath, remove, type Node, type Tree } from './tree.ts';
import { StoreError } from './wire.ts';

/** One change to the tree. */
export type Edit =
  | { readonly op: 'write'; readonly path: string; readonly value: Uint8Array }
  | { readonly op: 'mkdir'; readonly path: string }
  | { readonly op: 'rm'; readonly path: string }
  | { readonly op: 'setPerms'; readonly path: string; readonly permissions: Permissions };

/** Something happened to a node: watches on it, and on nodes above it unless `exact`, fire. */
export interface StoreEvent {
  readonly path: string;
  /** Part of a removed subtree: only watches on this very node fire, those above heard of the subtree's root. */
  readonly exact: boolean;
  /** A domain may hear of it when one of these gives it read access (node, its parent, the node's old permissions). */
  readonly visibleBy: readonly Permissions[];
}

/** What an ordinary domain may use up. The control domain has no limits. */
export interface Quotas {
  /** Nodes owned. */
  readonly nodes: number;
  /** Bytes of one node: value, names of children, permissions. */
  readonly nodeBytes: number;
  /** Entries in a node's permission list. */
  readonly permissionsPerNode: number;
  readonly watches: number;
  /** Transactions open at once. */
  readonly transactions: number;
  /** Nodes one transaction may touch. */
  readonly transactionNodes: number;
}

/** The defaults of Xen's C xenstored. */
export const DEFAULT_QUOTAS: Quotas = {
  nodes: 1000,
  nodeBytes: 2048,
  permissionsPerNode: 5,
  watches: 128,
  transactions: 10,
  transactionNodes: 1024,
};

/**
 * The node at a path, for a domain that wants `wanted` access. EACCES without it; for a missing node ENOENT, but EACCES
 * when the nearest node above denies the access too: a domain cannot probe what it may not see.
 */
export function lookUp(tree: Tree, path: string, domid: number, wanted: number): Node {
  const node = find(tree, path);
  const judge = node ?? nearest(tree, path).node;
  if ((accessOf(judge.permissions, domid) & wanted) !== wanted) throw new StoreError('EACCES', path);
  if (node === null) throw new StoreError('ENOENT', path);
  return node;
}

/** The node for reading. */
export function readNode(tree: Tree, path: string, domid: number): Node {
  return lookUp(tree, path, domid, READ);
}

/** Carries out a change as a domain. Throws `StoreError` and changes nothing when it is refused. */
export function applyEdit(tree: Tree, edit: Edit, domid: number, quotas: Quotas): { tree: Tree; events: StoreEvent[] } {
  switch (edit.op) {
    case 'write':
    case 'mkdir':
      return put(tree, edit.path, edit.op === 'write' ? edit.value : null, domid, quotas);
    case 'rm':
      return removeSubtree(tree, edit.path, domid);
    case 'setPerms':
      return setPermissions(tree, edit.path, edit.permissions, domid, quotas);
  }
}

/** Write (value) or mkdir (null): makes the node and those above it when missing. */
function put(
  tree: Tree,
  path: string,
  value: Uint8Array | null,
  domid: number,
  quotas: Quotas,
): { tree: Tree; events: StoreEvent[] } {
  const above = nearest(tree, path);
  if ((accessOf(above.node.permissions, domid) & WRITE) === 0) throw new StoreError('EACCES', path);
  let result: Tree;
  if (above.path === path) {
    if (value === null) return { tree, events: [] };
    result = change(tree, path, { value });
  } else {
    result = create(tree, path, value ?? new Uint8Array(0), inheritPermissions(above.node.permissions, domid));
  }
  if (domid !== 0) {
    const owned = result.owned.get(domid) ?? 0;
    if (owned > quotas.nodes && owned > (tree.owned.get(domid) ?? 0)) throw new StoreError('ENOSPC', 'node quota');
    for (const touched of [path, above.path]) {
      if (nodeBytes(find(result, touched) as Node) > quotas.nodeBytes)
        throw new StoreError('ENOSPC', 'node size quota');
    }
  }
  return { tree: result, events: [eventAt(result, path, [])] };
}

function removeSubtree(tree: Tree, path: string, domid: number): { tree: Tree; events: StoreEvent[] } {
  if (path === '/') throw new StoreError('EINVAL', 'the root cannot be removed');
  if (find(tree, path) === null) {
    const parent = find(tree, parentPath(path));
    // Refusals as for any missing node come first; then: nothing to do, if the parent is there.
    if ((accessOf(nearest(tree, path).node.permissions, domid) & WRITE) === 0) throw new StoreError('EACCES', path);
    if (parent === null) throw new StoreError('ENOENT', path);
    return { tree, events: [] };
  }
  const node = lookUp(tree, path, domid, WRITE);
  const events: StoreEvent[] = [];
  let parents: readonly Permissions[] = [(find(tree, parentPath(path)) as Node).permissions];
  forEachNode(node, path, (gone, at) => {
    if (at !== path) parents = [(find(tree, parentPath(at)) as Node).permissions];
    events.push({ path: at, exact: at !== path, visibleBy: [gone.permissions, ...parents] });
  });
  return { tree: remove(tree, path), events };
}

function setPermissions(
  tree: Tree,
  path: string,
  permissions: Permissions,
  domid: number,
  quotas: Quotas,
): { tree: Tree; events: StoreEvent[] } {
  const node = lookUp(tree, path, domid, WRITE);
  if (domid !== 0) {
    // Only the owner may, and it cannot give the node away (which would evade the quota).
    if (node.permissions[0].domid !== domid) throw new StoreError('EACCES', path);
    if (permissions[0].domid !== domid) throw new StoreError('EPERM', path);
    if (permissions.length > quotas.permissionsPerNode) throw new StoreError('ENOSPC', 'permission quota');
  }
  const result = change(tree, path, { permissions });
  return { tree: result, events: [eventAt(result, path, [node.permissions])] };
}

function eventAt(tree: Tree, path: string, alsoVisibleBy: readonly Permissions[]): StoreEvent {
  const node = find(tree, path) as Node;
  const parent = find(tree, parentPath(path)) as Node;
  return { path, exact: false, visibleBy: [node.permissions, parent.permissions, ...alsoVisibleBy] };
}

function nodeBytes(node: Node): number {
  let bytes = node.value.length + 8 * node.permissions.length;
  for (const name of node.children.keys()) bytes += name.length + 1;
  return bytes;
}
