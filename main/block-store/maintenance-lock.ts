// SPDX-License-Identifier: MIT
// The advisory lock of a store's maintenance. It saves work: two processes that compact at once only forget or repeat something,
// since each writes new segments and removes old ones. So taking it over from a process that seems dead need not be free of races.
import { randomBytes } from 'node:crypto';
import type { StoreDirectory, StoreEnvironment } from './directory.ts';
import { LOCK_NAME } from './directory.ts';

/** A holder shows that it is alive more often than this. */
const STALE_MS = 10 * 60 * 1000;

/** The lock, while it is held. */
export class MaintenanceLock {
  readonly #directory: StoreDirectory;
  readonly #environment: StoreEnvironment;
  readonly #content: string;

  private constructor(directory: StoreDirectory, environment: StoreEnvironment, content: string) {
    this.#directory = directory;
    this.#environment = environment;
    this.#content = content;
  }

  /** Takes the lock; null when a living process has it. Throws the system's error when the directory cannot be written. */
  static acquire(directory: StoreDirectory, environment: StoreEnvironment): MaintenanceLock | null {
    const content = `${process.pid} ${randomBytes(8).toString('hex')}\n`;
    const lock = new MaintenanceLock(directory, environment, content);
    if (lock.#create()) return lock;
    if (!lock.#holderIsGone()) return null;
    lock.#breakOld();
    return lock.#create() ? lock : null;
  }

  /** Shows that the holder is alive. */
  refresh(): void {
    const { files, now } = this.#environment;
    try {
      files.utimesSync(this.#path, now() / 1000, now() / 1000);
    } catch {
      // Somebody has broken it; see above.
    }
  }

  release(): void {
    try {
      if (this.#environment.files.readFileSync(this.#path, 'latin1') !== this.#content) return;
    } catch {
      return;
    }
    this.#directory.remove(LOCK_NAME);
  }

  get #path(): string {
    return this.#directory.file(LOCK_NAME);
  }

  #create(): boolean {
    try {
      this.#environment.files.writeFileSync(this.#path, this.#content, { flag: 'wx', mode: 0o600 });
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
      throw error;
    }
  }

  #holderIsGone(): boolean {
    const { files, now } = this.#environment;
    try {
      if (Math.abs(now() - files.statSync(this.#path).mtimeMs) > STALE_MS) return true;
      const pid = Number(/^(\d+) /.exec(files.readFileSync(this.#path, 'latin1'))?.[1] ?? process.pid);
      process.kill(pid, 0);
      return false;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      return code === 'ESRCH' || code === 'ENOENT';
    }
  }

  /** By renaming first, only one of several processes removes this very lock. */
  #breakOld(): void {
    const broken = `${LOCK_NAME}.${randomBytes(8).toString('hex')}`;
    try {
      this.#environment.files.renameSync(this.#path, this.#directory.file(broken));
      this.#directory.remove(broken);
    } catch {
      // Another process broke it.
    }
  }
}
