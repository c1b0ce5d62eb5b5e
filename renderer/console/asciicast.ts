// SPDX-License-Identifier: MIT
// Records a console as an asciicast, version 2 (docs.asciinema.org/manual/asciicast/v2): a header line and one line per event.

export interface Size {
  columns: number;
  rows: number;
}

export class AsciicastRecorder {
  readonly startedAt: number;
  readonly title: string;
  /** Characters so far. */
  length = 0;
  readonly #lines: string[];
  readonly #now: () => number;
  /** Characters may be split between two pieces of output. */
  readonly #decoder = new TextDecoder();

  constructor(title: string, size: Size, now: () => number = Date.now) {
    this.#now = now;
    this.title = title;
    this.startedAt = now();
    const header = {
      version: 2,
      width: size.columns,
      height: size.rows,
      timestamp: Math.floor(this.startedAt / 1000),
      title,
    };
    this.#lines = [JSON.stringify(header)];
  }

  output(bytes: Uint8Array<ArrayBuffer>): void {
    const text = this.#decoder.decode(bytes, { stream: true });
    if (text !== '') this.#event('o', text);
  }

  resized(size: Size): void {
    this.#event('r', `${size.columns}x${size.rows}`);
  }

  finish(): string {
    return `${this.#lines.join('\n')}\n`;
  }

  #event(code: 'o' | 'r', data: string): void {
    const seconds = (this.#now() - this.startedAt) / 1000;
    const line = JSON.stringify([Number(seconds.toFixed(6)), code, data]);
    this.#lines.push(line);
    this.length += line.length + 1;
  }
}
