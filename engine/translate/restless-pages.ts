// SPDX-License-Identifier: MIT
// Pages whose translated code keeps changing: they are left to the interpreter for a while, longer each time, until they come to rest.

/** Changes after which a page is left alone. */
const patience = 4;
/** The first pause; each further change doubles it, up to the longest. */
const firstPauseMs = 100;
const longestPauseMs = 10_000;
/** A page that has not changed for this long after its pause is like any other. */
const restMs = 5_000;
/** Pages remembered: a guest that changes more of them than this starts afresh. */
const mostPages = 4096;

interface Changes {
  count: number;
  /** Until when nothing is translated, in the host's milliseconds. */
  until: number;
}

export class RestlessPages {
  private readonly pages = new Map<number, Changes>();

  /** Translated code in the frame at a host address was dropped because it changed. */
  changed(page: number, nowMs: number): void {
    const known = this.pages.get(page);
    if (known && nowMs < known.until + restMs) {
      known.count++;
      const pause = known.count < patience ? 0 : firstPauseMs * 2 ** Math.min(known.count - patience, 10);
      known.until = nowMs + Math.min(pause, longestPauseMs);
      return;
    }
    if (this.pages.size >= mostPages) this.pages.clear();
    this.pages.set(page, { count: 1, until: nowMs });
  }

  /** Whether code in the frame is not to be translated now. */
  isRestless(page: number, nowMs: number): boolean {
    const known = this.pages.get(page);
    return known !== undefined && nowMs < known.until;
  }
}
