// SPDX-License-Identifier: MIT
// Marks in a console's input: whoever sets one hears when the guest has taken everything before it.

export class InputMarks {
  readonly #settle = new Map<number, () => void>();
  #next = 1;

  /** Sends a mark; resolves when it comes back or `allTaken` is called, rejects with the reason of `signal`. */
  async set(send: (id: number) => void, signal: AbortSignal): Promise<void> {
    const id = this.#next++;
    try {
      await new Promise<void>((resolve, reject) => {
        this.#settle.set(id, resolve);
        signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
        send(id);
      });
    } finally {
      this.#settle.delete(id);
    }
  }

  /** The VM says that a mark was reached. */
  taken(id: number): void {
    this.#settle.get(id)?.();
  }

  /** There is nobody to take anything any more. */
  allTaken(): void {
    for (const settle of [...this.#settle.values()]) settle();
  }
}
