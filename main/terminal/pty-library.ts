// SPDX-License-Identifier: MIT
// The door to node-pty, which makes pseudo-terminals: compiled when the packages are installed, and absent where that was not possible.
import { pvError } from '../../engine/errors.ts';

/** A program in a terminal of its own. With `encoding: null` output comes as bytes. */
export interface PtyProcess {
  readonly pid: number;
  onData(listener: (bytes: Buffer) => void): void;
  onExit(listener: (end: { exitCode: number; signal?: number }) => void): void;
  write(bytes: Buffer): void;
  resize(columns: number, rows: number): void;
  pause(): void;
  resume(): void;
  /** Unix only; on Windows the program is ended at once. */
  kill(signal?: string): void;
}

export interface PtyOptions {
  name: string;
  cols: number;
  rows: number;
  cwd: string;
  env: Record<string, string>;
  encoding: null;
}

/** The parts of node-pty that are used; its own types are not there when it is not. */
export interface PtyLibrary {
  spawn(file: string, args: string[], options: PtyOptions): PtyProcess;
  /** Unix only: both ends of a new pseudo-terminal as descriptors that never block, and the path of the far end. */
  readonly native: { open(columns: number, rows: number): { master: number; slave: number; pty: string } } | null;
}

/** A variable, so that neither the type checker nor a bundler demands what is optional. */
const PACKAGE: string = 'node-pty';

/** Loads node-pty. Rejects with `pty-missing`. */
export async function loadPtyLibrary(): Promise<PtyLibrary> {
  try {
    const { default: library } = (await import(PACKAGE)) as { default: PtyLibrary };
    return library;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const detail = code === 'ERR_MODULE_NOT_FOUND' ? 'node-pty is not installed' : message.split('\n')[0];
    throw pvError('pty-missing', { detail }, error);
  }
}
