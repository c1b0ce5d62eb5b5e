// SPDX-License-Identifier: MIT
// Named counters of a domain: hypercalls, refusals, ring faults. Shown by `--stats` and the diagnostics page.

/** Counts events by name. Names are dotted paths such as `hypercall.mmu_update` or `store.ring-broken`. */
export class Counters {
  private readonly values = new Map<string, number>();

  /** Adds `by` (default 1) to the named counter. */
  count(name: string, by = 1): void {
    this.values.set(name, (this.values.get(name) ?? 0) + by);
  }

  /** The value of one counter; 0 when it was never counted. */
  get(name: string): number {
    return this.values.get(name) ?? 0;
  }

  /** A copy of all counters whose name begins with `prefix`. */
  snapshot(prefix = ''): Map<string, number> {
    const out = new Map<string, number>();
    for (const [name, value] of this.values) if (name.startsWith(prefix)) out.set(name, value);
    return out;
  }
}
