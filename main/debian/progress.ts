// SPDX-License-Identifier: MIT
// Progress of long steps, for people: one line that updates on a terminal, plain lines elsewhere.

export interface Progress {
  /** Ends downloads when it is aborted. */
  signal?: AbortSignal;
  /** A step that has begun, or a remark. */
  say(text: string): void;
  /** A transfer of `total` bytes (0 = unknown). */
  transfer(name: string, total: number): { at(bytes: number): void; done(): void };
}

/** Progress that is not shown. */
export const silentProgress: Progress = {
  say: () => undefined,
  transfer: () => ({ at: () => undefined, done: () => undefined }),
};

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

/** Progress on standard error. */
export const stderrProgress: Progress = {
  say: (text) => process.stderr.write(`${text}\n`),
  transfer(name, total) {
    const { isTTY } = process.stderr;
    if (!isTTY) process.stderr.write(`downloading ${name}${total > 0 ? ` (${megabytes(total)})` : ''}\n`);
    return {
      at(bytes) {
        const part = total > 0 ? ` ${megabytes(bytes)} of ${megabytes(total)}` : ` ${megabytes(bytes)}`;
        if (isTTY) process.stderr.write(`\r\x1b[Kdownloading ${name}${part}`);
      },
      done() {
        if (isTTY) process.stderr.write(`\r\x1b[Kdownloaded ${name}\n`);
      },
    };
  },
};
