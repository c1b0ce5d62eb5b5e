// SPDX-License-Identifier: MIT
// A file system whose computer can stop at any call and at any byte of a write, and then forgets what was not flushed. It stands in for the
// functions of node:fs that the library writes with.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import * as path from 'node:path';

/** Thrown by the call that the crash hits, and by every later one: the program is no more. */
export class Crash extends Error {}

/** Where to stop: before the call number `call` (from 0), or in it, after `bytes` bytes of what it writes. */
export interface CrashPoint {
  call: number;
  bytes?: number;
}

/** Functions that change something, as far as the library uses them, and the one that opens. */
const REPLACED = ['openSync', 'writeFileSync', 'fsyncSync', 'renameSync', 'linkSync', 'mkdirSync', 'rmSync'] as const;
type Fs = typeof fs;

/** What a power cut undoes. */
interface Unsynced {
  /** Files with content that was not flushed. */
  readonly files: Set<string>;
  /** Renames whose directories were not flushed, oldest first, and what each replaced. */
  renames: { from: string; to: string; replaced: Buffer | null }[];
}

export class CrashingDisk {
  /** Calls that changed something so far; what each did, for messages. */
  readonly calls: { what: string; bytes: number }[] = [];
  readonly #point: CrashPoint | null;
  readonly #real: Fs = Object.fromEntries(REPLACED.map((name) => [name, fs[name]])) as unknown as Fs;
  readonly #unsynced: Unsynced = { files: new Set(), renames: [] };
  readonly #paths = new Map<number, string>();
  #crashed = false;

  constructor(point: CrashPoint | null) {
    this.#point = point;
  }

  get crashed(): boolean {
    return this.#crashed;
  }

  /** Runs `work` on this disk. */
  async run(work: () => unknown): Promise<void> {
    this.#install();
    try {
      await work();
    } catch (error) {
      if (!this.#crashed) throw error;
    } finally {
      for (const name of REPLACED) (fs as unknown as Record<string, unknown>)[name] = this.#real[name];
      syncBuiltinESMExports();
    }
  }

  /** The power was cut as well: what was not flushed is gone. */
  cutPower(): void {
    for (const { from, to, replaced } of this.#unsynced.renames.reverse()) {
      if (!fs.existsSync(to)) continue;
      fs.renameSync(to, from);
      if (replaced !== null) fs.writeFileSync(to, replaced);
    }
    for (const file of this.#unsynced.files) if (fs.existsSync(file)) fs.truncateSync(file, 0);
  }

  /** Counts a call; says how many of `bytes` bytes it still writes before the crash, or null when it does all. */
  #enter(what: string, bytes = 0): number | null {
    if (this.#crashed) throw new Crash(what);
    const number = this.calls.length;
    this.calls.push({ what, bytes });
    if (this.#point?.call !== number) return null;
    this.#crashed = true;
    return this.#point.bytes ?? 0;
  }

  #install(): void {
    const real = this.#real;
    const { files } = this.#unsynced;
    const stopped = (what: string): void => {
      if (this.#enter(what) !== null) throw new Crash(what);
    };
    const fake: Pick<Fs, (typeof REPLACED)[number]> = {
      openSync: (file, flags, mode) => {
        const writes = typeof flags === 'string' && flags !== 'r';
        if (writes) stopped(`open ${path.basename(String(file))}`);
        else if (this.#crashed) throw new Crash('open');
        const descriptor = real.openSync(file, flags, mode);
        this.#paths.set(descriptor, String(file));
        return descriptor;
      },
      writeFileSync: ((target: number, content: string | Uint8Array) => {
        const bytes = Buffer.from(content as Uint8Array);
        const file = this.#paths.get(target)!;
        const written = this.#enter(`write ${path.basename(file)}`, bytes.length);
        files.add(file);
        real.writeFileSync(target, written === null ? bytes : bytes.subarray(0, written));
        if (written !== null) throw new Crash('write');
      }) as Fs['writeFileSync'],
      fsyncSync: (descriptor) => {
        const file = this.#paths.get(descriptor)!;
        stopped(`sync ${path.basename(file)}`);
        files.delete(file);
        this.#unsynced.renames = this.#unsynced.renames.filter(({ to }) => path.dirname(to) !== file);
      },
      renameSync: (from, to) => {
        stopped(`rename ${path.basename(String(from))} to ${path.basename(String(to))}`);
        const [source, target] = [String(from), String(to)];
        const status = fs.statSync(target, { throwIfNoEntry: false });
        const replaced = status?.isFile() ? fs.readFileSync(target) : null;
        real.renameSync(from, to);
        this.#unsynced.renames.push({ from: source, to: target, replaced });
        if (files.delete(source)) files.add(target);
      },
      linkSync: (from, to) => {
        stopped(`link ${path.basename(String(to))}`);
        real.linkSync(from, to);
      },
      mkdirSync: ((directory: string, options: object) => {
        stopped(`make ${path.basename(directory)}`);
        return real.mkdirSync(directory, options);
      }) as Fs['mkdirSync'],
      rmSync: (file, options) => {
        stopped(`remove ${path.basename(String(file))}`);
        real.rmSync(file, options);
      },
    };
    Object.assign(fs, fake);
    syncBuiltinESMExports();
  }
}
