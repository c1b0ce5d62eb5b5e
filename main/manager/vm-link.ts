// SPDX-License-Identifier: MIT
// The manager's connection to one VM process: it watches, passes verbs on, and notices at once when the process is gone.
import type * as net from 'node:net';
import { encodeClientMessage, ProtocolError, VmMessageReader } from '../vm/protocol.ts';
import type { ClientMessage, VmMessage } from '../vm/protocol.ts';
import { connect } from '../vm/runtime-directory.ts';
import type { VmEntry } from '../vm/runtime-directory.ts';

export interface VmLinkEvents {
  message(message: VmMessage): void;
  /** The connection is gone; comes exactly once, after the last message. */
  closed(): void;
}

export class VmLink {
  readonly #socket: net.Socket;

  private constructor(socket: net.Socket) {
    this.#socket = socket;
  }

  /** Connects and begins to watch; rejects with the system's error when nobody listens. */
  static async open(entry: Pick<VmEntry, 'socket' | 'token'>, events: VmLinkEvents): Promise<VmLink> {
    const socket = await connect(entry);
    const link = new VmLink(socket);
    const reader = new VmMessageReader();
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const message of reader.push(chunk)) events.message(message);
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        socket.destroy();
      }
    });
    socket.once('close', () => events.closed());
    link.send({ type: 'hello', token: entry.token, size: null });
    link.send({ type: 'watch' });
    return link;
  }

  send(message: ClientMessage): void {
    if (!this.#socket.destroyed) this.#socket.write(encodeClientMessage(message));
  }

  /** While not reading, the guest's output waits in the VM process and then the guest itself. */
  setReading(reading: boolean): void {
    if (reading) this.#socket.resume();
    else this.#socket.pause();
  }

  /** Leaves the VM to itself. */
  close(): void {
    this.#socket.destroy();
  }
}
