// SPDX-License-Identifier: MIT
// TLB tags of address spaces: one per root and privilege, with those used lately where generated code finds them (ST.rootTags).

import { RootTags, ST } from './layout.ts';
import type { MachineMemory } from './memory.ts';

/** In ST.rootMfn and ST.rootTags: no frame. */
export const noRoot = 0xffffffff;

/** Number of tags given out before all are taken back (12 bits, the last means "invalid"). */
const maxTag = 0xffe;
const wordsPerEntry = RootTags.entryBytes / 4;
const wordsPerSet = RootTags.ways * wordsPerEntry;

export class TlbTags {
  private readonly u32: Uint32Array;
  /** Index of ST.rootTags in the u32 view. */
  private readonly table: number;
  private readonly tags = new Map<number, number>();
  private next = 1;

  constructor(mem: MachineMemory, base: number) {
    this.u32 = mem.u32;
    this.table = (base + ST.rootTags) >>> 2;
    this.restart();
  }

  /** The tag of a root at CPL 3 or another level; 0 when all have been given out: empty the TLBs, `restart` and ask again. */
  of(root: number, isUser: boolean): number {
    const key = root * 2 + (isUser ? 1 : 0);
    let tag = this.tags.get(key);
    if (tag === undefined) {
      if (this.next > maxTag) return 0;
      tag = this.next++;
      this.tags.set(key, tag);
    }
    if (isUser) this.publish(root, tag);
    return tag;
  }

  /** The frame is a root no longer: its tags never match again. */
  forget(root: number): void {
    this.tags.delete(root * 2);
    this.tags.delete(root * 2 + 1);
    const set = this.setOf(root);
    for (let at = set; at < set + wordsPerSet; at += wordsPerEntry) if (this.u32[at] === root) this.u32[at] = noRoot;
  }

  /** No root has a tag any more: each gets a new one. */
  forgetAll(): void {
    this.tags.clear();
    this.u32.fill(noRoot, this.table, this.table + RootTags.sets * wordsPerSet);
  }

  /** Takes all tags back; the TLBs must be empty. */
  restart(): void {
    this.forgetAll();
    this.next = 1;
  }

  /** The first way is the one used last. */
  private publish(root: number, tag: number): void {
    const { u32 } = this;
    const set = this.setOf(root);
    if (u32[set] === root) return;
    u32.copyWithin(set + wordsPerEntry, set, set + wordsPerSet - wordsPerEntry);
    u32[set] = root;
    u32[set + 1] = tag;
  }

  private setOf(root: number): number {
    return this.table + (root & (RootTags.sets - 1)) * wordsPerSet;
  }
}
