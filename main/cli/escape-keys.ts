// SPDX-License-Identifier: MIT
// The keys a console keeps for itself: Ctrl-] and a letter, everything else belongs to the guest.

const PREFIX = 0x1d; // Ctrl-]

/** Said when a console is attached to a terminal. */
export const ESCAPE_KEYS_HELP = 'Ctrl-] d detaches, Ctrl-] p asks the guest to power off, Ctrl-] q powers off by force';

export type ConsoleAction =
  | { type: 'input'; bytes: Uint8Array }
  | { type: 'detach' }
  | { type: 'powerOff' }
  | { type: 'force' }
  | { type: 'help' };

/** Separates typed bytes into guest input and actions; a prefix may end one read and its letter begin the next. */
export class EscapeKeys {
  #afterPrefix = false;

  feed(bytes: Uint8Array): ConsoleAction[] {
    const actions: ConsoleAction[] = [];
    let from = 0;
    const inputUpTo = (end: number): void => {
      if (end > from) actions.push({ type: 'input', bytes: bytes.subarray(from, end) });
    };
    for (let i = 0; i < bytes.length; i++) {
      if (!this.#afterPrefix) {
        if (bytes[i] !== PREFIX) continue;
        inputUpTo(i);
        from = i + 1;
        this.#afterPrefix = true;
        continue;
      }
      this.#afterPrefix = false;
      // Typed twice, the prefix itself goes to the guest: `from` already points at the second one.
      if (bytes[i] === PREFIX) continue;
      from = i + 1;
      switch (String.fromCharCode(bytes[i]).toLowerCase()) {
        case 'd':
          actions.push({ type: 'detach' });
          break;
        case 'p':
          actions.push({ type: 'powerOff' });
          break;
        case 'q':
          actions.push({ type: 'force' });
          break;
        default:
          actions.push({ type: 'help' });
      }
    }
    inputUpTo(bytes.length);
    return actions;
  }
}
