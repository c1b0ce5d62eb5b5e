// SPDX-License-Identifier: MIT
// The tree of xenstore as an immutable value: every change gives a new root, so a transaction's snapshot is a pointer.

import { type Permissions } from './permissions.ts';
import { MAX_ABSOLUTE_PATH, MAX_RELATIVE_PATH, StoreError } from './wire.ts';

/** A node. Never changed after it was made. */
export interface Node {
  readonly value: Uint8Array;
  /** By name, in order of creation. */
  readonly children: ReadonlyMap<string, Node>;
  readonly permissions: Permissions;
  /** Unique number of the node's own content: value, permissions and set of children (not what is below them). */
  readonly version: number;
}

/** A whole store: the root and how many nodes each domain owns. */
export interface Tree {
  readonly root: Node;
  readonly owned: ReadonlyMap<number, number>;
}

const EMPTY = new Uint8Array(0);
let lastVersion = 0;

/** A version number never used before. */
function nextVersion(): number {
  return ++lastVersion;
}

/** A store with nothing but "/", readable by all, owned by the control domain. */
export function emptyTree(): Tree {
  const root: Node = {
    value: EMPTY,
    children: new Map(),
    permissions: [{ letter: 'r', domid: 0 }],
    version: nextVersion(),
  };
  return { root, owned: new Map([[0, 1]]) };
}

/** Names along an absolute path; none for "/". */
export function pathNames(path: string): string[] {
  return path === '/' ? [] : path.slice(1).split('/');
}

/** The path of the containing node; "/" for "/" itself. */
export function parentPath(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash <= 0 ? '/' : path.slice(0, slash);
}

/**
 * The absolute form of a path: relative ones are below `home`. EINVAL when it is not a legal node path
 * (letters, digits, `-/_@`, no empty names, within the length limits).
 */
export function canonicalPath(path: string, home: string): string {
  const relative = !path.startsWith('/');
  if (relative && path.length > MAX_RELATIVE_PATH) throw new StoreError('EINVAL', 'relative path too long');
  const absolute = relative ? `${home}/${path}` : path;
  if (absolute === '/') return absolute;
  if (absolute.length > MAX_ABSOLUTE_PATH || !/^(\/[A-Za-z0-9\-_@]+)+$/.test(absolute)) {
    throw new StoreError('EINVAL', 'not a legal path');
  }
  return absolute;
}

/** The node at a path, or null. */
export function find(tree: Tree, path: string): Node | null {
  let node: Node | undefined = tree.root;
  for (const name of pathNames(path)) {
    node = node.children.get(name);
    if (node === undefined) return null;
  }
  return node;
}

/** The deepest existing node on the way to a path (which is the node itself when it exists). */
export function nearest(tree: Tree, path: string): { node: Node; path: string } {
  let node = tree.root;
  let at = '';
  for (const name of pathNames(path)) {
    const child = node.children.get(name);
    if (child === undefined) break;
    node = child;
    at += `/${name}`;
  }
  return { node, path: at === '' ? '/' : at };
}

/** New content of an existing node. */
export interface NodeChange {
  readonly value?: Uint8Array;
  readonly permissions?: Permissions;
}

/** The tree with an existing node's value or permissions changed. */
export function change(tree: Tree, path: string, content: NodeChange): Tree {
  const owned = new Map(tree.owned);
  const root = rebuild(tree.root, pathNames(path), 0, (node) => {
    const permissions = content.permissions ?? node.permissions;
    addOwned(owned, node.permissions[0].domid, -1);
    addOwned(owned, permissions[0].domid, 1);
    return { ...node, value: content.value ?? node.value, permissions, version: nextVersion() };
  });
  return { root, owned };
}

/**
 * The tree with a node added, and every missing node above it; all of them get `permissions`. The new leaf has
 * `value`, the others are empty. The path must not exist.
 */
export function create(tree: Tree, path: string, value: Uint8Array, permissions: Permissions): Tree {
  const { path: above } = nearest(tree, path);
  const names = pathNames(path);
  const depth = pathNames(above).length;
  const owned = new Map(tree.owned);
  let made: Node = { value, children: new Map(), permissions, version: nextVersion() };
  addOwned(owned, permissions[0].domid, names.length - depth);
  for (let i = names.length - 1; i > depth; i--) {
    made = { value: EMPTY, children: new Map([[names[i], made]]), permissions, version: nextVersion() };
  }
  const root = rebuild(tree.root, names.slice(0, depth), 0, (node) => ({
    ...node,
    children: new Map(node.children).set(names[depth], made),
    version: nextVersion(),
  }));
  return { root, owned };
}

/** The tree without a node and everything below it. The node must exist and not be the root. */
export function remove(tree: Tree, path: string): Tree {
  const names = pathNames(path);
  const last = names.pop() as string;
  const owned = new Map(tree.owned);
  const root = rebuild(tree.root, names, 0, (node) => {
    const children = new Map(node.children);
    forEachNode(children.get(last) as Node, path, (gone) => {
      addOwned(owned, gone.permissions[0].domid, -1);
    });
    children.delete(last);
    return { ...node, children, version: nextVersion() };
  });
  return { root, owned };
}

/** Visits a node and everything below it, parents first. */
export function forEachNode(node: Node, path: string, visit: (node: Node, path: string) => void): void {
  visit(node, path);
  for (const [name, child] of node.children) forEachNode(child, path === '/' ? `/${name}` : `${path}/${name}`, visit);
}

/** Copies the nodes along a path, with the last replaced by `edit` of it. */
function rebuild(node: Node, names: readonly string[], depth: number, edit: (node: Node) => Node): Node {
  if (depth === names.length) return edit(node);
  const name = names[depth];
  const child = rebuild(node.children.get(name) as Node, names, depth + 1, edit);
  // The set of children is the same: the version stays.
  return { ...node, children: new Map(node.children).set(name, child) };
}

function addOwned(owned: Map<number, number>, domid: number, by: number): void {
  owned.set(domid, (owned.get(domid) ?? 0) + by);
}
