// SPDX-License-Identifier: MIT
// Terminals of machines that stay while they are not shown, a few of them: what they show comes from the manager again when it is wanted.

/** What is kept: something that is on the screen now, or may be disposed of. */
export interface Kept {
  /** It must stay. */
  readonly needed: boolean;
  dispose(): void;
}

export class KeptSessions<T extends Kept> {
  readonly #limit: number;
  readonly #make: (machine: string) => T;
  /** Latest last, so that the first is the one longest unused. */
  readonly #sessions = new Map<string, T>();

  /** Keeps `limit` at most, and more only while all of them are needed. */
  constructor(limit: number, make: (machine: string) => T) {
    this.#limit = limit;
    this.#make = make;
  }

  /** The machine's session, made when it is first wanted. */
  of(machine: string): T {
    const session = this.#sessions.get(machine) ?? this.#made(machine);
    this.#sessions.delete(machine);
    this.#sessions.set(machine, session);
    return session;
  }

  #made(machine: string): T {
    for (const [id, session] of this.#sessions) {
      if (this.#sessions.size < this.#limit) break;
      if (session.needed) continue;
      session.dispose();
      this.#sessions.delete(id);
    }
    return this.#make(machine);
  }
}
