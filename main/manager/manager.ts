// SPDX-License-Identifier: MIT
// The manager: the library, the machines that run, their measurements, and everyone who wants to know. Runs in Electron's main process, in
// `paravane serve`, and for a moment in each command of the command line that finds no other. Guests do not depend on it: each has a
// process of its own, which the next manager finds again.
import * as path from 'node:path';
import { pvError } from '../../engine/errors.ts';
import type { EventName, EventPayload } from '../contract/events.ts';
import type { MachineDetails, MachineSummary } from '../contract/machine.ts';
import { FIELDS_NEEDING_RESTART } from '../contract/machine.ts';
import type { MachineEvent } from '../contract/metrics.ts';
import { dataDirectory, ensureDirectory } from '../library/directories.ts';
import { Library } from '../library/library.ts';
import type { LibraryMachine } from '../library/library.ts';
import { folderBytes, isLocked } from '../library/machine-folder.ts';
import { appendEvent } from '../metrics/event-file.ts';
import { RingFile } from '../metrics/ring-file.ts';
import { SettingsFile } from '../settings/settings.ts';
import { HostTerminals } from '../terminal/host-terminals.ts';
import { lockFile } from '../vm/folder-lock.ts';
import type { FileLock } from '../vm/folder-lock.ts';
import { machineLogFile } from '../vm/machine-log.ts';
import { readRunRecord } from '../vm/read-run-record.ts';
import { listRunning } from '../vm/runtime-directory.ts';
import { Counters } from './counters.ts';
import { reportOf, runOutcomeOf } from './endings.ts';
import { MachineControl } from './machine-control.ts';
import type { Session } from './session.ts';
import type { Shell } from './shell.ts';
import { Tasks } from './tasks.ts';
import { Uploads } from './uploads.ts';

export interface ManagerOptions {
  /** Default: the user's. */
  dataDirectory?: string;
  /** A manager that stays: keeps history, starts what starts by itself, and is the only one of its library. */
  resident: boolean;
  /** URL of another machine module than the engine's; used by tests. */
  machineModule?: string;
}

const SAMPLE_MS = 1000;
/** Values older than this are not shown as present. */
const FRESH_MS = 3000;
/** How often machines that run out of reach are looked at again, in seconds. */
const RECHECK_SECONDS = 5;
/** Machines that start by themselves do so a few at a time: building a guest takes a core for a moment. */
const STARTED_AT_A_TIME = 2;

export class Manager {
  readonly dataDirectory: string;
  readonly library: Library;
  readonly settings: SettingsFile;
  readonly counters = new Counters();
  readonly tasks: Tasks;
  readonly uploads: Uploads;
  readonly terminals: HostTerminals;
  readonly sessions = new Set<Session>();
  readonly startedAt: number = Date.now();
  readonly resident: boolean;
  readonly machineModule: string | undefined;
  /** The desktop around this manager, once there is one. */
  shell: Shell | null = null;
  readonly #controls = new Map<string, MachineControl>();
  readonly #rings = new Map<string, RingFile>();
  #lock: FileLock | null = null;
  #timer: NodeJS.Timeout | null = null;
  #ticks = 0;
  #closed = false;

  /** Takes the library and finds what runs. Throws `manager-running`, `library-file-invalid`, `folder-unusable`. */
  static async open(options: ManagerOptions): Promise<Manager> {
    const lock = options.resident ? takeResidence(ensureDirectory(options.dataDirectory ?? dataDirectory())) : null;
    try {
      const manager = new Manager(options);
      manager.#lock = lock;
      await manager.#findRunning();
      if (options.resident) manager.#beginResidence();
      return manager;
    } catch (error) {
      // Whoever puts right what is wrong must be able to try again.
      lock?.release();
      throw error;
    }
  }

  private constructor({ dataDirectory: given, resident, machineModule }: ManagerOptions) {
    this.dataDirectory = ensureDirectory(given ?? dataDirectory());
    this.resident = resident;
    this.machineModule = machineModule;
    this.settings = new SettingsFile(this.dataDirectory);
    if (this.settings.problem !== null) this.counters.log('error', this.settings.problem.message);
    this.tasks = new Tasks((progress) => this.broadcast('task:progressed', progress));
    this.uploads = new Uploads(path.join(this.dataDirectory, 'uploads'));
    this.terminals = new HostTerminals({
      allowed: () => this.settings.get().hostTerminal,
      started: (machine, shell) => this.broadcast('terminal:started', { machine, shell }),
      ended: (machine, end) => this.broadcast('terminal:ended', { machine, ...end }),
      resized: (machine, size, readers) => {
        for (const session of readers) session.tell('terminal:resized', { machine, size });
      },
    });
    this.library = new Library({
      dataDirectory: this.dataDirectory,
      machinesDirectory: () => this.machinesDirectory(),
      guard: (machine, verb) => this.#control(machine).requireStill(verb),
    });
    for (const machine of this.library.machines()) this.#control(machine);
  }

