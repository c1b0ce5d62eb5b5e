// SPDX-License-Identifier: MIT
// Where windows were: kept between starts, and used only where a window would still be seen.
import * as fs from 'node:fs';
import * as path from 'node:path';
import * as v from 'valibot';
import { writeFileAtomically } from '../vm/atomic-file.ts';

const pixels = v.pipe(v.number(), v.integer(), v.minValue(-100_000), v.maxValue(100_000));
const bounds = v.strictObject({ x: pixels, y: pixels, width: pixels, height: pixels });
const windowState = v.strictObject({ bounds, maximized: v.boolean() });
const stateFile = v.strictObject({ version: v.literal(1), windows: v.record(v.string(), windowState) });

export type Bounds = v.InferOutput<typeof bounds>;
export type WindowState = v.InferOutput<typeof windowState>;

/** So much of a window must be on some display for it to be placed there; the title bar has to be within reach. */
const SEEN_WIDTH = 120;
const SEEN_HEIGHT = 40;
/** Windows of machines that are long gone need not be kept for ever. */
const KEPT = 64;

export class WindowStates {
  readonly #file: string;
  readonly #states: Map<string, WindowState>;

  /** A file that cannot be read costs nobody more than a window in its default place. */
  constructor(directory: string) {
    this.#file = path.join(directory, 'windows.json');
    this.#states = new Map(Object.entries(read(this.#file)));
  }

  /** Where the window with this name is to be; null: wherever the system puts it. `displays` are the work areas there are. */
  get(name: string, displays: readonly Bounds[]): WindowState | null {
    const state = this.#states.get(name);
    return state !== undefined && displays.some((display) => isSeen(state.bounds, display)) ? state : null;
  }

  /** Throws nothing: a window's place is not worth an error. */
  keep(name: string, state: WindowState): void {
    this.#states.delete(name);
    this.#states.set(name, state);
    for (const oldest of [...this.#states.keys()].slice(0, -KEPT)) this.#states.delete(oldest);
    try {
      const windows = Object.fromEntries(this.#states);
      writeFileAtomically(this.#file, `${JSON.stringify({ version: 1, windows })}\n`, { durable: false });
    } catch {
      // It is tried again with the next change.
    }
  }
}

function read(file: string): Record<string, WindowState> {
  try {
    const result = v.safeParse(stateFile, JSON.parse(fs.readFileSync(file, 'utf8')));
    return result.success ? result.output.windows : {};
  } catch {
    return {};
  }
}

function isSeen(window: Bounds, display: Bounds): boolean {
  const right = Math.min(window.x + window.width, display.x + display.width);
  const width = right - Math.max(window.x, display.x);
  const top = window.y - display.y;
  return width >= SEEN_WIDTH && top >= -SEEN_HEIGHT / 2 && top <= display.height - SEEN_HEIGHT;
}
