// SPDX-License-Identifier: MIT
// Questions that programs ask their terminal (where is the cursor? what are you? which colours?), which xterm.js answers by sending input.
// Such answers must be told from what is typed: they are given once, not by each window, and never to a question of the past.
import type { IFunctionIdentifier, IParser } from '@xterm/xterm';

/** DSR, DA1 to DA3, DECRQM and XTVERSION; those that report on the window are off by default. */
const SEQUENCES: readonly IFunctionIdentifier[] = [
  { final: 'n' },
  { prefix: '?', final: 'n' },
  { final: 'c' },
  { prefix: '>', final: 'c' },
  { prefix: '=', final: 'c' },
  { prefix: '>', final: 'q' },
  { intermediates: '$', final: 'p' },
  { prefix: '?', intermediates: '$', final: 'p' },
];
/** Colours, asked for with a question mark in place of a value. */
const COLOURS = [4, 10, 11, 12];

/** Watches the parser of one terminal. */
export class Questions {
  /** While true, nothing is answered. */
  silent = false;
  #answering = false;

  constructor(parser: IParser) {
    // Handlers are called in the order last to first; `true` means that nothing else needs to be done.
    for (const id of SEQUENCES) parser.registerCsiHandler(id, () => this.#asked());
    parser.registerDcsHandler({ intermediates: '$', final: 'q' }, () => this.#asked());
    for (const id of COLOURS) parser.registerOscHandler(id, (data) => data.includes('?') && this.#asked());
  }

  /** Is what the terminal sends at this moment an answer? */
  get answering(): boolean {
    return this.#answering;
  }

  #asked(): boolean {
    if (this.silent) return true;
    this.#answering = true;
    // Answers are given while the piece of output with the question is taken; nobody can type in between.
    queueMicrotask(() => (this.#answering = false));
    return false;
  }
}
