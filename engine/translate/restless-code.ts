// SPDX-License-Identifier: MIT
// Code whose translations keep being dropped because it changes: it is left to the interpreter for a while, longer each time, until it comes to rest.

import { codeChunkShift } from '../cpu/layout.ts';

/** Changes after which code is left alone. */
const patience = 4;
/** The first pause; each further change doubles it, up to the longest. */
const firstPauseMs = 100;
const longestPauseMs = 10_000;
/** Code that has not changed for this long after its pause is like any other. */
const restMs = 5_000;
/** Stretches remembered: a guest that changes more of them than this starts afresh. */
const mostStretches = 16_384;

interface Changes {
  count: number;
  /** Until when nothing is translated, in the host's milliseconds. */
  until: number;
}

export class RestlessCode {
  /** By the stretch (see `codeChunkShift`) that translations begin in: a kernel that patches itself changes each place of a page but once. */
  private readonly stretches = new Map<number, Changes>();

  /** Translations that begin at these host addresses were dropped together, because some of their code changed. */
  changed(begins: readonly number[], nowMs: number): void {
    for (const stretch of new Set(begins.map((at) => at >>> codeChunkShift))) this.change(stretch, nowMs);
  }

  private change(stretch: number, nowMs: number): void {
    const known = this.stretches.get(stretch);
    if (known && nowMs < known.until + restMs) {
      known.count++;
      const pause = known.count < patience ? 0 : firstPauseMs * 2 ** Math.min(known.count - patience, 10);
      known.until = nowMs + Math.min(pause, longestPauseMs);
      return;
    }
    if (this.stretches.size >= mostStretches) this.stretches.clear();
    this.stretches.set(stretch, { count: 1, until: nowMs });
  }

  /** Whether code at a host address is not to be translated now. */
  isRestless(at: number, nowMs: number): boolean {
    const known = this.stretches.get(at >>> codeChunkShift);
    return known !== undefined && nowMs < known.until;
  }
}
