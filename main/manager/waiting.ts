// SPDX-License-Identifier: MIT
// Those who wait for something to become true, looked at whenever something has changed.

export class Waiting {
  readonly #checks = new Set<() => void>();

  /** Something has changed. */
  look(): void {
    for (const check of [...this.#checks]) check();
  }

  /** Resolves when `condition` holds, looked at now and at every change; rejects with what `late` makes after `milliseconds`. */
  until(condition: () => boolean, milliseconds: number, late: () => Error): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = (settle: () => void): void => {
        clearTimeout(timer);
        this.#checks.delete(check);
        settle();
      };
      const check = (): void => {
        if (condition()) done(resolve);
      };
      const timer = setTimeout(() => done(() => reject(late())), milliseconds);
      this.#checks.add(check);
      check();
    });
  }

  /** Nobody is looked after any more. */
  forget(): void {
    this.#checks.clear();
  }
}
