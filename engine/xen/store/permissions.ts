// SPDX-License-Identifier: MIT
// Permissions of xenstore nodes: an owner, a default, and a list of exceptions per domain (docs/misc/xenstore.txt).

import { StoreError } from './wire.ts';

/** Access letters on the wire: none, read, write, both. */
type Letter = 'n' | 'r' | 'w' | 'b';

/** One entry. The first of a node names its owner and gives the access of everybody not listed further on. */
export interface Permission {
  readonly letter: Letter;
  readonly domid: number;
}
export type Permissions = readonly [Permission, ...Permission[]];

/** Access bits. */
export const READ = 1;
export const WRITE = 2;

const BITS: Record<Letter, number> = { n: 0, r: READ, w: WRITE, b: READ | WRITE };

/** What `domid` may do with a node; the control domain and the owner may do everything. */
export function accessOf(permissions: Permissions, domid: number): number {
  if (domid === 0 || permissions[0].domid === domid) return READ | WRITE;
  const entry = permissions.find((p, i) => i > 0 && p.domid === domid) ?? permissions[0];
  return BITS[entry.letter];
}

/** Reads entries such as "n0", "r1". EINVAL for anything else, or for none at all. */
export function parsePermissions(texts: readonly string[]): Permissions {
  const list = texts.map((text): Permission => {
    const match = /^([nrwb])(\d{1,5})$/.exec(text);
    const domid = match === null ? 0x10000 : Number(match[2]);
    if (match === null || domid > 0xffff) throw new StoreError('EINVAL', `bad permission "${text}"`);
    return { letter: match[1] as Letter, domid };
  });
  const [first, ...rest] = list;
  if (first === undefined) throw new StoreError('EINVAL', 'no permissions');
  return [first, ...rest];
}

/** The entries as they travel. */
export function formatPermissions(permissions: Permissions): string[] {
  return permissions.map((p) => `${p.letter}${String(p.domid)}`);
}

/** Permissions of a node that a domain creates: the parent's, but an ordinary domain owns what it makes. */
export function inheritPermissions(parent: Permissions, creator: number): Permissions {
  if (creator === 0) return parent;
  const [first, ...rest] = parent;
  return [{ letter: first.letter, domid: creator }, ...rest];
}
