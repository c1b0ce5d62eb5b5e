// SPDX-License-Identifier: MIT
// The output of one machine's console as an unbroken run of bytes: attaches, bridges lost connections, notices new runs.
import type { EventPayload } from '../../main/contract/events.ts';
import { invoke, on, whenConnected } from '../state/manager.svelte.ts';
import { oneAtATime } from '../state/one-at-a-time.ts';
import { fromBase64 } from '../text/base64.ts';
import { ByteRun } from './byte-run.ts';

type Size = EventPayload<'console:resized'>['size'];

export interface FeedListener {
  /** Bytes in order. `fresh`: they begin a new run of the guest, or what came before is lost. `past`: they are old. */
  output(bytes: Uint8Array<ArrayBuffer>, fresh: boolean, past: boolean): void;
  resized(size: Size): void;
  /** The guest began again; its output goes on in the same run of bytes. */
  restarted(): void;
  live(live: boolean): void;
  failed(error: unknown): void;
}

export class ConsoleFeed {
  readonly #machine: string;
  readonly #listener: FeedListener;
  readonly #endings: (() => void)[] = [];
  readonly #run = new ByteRun();
  /** Output that arrives while an attachment is being answered. */
  #early: EventPayload<'console:output'>[] | null = null;

  constructor(machine: string, listener: FeedListener) {
    this.#machine = machine;
    this.#listener = listener;
    const mine =
      <T extends { machine: string }>(then: (payload: T) => void) =>
      (payload: T): void => {
        if (payload.machine === machine) then(payload);
      };
    this.#endings.push(
      on(
        'console:output',
        mine((payload) => this.#output(payload)),
      ),
      on(
        'console:resized',
        mine(({ size }) => listener.resized(size)),
      ),
      on(
        'machine:started',
        mine(() => void this.#attach()),
      ),
      on(
        'machine:reset',
        mine(() => {
          listener.restarted();
          listener.live(true);
        }),
      ),
      on(
        'machine:stopped',
        mine(() => listener.live(false)),
      ),
      on(
        'machine:crashed',
        mine(() => listener.live(false)),
      ),
      whenConnected(() => void this.#attach()),
    );
  }

  readonly #attach = oneAtATime(async () => {
    this.#early = [];
    try {
      const { offset, scrollback, size, live } = await invoke('console:attach', { machine: this.#machine });
      const early = this.#early;
      this.#early = null;
      this.#take(offset, fromBase64(scrollback), true);
      for (const payload of early) this.#output(payload);
      if (size !== null) this.#listener.resized(size);
      this.#listener.live(live);
    } catch (error) {
      this.#early = null;
      this.#listener.failed(error);
    }
  });

  dispose(): void {
    for (const end of this.#endings) end();
    this.#attach.end();
    invoke('console:detach', { machine: this.#machine }).catch(() => undefined);
  }

  #output(payload: EventPayload<'console:output'>): void {
    if (this.#early !== null) {
      this.#early.push(payload);
      return;
    }
    this.#take(payload.offset, fromBase64(payload.bytes), false);
  }

  #take(offset: number, bytes: Uint8Array<ArrayBuffer>, whole: boolean): void {
    const taken = this.#run.take(offset, bytes, whole);
    if (taken !== null) this.#listener.output(taken.bytes, taken.fresh, whole);
  }
}
