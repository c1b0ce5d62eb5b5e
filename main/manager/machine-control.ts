// SPDX-License-Identifier: MIT
// One machine's life: its state, its VM process, its console, and the verbs that change them.
import { setTimeout as sleep } from 'node:timers/promises';
import { PvError, pvError } from '../../engine/errors.ts';
import type { ErrorReport } from '../contract/errors.ts';
import type { LibraryMachine } from '../library/library.ts';
import { isLocked } from '../library/machine-folder.ts';
import { STOP_SECONDS } from '../contract/machine.ts';
import type { MachineActivity, MachineState, StopAsked } from '../contract/machine.ts';
import type { MachineEvent } from '../contract/metrics.ts';
import type { LogLine } from '../vm/machine-log.ts';
import type { VmOutcome } from '../vm/outcome.ts';
import type { ConsoleSize, VmMessage } from '../vm/protocol.ts';
import { keepLogLine, startOptionsOf } from './machine-run.ts';
import { readRunRecord } from '../vm/read-run-record.ts';
import { writeRunRecord } from '../vm/run-record.ts';
import { removeEntry } from '../vm/runtime-directory.ts';
import type { VmEntry, VmIdentity } from '../vm/runtime-directory.ts';
import { startVmProcess } from '../vm/start.ts';
import type { VmChild } from '../vm/vm-child.ts';
import { ratesBetween } from '../metrics/rates.ts';
import type { Totals } from '../metrics/rates.ts';
import type { Values } from '../metrics/ring-file.ts';
import { ConsoleFeed } from './console-feed.ts';
import { consoleFilePath, restoreConsole, saveConsole } from './console-file.ts';
import { exitOf } from './child-exit.ts';
import type { ControlEvents } from './control-events.ts';
import { crashOf, runOutcomeOf } from './endings.ts';
import { InputMarks } from './input-marks.ts';
import { endOfLostRun, readPastRun } from './past-run.ts';
import { StopRequest } from './stop-request.ts';
import { isOver, next, notPossible } from './transitions.ts';
import { Waiting } from './waiting.ts';
import type { Happening } from './transitions.ts';
import { VmLink } from './vm-link.ts';
import type { VmLinkEvents } from './vm-link.ts';

/** How long a VM process may take over a verb before it counts as silent. */
const ANSWER_MS = 3000;
/** A guest has to be unpacked and built before it runs. */
const START_MS = 60_000;
/** A lost connection to a process that lives is made again, this often and at these intervals. */
const [RECONNECT_ATTEMPTS, RECONNECT_MS] = [20, 100];

export class MachineControl {
  readonly id: string;
  readonly console: ConsoleFeed;
  /** As the library has it; replaced when it changes. */
  machine: LibraryMachine;
  since: number | null = null;
  activity: MachineActivity | null = null;
  problem: PvError | null = null;
  /** False while the machine runs where this manager cannot reach it. */
  available = true;
  startedAt: number | null = null;
  size: ConsoleSize | null = null;
  totals: Totals | null = null;
  latest: { at: number; values: Values } | null = null;
  pid: number | null = null;
  /** Pseudo-terminal of the console, and why there is none although it is wanted. */
  pty: string | null = null;
  ptyProblem: ErrorReport | null = null;
  #state: MachineState = 'off';
  readonly #events: ControlEvents;
  #link: VmLink | null = null;
  #child: VmChild | null = null;
  #identity: VmIdentity | null = null;
  #released = false;
  #ended: VmOutcome | null = null;
  /** The guest count of the process; a higher one tells of a reset. */
  #guest = 0;
  #everRan = false;
  readonly #stop = new StopRequest();
  readonly #waiting = new Waiting();
  readonly #inputMarks = new InputMarks();

  constructor(machine: LibraryMachine, events: ControlEvents) {
    this.id = machine.id;
    this.machine = machine;
    this.#events = events;
    this.console = new ConsoleFeed(machine.id, (hold) => this.#link?.setReading(!hold));
    this.#readPast();
  }

  /** Is there a guest to talk to? */
  get live(): boolean {
    return this.#link !== null;
  }

  get state(): MachineState {
    return this.#state;
  }

  /** What the guest was asked, while somebody waits for it to stop. */
  get stopAsked(): StopAsked | null {
    return this.#stop.asked;
  }

  get name(): string {
    return this.machine.file.configuration.name;
  }

  /** How a machine that is not known to run stands by its records. */
  #readPast(): void {
    const { state, ...rest } = readPastRun(this.name, this.machine.folder);
    this.#state = state;
    Object.assign(this, rest);
    if (this.available) restoreConsole(this.consoleFile, this.console);
  }

