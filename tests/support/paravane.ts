// SPDX-License-Identifier: MIT
// Runs the command line in tests: as a user would, in a runtime directory of its own, with pipes or on a terminal.
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const launcher = path.join(root, 'main/cli/paravane.js');
const fakeMachine = path.join(root, 'tests/support/fake-machine.ts');

/**
 * Environment in which the user's shell is one that reads no file of the user's: startup files may take locks, wait for the network, or be
 * anything else, and tests end shells in the middle of it.
 */
export const PLAIN_SHELL: NodeJS.ProcessEnv = { SHELL: '/bin/sh', ENV: undefined };

export interface FinishedCommand {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** A command that has been started. */
export class RunningCommand {
  readonly child: ChildProcess;
  readonly finished: Promise<FinishedCommand>;
  stdout = '';
  stderr = '';
  readonly #listeners = new Set<() => void>();

  constructor(child: ChildProcess) {
    this.child = child;
    const changed = (): void => this.#listeners.forEach((listener) => listener());
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
      changed();
    });
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
      changed();
    });
    child.stdin!.on('error', () => undefined);
    this.finished = new Promise((resolve) => {
      child.on('close', (code, signal) => resolve({ code, signal, stdout: this.stdout, stderr: this.stderr }));
    });
  }

  type(text: string): void {
    this.child.stdin!.write(text);
  }

  /** Waits until what was written so far (standard output and error together) matches. */
  until(pattern: RegExp, timeoutMs = 15_000): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = (settle: () => void): void => {
        clearTimeout(timer);
        this.#listeners.delete(check);
        settle();
      };
      const check = (): void => {
        if (pattern.test(this.stdout + this.stderr)) done(resolve);
      };
      const timer = setTimeout(
        () => done(() => reject(new Error(`no ${pattern} within ${timeoutMs} ms in:\n${this.stdout}\n${this.stderr}`))),
        timeoutMs,
      );
      this.#listeners.add(check);
      check();
    });
  }
}

/** A place to run commands in: its runtime directory is seen by no other test. */
export class CommandLine {
  readonly runtimeDirectory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-run-'));
  readonly dataDirectory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-data-'));
  readonly environment: NodeJS.ProcessEnv;
  /** Whom commands run as; undefined: as the tests. */
  readonly #user: number | undefined;

  /** `machine`: the fake one of these tests, or the engine. */
  constructor(machine: 'fake' | 'engine', user?: number) {
    this.#user = user;
    if (user !== undefined) {
      const { error } = spawnSync(process.execPath, ['--version'], { uid: user, gid: user });
      if (error !== undefined)
        throw new Error(
          `User ${user} cannot run ${process.execPath}: these tests need a checkout that others may enter.`,
        );
      for (const one of [this.runtimeDirectory, this.dataDirectory]) fs.chownSync(one, user, user);
    }
    const { PARAVANE_TEST_MACHINE: _, ...inherited } = process.env;
    this.environment = {
      ...inherited,
      ...PLAIN_SHELL,
      PARAVANE_RUNTIME_DIR: this.runtimeDirectory,
      PARAVANE_DATA: this.dataDirectory,
      ...(machine === 'fake' && { PARAVANE_TEST_MACHINE: fakeMachine }),
      ...(user !== undefined && { HOME: this.dataDirectory }),
    };
  }

  start(...args: string[]): RunningCommand {
    const as = this.#user === undefined ? {} : { uid: this.#user, gid: this.#user };
    return new RunningCommand(
      spawn(process.execPath, [launcher, ...args], { env: this.environment, cwd: root, ...as }),
    );
  }

  /** Starts the command on a pseudo-terminal of 100 x 30 made by `script` (util-linux); its output has both streams in one. */
  startOnTerminal(...args: string[]): RunningCommand {
    const quoted = [process.execPath, launcher, ...args].map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
    const command = `stty cols 100 rows 30; exec ${quoted}`;
    return new RunningCommand(spawn('script', ['-qefc', command, '/dev/null'], { env: this.environment, cwd: root }));
  }

  /** Runs a command to its end with empty standard input. */
  run(...args: string[]): Promise<FinishedCommand> {
    const command = this.start(...args);
    command.child.stdin!.end();
    return command.finished;
  }

  /** Ends whatever still runs and removes the directory. */
  dispose(): void {
    for (const entry of this.entries()) {
      try {
        process.kill(entry.pid, 'SIGKILL');
      } catch {
        // Already gone.
      }
    }
    for (const directory of [this.runtimeDirectory, this.dataDirectory])
      fs.rmSync(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }

  /** The announced VMs. One may end, and take back what it announced, while they are read. */
  entries(): { id: string; name: string; pid: number }[] {
    return fs
      .readdirSync(this.runtimeDirectory)
      .filter((file) => file.endsWith('.json'))
      .flatMap((file) => {
        const at = path.join(this.runtimeDirectory, file);
        try {
          return [JSON.parse(fs.readFileSync(at, 'utf8'))];
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
          throw error;
        }
      });
  }
}

/** Resolves when `condition` holds. */
export async function eventually(condition: () => boolean, what: string, timeoutMs = 15_000): Promise<void> {
  const end = Date.now() + timeoutMs;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Whether the process runs: one that has ended may stay in the table until somebody asks how. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !/^\d+ \(.*\) Z/s.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

/** CPU time of a process in seconds (Linux: fields 14 and 15 of /proc/PID/stat, in ticks of 10 ms). */
export function cpuSeconds(pid: number): number {
  const fields = fs
    .readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
