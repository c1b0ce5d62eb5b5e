// SPDX-License-Identifier: MIT
// A manager of its own for a test: temporary library and runtime directory, the fake machine, and a session that speaks the contract.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { pathToFileURL } from 'node:url';
import * as v from 'valibot';
import { MessageConnection } from '../../main/contract/connection.ts';
import type { Reply } from '../../main/contract/commands.ts';
import { events } from '../../main/contract/events.ts';
import type { ContractEvent, EventName, EventPayload } from '../../main/contract/events.ts';
import { describeIssues } from '../../main/contract/issues.ts';
import { Gate } from '../../main/manager/gate.ts';
import { Manager } from '../../main/manager/manager.ts';
import { Session } from '../../main/manager/session.ts';
import { PLAIN_SHELL } from './paravane.ts';

export const FAKE_MACHINE = pathToFileURL(path.resolve(import.meta.dirname, 'fake-machine.ts')).href;

/** A session inside this process: everything passes through the gate as it would over a socket. */
export class TestSession {
  readonly session: Session;
  readonly connection: MessageConnection;
  readonly events: ContractEvent[] = [];
  /** What the carrier claims not to have sent yet. */
  backlog = 0;
  closedBecause: string | null = null;
  /** Events that were not what the contract says. */
  readonly violations: string[] = [];
  readonly #gate: Gate;

  constructor(manager: Manager, gate: Gate) {
    this.#gate = gate;
    this.session = new Session('page', {
      send: (text) => this.#receive(text),
      backlog: () => this.backlog,
      close: (reason) => (this.closedBecause = reason),
    });
    manager.addSession(this.session);
    this.connection = new MessageConnection((text) => void this.raw(text));
  }

  #receive(text: string): void {
    const message = JSON.parse(text) as Record<string, unknown>;
    if ('event' in message) this.#event(message as unknown as ContractEvent);
    else this.answers.push(message);
    this.connection.receive(text);
  }

  #event(message: ContractEvent): void {
    this.events.push(message);
    const result = v.safeParse(events[message.event], message.payload);
    if (!result.success) this.violations.push(`${message.event}: ${describeIssues(result.issues)}`);
  }

  readonly answers: Record<string, unknown>[] = [];

  /** Sends text as it is. */
  raw(text: string): Promise<void> {
    return this.#gate.receive(this.session, text);
  }

  get invoke() {
    return this.connection.invoke.bind(this.connection);
  }

  payloads<Name extends EventName>(name: Name): EventPayload<Name>[] {
    return this.events.filter(({ event }) => event === name).map(({ payload }) => payload as EventPayload<Name>);
  }

  #attachedAt = 0;
  #scrollback = '';

  /** Attaches to a console. What the guest has written before is part of what has been shown. */
  async attach(machine: string): Promise<Reply<'console:attach'>> {
    const reply = await this.invoke('console:attach', { machine });
    this.#scrollback = Buffer.from(reply.scrollback, 'base64').toString();
    this.#attachedAt = reply.offset + Buffer.byteLength(reply.scrollback, 'base64');
    return reply;
  }

  /** Everything the console has shown. */
  output(): string {
    return (
      this.#scrollback +
      this.payloads('console:output')
        .filter(({ offset }) => offset >= this.#attachedAt)
        .map(({ bytes }) => Buffer.from(bytes, 'base64').toString())
        .join('')
    );
  }
}

/** Directories that no other test sees, in the environment while the test runs. */
export class ManagerFixture {
  readonly directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-manager-'));
  readonly runtimeDirectory = path.join(this.directory, 'run');
  readonly dataDirectory = path.join(this.directory, 'data');
  readonly kernel = path.join(this.directory, 'kernel');
  readonly #environment = new Map<string, string | undefined>();
  readonly #managers: Manager[] = [];
  readonly #pages: TestSession[] = [];

  constructor() {
    fs.mkdirSync(this.runtimeDirectory, { mode: 0o700 });
    fs.writeFileSync(this.kernel, 'no kernel');
    const own = { ...PLAIN_SHELL, PARAVANE_RUNTIME_DIR: this.runtimeDirectory, PARAVANE_DATA: this.dataDirectory };
    for (const [name, value] of Object.entries(own)) {
      this.#environment.set(name, process.env[name]);
      setVariable(name, value);
    }
  }

  async open(resident = true): Promise<{ manager: Manager; gate: Gate; page: TestSession }> {
    const manager = await Manager.open({ resident, machineModule: FAKE_MACHINE });
    this.#managers.push(manager);
    const gate = new Gate(manager, { checkReplies: true });
    const page = new TestSession(manager, gate);
    this.#pages.push(page);
    return { manager, gate, page };
  }

  /** The request for a machine whose "guest" does `commandLine`. */
  newMachine(name: string, commandLine: string) {
    return { name, kernel: this.kernel, commandLine, memoryBytes: 64 * 2 ** 20 };
  }

  /** Ends managers and VM processes and removes the directories. Throws when an event was not what the contract says. */
  dispose(): void {
    const violations = this.#pages.flatMap((page) => page.violations);
    for (const manager of this.#managers) manager.close();
    for (const file of fs.readdirSync(this.runtimeDirectory).filter((name) => name.endsWith('.json'))) {
      try {
        const { pid } = JSON.parse(fs.readFileSync(path.join(this.runtimeDirectory, file), 'utf8')) as { pid: number };
        process.kill(pid, 'SIGKILL');
      } catch {
        // Already gone.
      }
    }
    for (const [name, value] of this.#environment) setVariable(name, value);
    fs.rmSync(this.directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
    if (violations.length > 0) throw new Error(`events against the contract: ${violations[0]}`);
  }
}

function setVariable(name: string, value: string | undefined): void {
  if (value === undefined) delete process.env[name];
  else process.env[name] = value;
}