  /** The state after `happening`; throws `machine-state` when the table has no way there. */
  #enter(happening: Happening, verb = happening as string): void {
    const state = next(this.state, happening);
    if (state === null) throw notPossible(this.name, this.state, verb);
    if (state !== this.#state) this.since = Date.now();
    this.#state = state;
  }

  /** Throws `machine-state` or `machine-locked` when a verb is not possible now. */
  require(happening: Happening, verb: string): void {
    if (!this.available) throw this.problem!;
    if (next(this.state, happening) === null) throw notPossible(this.name, this.state, verb);
  }

  /** Throws unless the machine is off or crashed: only then may its folder be touched. `verb` is "be moved". */
  requireStill(verb: string): void {
    if (!this.available) throw this.problem!;
    if (!isOver(this.state)) throw notPossible(this.name, this.state, verb);
  }

  #changed(): void {
    this.#events.changed(this);
    this.#waiting.look();
  }

  /** Its process is this manager's child. */
  get startedHere(): boolean {
    return this.#child !== null;
  }

  /** Resolves when `condition` holds, checked at every change; rejects with `vm-silent` after `milliseconds`. */
  until(condition: () => boolean, milliseconds: number): Promise<void> {
    return this.#waiting.until(condition, milliseconds, () => pvError('vm-silent', { name: this.name }));
  }

  /** Starts the machine and resolves when its guest runs. Rejects with why it could not be started. */
  async start(machineModule?: string): Promise<void> {
    if (this.machine.problem !== null) throw this.machine.problem;
    this.require('start', 'be started');
    this.#enter('start');
    Object.assign(this, {
      problem: null,
      activity: null,
      startedAt: Date.now(),
      size: null,
      totals: null,
      latest: null,
    });
    this.#ended = null;
    this.#everRan = false;
    this.#guest = 0;
    this.#changed();
    try {
      const { identity, child } = await startVmProcess(startOptionsOf(this.machine, machineModule));
      this.#child = child;
      this.#identity = identity;
      this.pid = child.pid ?? null;
      this.startedAt = identity.startedAt;
      this.console.restart(0);
      await this.#connect(identity);
      // Until it has greeted us it would take our leaving for the loss of whoever started it.
      await this.until(() => this.#pastEnd !== null || !this.live, ANSWER_MS).catch(() => undefined);
      // The process must be able to outlive the manager; how it ends is still reported to this one.
      if (child.connected) child.disconnect();
      child.unref();
    } catch (error) {
      const problem = error instanceof PvError ? error : pvError('vm-silent', { name: this.name }, error);
      this.#conclude({ kind: 'refused', error: problem });
      throw problem;
    }
    await this.until(() => this.#everRan || isOver(this.state), START_MS);
    // One that ended by itself at once has been started all the same.
    if (!this.#everRan && this.problem !== null) throw this.problem;
  }

  /** Takes over a VM process that was found running. False when it is gone after all. */
  async adopt(entry: VmEntry): Promise<boolean> {
    try {
      this.#identity = entry;
      this.#everRan = true;
      this.startedAt = entry.startedAt;
      this.#link = await VmLink.open(entry, this.#linkEvents);
    } catch {
      this.#readPast();
      return false;
    }
    this.#pastEnd = null;
    this.pid = entry.pid;
    this.available = true;
    this.problem = null;
    this.#enter('found');
    const caughtUp = (): boolean => this.#pastEnd !== null && this.console.end >= this.#pastEnd;
    await this.until(() => !this.live || caughtUp(), ANSWER_MS).catch(() => undefined);
    if (this.state === 'running') this.since = entry.startedAt;
    return true;
  }

  readonly #linkEvents: VmLinkEvents = {
    message: (message) => this.#vmSays(message),
    closed: () => void this.#connectionLost(),
  };

  /** Offset up to which the VM process tells its past; null before it has said so. */
  #pastEnd: number | null = null;

  async #connect(entry: Pick<VmEntry, 'socket' | 'token'>): Promise<void> {
    this.#pastEnd = null;
    try {
      this.#link = await VmLink.open(entry, this.#linkEvents);
    } catch (error) {
      // It may have come to its end before anybody could connect; then it is about to write down which.
      for (let n = 0; n < RECONNECT_ATTEMPTS && isLocked(this.machine.folder); n++) await sleep(RECONNECT_MS);
      const record = readRunRecord(this.machine.folder);
      if (record === null || record.endedAt === null || record.startedAt !== this.startedAt) throw error;
      this.#everRan = record.outcome?.kind !== 'refused';
      this.#conclude(record.outcome ?? { kind: 'forced' });
    }
  }

  #vmSays(message: VmMessage): void {
    switch (message.type) {
      case 'welcome':
        this.#pastEnd = message.offset + message.past;
        this.console.restart(message.offset);
        this.#guest = message.guest;
        this.size = message.size;
        this.#adoptState(message.state);
        this.offerConsole();
        break;
      case 'output':
        this.console.append(message.bytes);
        if (this.console.end === this.#pastEnd) this.#changed();
        break;
      case 'state':
        if (message.guest > this.#guest) {
          this.#guest = message.guest;
          this.#stop.end();
          this.activity = null;
          this.#happen('reset', 'The guest begins anew');
        }
        this.#adoptState(message.state);
        break;
      case 'sample':
        this.#sampled(message);
        break;
      case 'log':
        this.#events.logged(this, message);
        break;
      case 'resized':
        this.size = message.size;
        this.#events.resized(this, message.size);
        break;
      case 'ptyOffered':
        this.pty = message.path;
        this.ptyProblem = message.problem;
        this.#changed();
        break;
      case 'inputTaken':
        this.#inputMarks.taken(message.id);
        break;
      case 'notice':
        break;
      case 'ended':
        this.#ended = message.outcome;
        // A guest with an end of its own has run, however short.
        this.#everRan ||= message.outcome.kind !== 'refused' && message.outcome.kind !== 'failed';
        break;
    }
  }

  #adoptState(state: 'starting' | 'running' | 'paused'): void {
    const before = this.state;
    const happening = ({ starting: 'restarting', running: 'running', paused: 'standing' } as const)[state];
    if (next(before, happening) === null) {
      this.log('warn', `The process says that the guest is ${state}, which cannot be: it is ${before}.`);
      return;
    }
    this.#enter(happening);
    const after = this.state;
    if (after === 'running' && !this.#everRan) {
      this.#everRan = true;
      this.#happen('started', 'Started');
      this.#events.started(this);
    } else if (before === 'running' && after === 'paused') this.#happen('paused', 'Paused');
    else if (before === 'paused' && after === 'running') this.#happen('resumed', 'Resumed');
    this.#changed();
  }

  #sampled(totals: Totals): void {
    const values = this.totals === null ? null : ratesBetween(this.totals, totals);
    this.totals = totals;
    if (values === null) return;
    this.latest = { at: totals.at, values };
    this.#events.sampled(this, totals.at, values);
  }

  async #connectionLost(): Promise<void> {
    this.#link = null;
    // What they wait for will not come; the next input says why.
    this.#inputMarks.allTaken();
    if (this.#released) return;
    if (this.#ended !== null) return this.#conclude(this.#ended);
    const exit = await exitOf(this.#child);
    if (await this.#findAgain()) return;
    if (this.#identity !== null) removeEntry({ ...this.#identity, folder: this.machine.folder }, true);
    this.#conclude(endOfLostRun(this.name, this.machine.folder, this.startedAt, exit));
  }

  /** A process that still has its lock lives: only the connection broke. False when it is gone. */
  async #findAgain(): Promise<boolean> {
    for (let attempt = 0; isLocked(this.machine.folder); attempt++) {
      if (attempt === RECONNECT_ATTEMPTS) {
        this.available = false;
        this.problem = pvError('vm-silent', { name: this.name });
        this.#changed();
        return true;
      }
      // Dying takes a moment; then the lock is free.
      await sleep(RECONNECT_MS);
      if (attempt === 0 || this.#identity === null) continue;
      try {
        await this.#connect(this.#identity);
        return true;
      } catch {
        // The next attempt may find the lock free.
      }
    }
    return false;
  }

  /** The run is over. */
  #conclude(outcome: VmOutcome): void {
    this.#link?.close();
    this.#link = null;
    this.#child = null;
    this.pid = null;
    this.#stop.end();
    this.activity = null;
    this.latest = null;
    this.startedAt = null;
    this.pty = null;
    this.ptyProblem = null;
    const crashed = outcome.kind === 'crash' || outcome.kind === 'failed';
    this.problem = crashOf(outcome);
    this.#enter(crashed ? 'crashed' : 'ended');
    saveConsole(this.consoleFile, this.console);
    const ending = runOutcomeOf(outcome);
    this.log(crashed ? 'error' : 'info', ending.text || 'The guest powered off.');
    this.#happen(crashed ? 'crashed' : 'stopped', ending.text || 'Powered off');
    this.#changed();
    this.#events.ended(this, ending);
  }

  async pause(): Promise<void> {
    this.require('pause', 'be paused');
    this.#link?.send({ type: 'pause' });
    await this.until(() => this.state !== 'running', ANSWER_MS);
  }

  async resume(): Promise<void> {
    this.require('resume', 'be resumed');
    this.#link?.send({ type: 'resume' });
    await this.until(() => this.state !== 'paused', ANSWER_MS);
  }

  /** Resolves when the new guest runs. Rejects with why it does not. */
  async reset(): Promise<void> {
    this.require('reset', 'be reset');
    const before = this.#guest;
    this.activity = 'resetting';
    this.#link?.send({ type: 'reset' });
    this.#changed();
    try {
      await this.until(() => isOver(this.state) || (this.#guest > before && this.state !== 'starting'), START_MS);
    } finally {
      this.activity = null;
    }
    if ((this.state === 'off' || this.#guest === before) && this.problem !== null) throw this.problem;
  }

  /**
   * Asks the guest to power off; a paused one is resumed to be able to. When it has not done so after `seconds`, `stopAsked.overdue` says so,
   * or it is ended by force.
   */
  async ask(seconds: number = STOP_SECONDS, thenForce = false): Promise<void> {
    if (this.state === 'paused') await this.resume();
    this.require('pause', 'be asked to stop');
    this.activity = 'stopping';
    this.#stop.begin(seconds, () => this.#stopOverdue(seconds, thenForce));
    this.#link?.send({ type: 'powerOff' });
    this.#changed();
  }

  #stopOverdue(seconds: number, thenForce: boolean): void {
    this.log('warn', pvError('stop-timeout', { name: this.name, seconds }).message);
    this.#changed();
    const failed = (error: unknown): void => this.log('error', `It could not be stopped by force: ${String(error)}`);
    if (thenForce) this.force().catch(failed);
  }

  /** Nobody waits for the guest to power off any more; it may still do so. */
  endStopping(): void {
    if (!this.#stop.end()) return;
    this.activity = null;
    this.#changed();
  }

  /** Ends the guest, if need be with its process; resolves when it is off. */
  async force(): Promise<void> {
    this.require('ended', 'be stopped');
    this.activity = 'stopping';
    this.#link?.send({ type: 'force' });
    this.#changed();
    try {
      await this.until(() => isOver(this.state), ANSWER_MS);
    } catch {
      this.log('warn', 'The process did not answer and was killed.');
      if (this.pid !== null) process.kill(this.pid, 'SIGKILL');
      await this.until(() => isOver(this.state), ANSWER_MS);
      if (this.state === 'crashed') this.dismiss();
    }
  }

  /** Takes note of a crash. */
  dismiss(): void {
    this.require('dismiss', 'be dismissed');
    this.#enter('dismiss');
    this.problem = null;
    const record = readRunRecord(this.machine.folder);
    if (record !== null) writeRunRecord(this.machine.folder, { ...record, dismissed: true });
    this.#changed();
  }

  sysrq(key: string): void {
    this.#requireConsole();
    this.#link?.send({ type: 'sysrq', key });
  }

  input(bytes: Uint8Array): void {
    this.#requireConsole();
    this.#link?.send({ type: 'input', bytes });
  }

  /** Resolves when the guest has taken all input so far, or is gone; rejects with the reason of `signal`. */
  async inputTaken(signal: AbortSignal): Promise<void> {
    const link = this.#link;
    if (link !== null) await this.#inputMarks.set((id) => link.send({ type: 'inputMark', id }), signal);
  }

  /** Lets the VM offer its console as a pseudo-terminal, or not, as the machine says. */
  offerConsole(): void {
    const on = this.machine.file.configuration.consolePty;
    if (on || this.pty !== null) this.#link?.send({ type: 'pty', on });
  }

  resize(size: ConsoleSize): void {
    this.#requireConsole();
    this.#link?.send({ type: 'resize', size });
  }

  #requireConsole(): void {
    if (!this.available) throw this.problem!;
    if (this.#link === null) throw pvError('console-not-running', { name: this.name });
  }

  log(level: LogLine['level'], text: string): void {
    const line: LogLine = { at: Date.now(), level, source: 'manager', text };
    keepLogLine(this.machine.folder, line);
    this.#events.logged(this, line);
  }

  #happen(kind: MachineEvent['kind'], text: string): void {
    this.#events.happened(this, { at: Date.now(), kind, text });
  }

  get consoleFile(): string {
    return consoleFilePath(this.machine.folder);
  }

  /** Leaves a running VM to itself. */
  release(): void {
    this.#released = true;
    this.#stop.end();
    this.#link?.close();
    this.#waiting.forget();
  }
}
