// SPDX-License-Identifier: MIT
// What the window speaks through: the contract's Connection, plus whether it is there at the moment.
import type { Connection } from '../../main/contract/wire.ts';

/** refused: the manager answers but does not accept this page's key; trying again is of no use. */
export type LinkStatus = 'connecting' | 'open' | 'lost' | 'refused';

export interface Link extends Connection {
  readonly status: LinkStatus;
  /** Calls `listener` at every change; returns a function that ends it. */
  onStatus(listener: (status: LinkStatus) => void): () => void;
  /** Tries to connect at once instead of at the next turn. */
  retry(): void;
}