  machinesDirectory(): string {
    return this.settings.get().machinesDirectory ?? path.join(this.dataDirectory, 'machines');
  }

  async #findRunning(): Promise<void> {
    for (const entry of await listRunning()) {
      const control = this.#controls.get(entry.id);
      if (control === undefined || entry.folder !== control.machine.folder) continue;
      if (await control.adopt(entry)) this.counters.log('info', `found "${control.name}" running`);
    }
  }

  #beginResidence(): void {
    this.#timer = setInterval(() => this.#everySecond(), SAMPLE_MS);
    const waiting = this.controls().filter(({ machine }) => machine.file.configuration.autostart);
    for (let n = 0; n < STARTED_AT_A_TIME; n++) void this.#startEach(waiting);
  }

  /** Starts those that wait, in the user's order; a crash has to be looked at first, and what cannot start says so itself. */
  async #startEach(waiting: MachineControl[]): Promise<void> {
    for (let control = waiting.shift(); control !== undefined && !this.#closed; control = waiting.shift()) {
      if (control.state !== 'off' || control.machine.problem !== null) continue;
      await control.start(this.machineModule).catch((error: unknown) => {
        this.counters.log('error', `"${control!.name}" did not start: ${reportOf(error).message}`);
      });
    }
  }

  #everySecond(): void {
    const now = Date.now();
    const machines = [...this.#controls.values()]
      .filter((control) => control.live)
      .map((control) => {
        const values = control.latest !== null && now - control.latest.at < FRESH_MS ? control.latest.values : null;
        return {
          machine: control.id,
          cpu: values?.cpu ?? null,
          instructionsPerSecond: values?.instructions ?? null,
          memory: values?.memory ?? null,
        };
      });
    if (machines.length > 0) this.broadcast('library:sampled', { at: now, machines });
    if (++this.#ticks % RECHECK_SECONDS === 0) this.#recheck();
  }

  /** A machine that ran out of reach may have ended: then it is this manager's to start. */
  #recheck(): void {
    for (const control of this.#controls.values()) {
      if (control.available || isLocked(control.machine.folder)) continue;
      this.#controls.delete(control.id);
      this.broadcast('machine:changed', { machine: this.summary(this.#control(control.machine)) });
    }
  }

  /** The control of a machine, made when it is first needed. */
  #control(machine: LibraryMachine): MachineControl {
    const known = this.#controls.get(machine.id);
    if (known !== undefined) {
      known.machine = machine;
      return known;
    }
    const control = new MachineControl(machine, {
      changed: (changed) => this.broadcast('machine:changed', { machine: this.summary(changed) }),
      started: ({ id }) => this.broadcast('machine:started', { machine: id, at: Date.now() }),
      ended: (ended, outcome) => {
        const at = Date.now();
        if (ended.state === 'crashed' && ended.problem !== null)
          this.broadcast('machine:crashed', { machine: ended.id, at, error: reportOf(ended.problem) });
        else this.broadcast('machine:stopped', { machine: ended.id, at, outcome });
        this.#closeRing(ended.id);
      },
      happened: (where, event) => this.happened(where, event),
      logged: ({ id }, entry) => {
        for (const session of this.sessions) {
          if (session.watched.has(id)) session.tell('machine:logged', { machine: id, entry: asLogEntry(entry) });
        }
      },
      resized: (where, size) => {
        for (const session of where.console.readers()) session.tell('console:resized', { machine: where.id, size });
      },
      sampled: ({ id, machine: { folder } }, at, values) => {
        if (this.resident) this.#keep(id, folder, at, values);
        for (const session of this.sessions) {
          if (session.watched.has(id)) session.tell('metrics:sampled', { machine: id, sample: { at, values } });
        }
      },
    });
    this.#controls.set(machine.id, control);
    return control;
  }

  #keep(id: string, folder: string, at: number, values: Parameters<RingFile['append']>[1]): void {
    try {
      this.ring(id, folder).append(at, values);
    } catch (error) {
      this.counters.count('history write failed');
      if (this.#ticks % 60 === 0) this.counters.log('warn', `history of ${id}: ${(error as Error).message}`);
    }
  }

  /** The history of a machine. */
  ring(id: string, folder: string): RingFile {
    const ring = this.#rings.get(id) ?? new RingFile(path.join(folder, 'history.ring'));
    this.#rings.set(id, ring);
    return ring;
  }

  /** Closes the history file: the machine is off, or its folder is about to move. */
  #closeRing(id: string): void {
    this.#rings.get(id)?.close();
    this.#rings.delete(id);
  }

  /** Keeps an event and tells everyone. */
  happened(control: MachineControl, event: MachineEvent): void {
    try {
      appendEvent(path.join(control.machine.folder, 'events.jsonl'), event);
    } catch {
      this.counters.count('event write failed');
    }
    this.broadcast('machine:happened', { machine: control.id, event });
    const verb = { paused: 'machine:paused', resumed: 'machine:resumed', reset: 'machine:reset' } as const;
    if (event.kind in verb) {
      this.broadcast(verb[event.kind as keyof typeof verb], { machine: control.id, at: event.at });
    }
  }

  broadcast<Name extends EventName>(event: Name, payload: EventPayload<Name>): void {
    if (this.sessions.size === 0) return;
    this.counters.count(`event ${event}`);
    const text = JSON.stringify({ event, payload });
    for (const session of this.sessions) session.send(text);
  }

  addSession(session: Session): void {
    this.sessions.add(session);
    session.onClose(() => this.sessions.delete(session));
  }

  /** A session has room for more output. */
  drained(session: Session): void {
    for (const control of this.#controls.values()) control.console.drained(session);
    this.terminals.drained(session);
  }

  /** Throws `machine-unknown`. */
  control(id: string): MachineControl {
    return this.#control(this.library.get(id));
  }

  controls(): MachineControl[] {
    return this.library.machines().map((machine) => this.#control(machine));
  }

  /** Says that a machine of the library is new or different. */
  announce(machine: LibraryMachine): MachineSummary {
    const summary = this.summary(this.#control(machine));
    this.broadcast('machine:changed', { machine: summary });
    return summary;
  }

  /** Forgets a machine that has left the library. */
  forget(id: string): void {
    this.#closeRing(id);
    this.terminals.stop(id);
    this.#controls.get(id)?.release();
    this.#controls.delete(id);
    this.broadcast('machine:removed', { machine: id });
  }

  /** Call before a machine's folder moves. */
  letGo(id: string): void {
    this.#closeRing(id);
  }

  summary(control: MachineControl): MachineSummary {
    const { configuration, kernelFacts } = control.machine.file;
    const problem = control.machine.problem ?? control.problem;
    return {
      id: control.id,
      name: configuration.name,
      kind: configuration.kind,
      state: control.state,
      since: control.since,
      activity: control.activity,
      stopAsked: control.stopAsked,
      startedAt: control.startedAt,
      memoryBytes: configuration.memoryBytes,
      vcpus: configuration.vcpus,
      bits: kernelFacts?.bits ?? null,
      tags: configuration.tags,
      notes: configuration.notes,
      autostart: configuration.autostart,
      folder: control.machine.folder,
      problem: problem && reportOf(problem),
      restartNeeded: restartNeeded(control),
      available: control.available && control.machine.problem === null,
    };
  }

  async details(id: string): Promise<MachineDetails> {
    const control = this.control(id);
    const { folder, file } = control.machine;
    const record = readRunRecord(folder);
    return {
      summary: this.summary(control),
      configuration: file.configuration,
      created: file.created,
      kernelFacts: file.kernelFacts,
      lastRun: record && {
        startedAt: record.startedAt,
        endedAt: record.endedAt,
        outcome: record.outcome && runOutcomeOf(record.outcome),
        instructions: control.totals?.stats.instructions ?? record.instructions,
      },
      folderBytes: await folderBytes(folder),
      logFile: machineLogFile(folder),
      consoleFile: control.consoleFile,
      consolePty: control.pty,
      consolePtyProblem: control.ptyProblem,
      pid: control.pid,
    };
  }

  /** Ends the manager; running machines run on. */
  close(): void {
    this.#closed = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    for (const session of [...this.sessions]) session.end('the manager ends');
    for (const control of this.#controls.values()) control.release();
    for (const id of [...this.#rings.keys()]) this.#closeRing(id);
    this.terminals.stopAll();
    this.tasks.cancelAll();
    this.uploads.cancelAll();
    this.#lock?.release();
    this.#lock = null;
  }
}

/** Throws `manager-running`. */
function takeResidence(directory: string): FileLock {
  const lock = lockFile(path.join(directory, 'manager.lock'));
  if (lock === null) throw pvError('manager-running', { where: directory });
  return lock;
}

/** Names of fields whose present value a running guest does not have yet. */
function restartNeeded({ machine, live }: MachineControl): string[] {
  if (!live) return [];
  const started = readRunRecord(machine.folder)?.machine;
  if (started === undefined) return [];
  const { configuration } = machine.file;
  return FIELDS_NEEDING_RESTART.filter(
    (field) => field !== 'vcpus' && (started[field] ?? null) !== (configuration[field] ?? null),
  );
}

function asLogEntry({
  at,
  level,
  source,
  text,
}: {
  at: number;
  level: 'info' | 'warn' | 'error';
  source: 'manager' | 'process' | 'guest';
  text: string;
}) {
  return { at, level, source, text };
}
