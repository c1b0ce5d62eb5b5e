// SPDX-License-Identifier: MIT
// A machine's terminal on the manager's computer in this window: the shell it runs, or why there is none.
import type { EventPayload } from '../../main/contract/events.ts';
import type { HostShell } from '../../main/contract/terminal.ts';
import { invoke, on, whenConnected } from '../state/manager.svelte.ts';
import { oneAtATime } from '../state/one-at-a-time.ts';
import { settings } from '../state/settings.svelte.ts';
import { fromBase64 } from '../text/base64.ts';
import { ByteRun } from './byte-run.ts';
import { TerminalScreen } from './terminal-screen.svelte.ts';

type Output = EventPayload<'terminal:output'>;

/** Terminals that are kept when they are not shown. */
const KEPT = 4;

export class HostSession extends TerminalScreen {
  readonly machine: string;
  shell = $state.raw<HostShell | null>(null);
  /** How the last shell ended, while none runs. */
  ended = $state.raw<{ exitCode: number; signal: number | null } | null>(null);
  /** Why there is nothing to see. */
  error = $state.raw<unknown>(null);
  attached = $state(false);
  readonly #run = new ByteRun();
  readonly #endings: (() => void)[];
  /** Output that arrives while an attachment is being answered. */
  #early: Output[] | null = null;

  constructor(machine: string) {
    super({
      input: (bytes, answer) => invoke('terminal:input', { machine, bytes, answer }),
      resize: (size) => invoke('terminal:resize', { machine, size }),
    });
    this.machine = machine;
    let known = settings.values.hostTerminal;
    const mine =
      <T extends { machine: string }>(then: (payload: T) => void) =>
      (payload: T): void => {
        if (payload.machine === machine) then(payload);
      };
    this.#endings = [
      on('terminal:output', mine((payload) => this.#output(payload))), // prettier-ignore
      on('terminal:resized', mine(({ size }) => this.resized(size))), // prettier-ignore
      on('terminal:started', mine(({ shell }) => this.#runs(shell))), // prettier-ignore
      on('terminal:ended', mine(({ exitCode, signal }) => this.#over(exitCode, signal))), // prettier-ignore
      whenConnected(() => void this.attach()),
      $effect.root(() => {
        // What was refused because it was off may be had now, and the other way round. (A $derived field would belong to the page that made
        // the session, and stay as it was when that was left.)
        $effect(() => {
          const { hostTerminal } = settings.values;
          if (hostTerminal === known) return;
          known = hostTerminal;
          void this.attach();
        });
      }),
    ];
  }

  readonly attach = oneAtATime(async () => {
    this.#early = [];
    try {
      const { offset, scrollback, size, shell } = await invoke('terminal:attach', { machine: this.machine });
      const early = this.#early;
      this.#early = null;
      const taken = this.#run.take(offset, fromBase64(scrollback), true);
      if (taken !== null) this.write(taken.bytes, { past: true, fresh: taken.fresh });
      for (const payload of early) this.#output(payload);
      if (shell !== null) this.resized(size);
      this.#runs(shell);
      this.error = null;
      this.attached = true;
    } catch (error) {
      this.#early = null;
      this.error = error;
      this.attached = false;
      this.becomeLive(false);
    }
  });

  /** Starts the shell, or another one after the end of the last. */
  async start(): Promise<void> {
    this.ended = null;
    this.expectLive();
    this.terminal.focus();
    try {
      await invoke('terminal:start', { machine: this.machine, size: this.size });
      this.error = null;
      this.terminal.focus();
    } catch (error) {
      this.error = error;
      this.becomeLive(false);
    }
  }

  async close(): Promise<void> {
    await invoke('terminal:stop', { machine: this.machine });
  }

  override dispose(): void {
    for (const end of this.#endings) end();
    this.attach.end();
    invoke('terminal:detach', { machine: this.machine }).catch(() => undefined);
    super.dispose();
  }

  #output(payload: Output): void {
    if (this.#early !== null) {
      this.#early.push(payload);
      return;
    }
    const taken = this.#run.take(payload.offset, fromBase64(payload.bytes), false);
    if (taken !== null) this.write(taken.bytes, { fresh: taken.fresh });
  }

  #runs(shell: HostShell | null): void {
    this.shell = shell;
    if (shell !== null) this.ended = null;
    if (this.live !== (shell !== null)) this.becomeLive(shell !== null);
  }

  #over(exitCode: number, signal: number | null): void {
    this.#runs(null);
    this.ended = { exitCode, signal };
    // The next shell begins on a line of its own, without modes that this one left behind.
    this.write('\x1b[!p\r\n');
  }
}

const sessions = new Map<string, HostSession>();

/** The machine's host terminal in this window, made when it is first wanted. */
export function hostTerminalOf(machine: string): HostSession {
  const known = sessions.get(machine);
  if (known !== undefined) {
    sessions.delete(machine);
    sessions.set(machine, known);
    return known;
  }
  for (const [id, session] of sessions) {
    if (sessions.size < KEPT) break;
    if (session.shown) continue;
    session.dispose();
    sessions.delete(id);
  }
  const session = new HostSession(machine);
  sessions.set(machine, session);
  return session;
}
