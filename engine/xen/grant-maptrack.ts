// SPDX-License-Identifier: MIT
// Handles of a guest's own grant mappings (GNTTABOP_map_grant_ref returns one, unmap takes it).

/** One mapping: which entry it pinned and how. */
export interface GrantMapping {
  readonly ref: number;
  readonly mfn: number;
  /** GNTMAP_* flags; device_map and host_map are cleared as those halves are unmapped. */
  flags: number;
}

/** Mappings a guest may hold at once; it only maps its own grants, so this is generous. */
const MAX_HANDLES = 16384;

/** The table from handle to mapping. Freed handles are reused. */
export class GrantMaptrack {
  private readonly slots: (GrantMapping | undefined)[] = [];
  private readonly free: number[] = [];

  /** Whether no further mapping can be tracked. */
  get full(): boolean {
    return this.free.length === 0 && this.slots.length >= MAX_HANDLES;
  }

  /** Stores a mapping and returns its handle (>= 0). */
  add(mapping: GrantMapping): number {
    const handle = this.free.pop() ?? this.slots.length;
    this.slots[handle] = mapping;
    return handle;
  }

  /** The mapping of a handle, if it is in use. */
  get(handle: number): GrantMapping | undefined {
    return this.slots[handle];
  }

  /** Frees a handle in use. */
  remove(handle: number): void {
    this.slots[handle] = undefined;
    this.free.push(handle);
  }
}
