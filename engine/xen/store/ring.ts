// SPDX-License-Identifier: MIT
// The shared ring page between a guest and xenstore: bytes in and out, messages assembled from them (public/io/xs_wire.h).

import type { MachineMemoryView } from '../context.ts';
import type { Counters } from '../counters.ts';
import { handleRequest } from './requests.ts';
import type { Store, StoreConnection } from './store.ts';
import { HEADER_BYTES, MAX_PAYLOAD, Xs, encodeMessage, joinStrings, messageName, toText } from './wire.ts';

const RING_BYTES = 1024;
const REQ = 0;
const RSP = 0x400;
const REQ_CONS = 0x800;
const REQ_PROD = 0x804;
const RSP_CONS = 0x808;
const RSP_PROD = 0x80c;
const CONNECTION = 0x814;
const ERROR = 0x818;

/** Values of the page's error field. */
const ERROR_RING_INDEX = 2;
const ERROR_PROTOCOL = 3;

/** With this much waiting for the guest, no further request is taken up until it reads. */
const REPLY_BACKLOG_BYTES = 16 * 1024;
/** With this much waiting, an event that is waiting already is not queued again. */
const MERGE_EVENTS_ABOVE_BYTES = 32 * 1024;
/** With this much waiting, events are dropped: the guest does not read its ring. */
const DROP_EVENTS_ABOVE_BYTES = 1024 * 1024;

/** A message on its way to the guest. */
interface Queued {
  readonly bytes: Uint8Array;
  /** Path and token of a watch event, null for a reply. */
  readonly key: string | null;
}

export interface XenstoreRingOptions {
  readonly mem: MachineMemoryView;
  /** Host address of the ring page. */
  readonly page: number;
  readonly store: Store;
  /** The guest's domain id. */
  readonly domid: number;
  readonly counters: Counters;
  /** Notifies the guest's store port. */
  readonly notifyGuest: () => void;
}

/** A guest's connection to the store. The page is hostile: indices and contents may change at any moment. */
export class XenstoreRing {
  /** Why the connection was given up; null while it works. A broken one is ignored until `reconnect`. */
  broken: 'ring-index' | 'protocol' | null = null;
  private readonly mem: MachineMemoryView;
  private readonly page: number;
  private readonly store: Store;
  private readonly counters: Counters;
  private readonly notifyGuest: () => void;
  private readonly connection: StoreConnection;
  /** The request being assembled. */
  private readonly request = new Uint8Array(HEADER_BYTES + MAX_PAYLOAD);
  private readonly requestView = new DataView(this.request.buffer);
  private received = 0;
  /** Encoded messages that the guest has not got yet; `sent` bytes of the first one are out. */
  private queue: Queued[] = [];
  /** Keys of events that wait, of which no byte is out yet. */
  private readonly waiting = new Set<string>();
  private sent = 0;
  private queuedBytes = 0;
  private servicing = false;
  private lateEvents: Queued[] = [];

  constructor(options: XenstoreRingOptions) {
    this.mem = options.mem;
    this.page = options.page;
    this.store = options.store;
    this.counters = options.counters;
    this.notifyGuest = options.notifyGuest;
    this.connection = options.store.connect(options.domid, (path, token) => {
      this.onWatchEvent(path, token);
    });
  }

  /** Takes requests and delivers replies and events. Call when the guest notifies the port, or polls by yielding. */
  service(): void {
    if (this.broken !== null || this.servicing) return;
    this.servicing = true;
    let progress = false;
    while (this.broken === null) {
      const moved = this.deliver();
      const taken = this.receive();
      if (!moved && !taken) break;
      progress = true;
    }
    this.servicing = false;
    if (progress) this.notifyGuest();
  }

  /** Starts afresh after suspend or for a new kernel: watches, transactions and half messages are forgotten. */
  reconnect(): void {
    this.store.resetWatches(this.connection);
    this.broken = null;
    this.received = 0;
    this.queue = [];
    this.waiting.clear();
    this.lateEvents = [];
    this.sent = 0;
    this.queuedBytes = 0;
    for (const offset of [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, CONNECTION, ERROR]) this.setWord(offset, 0);
  }

  /** Ends the connection (the domain is gone). */
  close(): void {
    this.store.disconnect(this.connection);
    this.broken = 'protocol';
  }

  private onWatchEvent(path: string, token: string): void {
    if (this.broken !== null) return;
    const payload = joinStrings([path, token]);
    // A path and token that only just fitted a request may not fit an event together with the longer path.
    if (payload.length > MAX_PAYLOAD) {
      this.counters.count('store.event-too-long');
      return;
    }
    const bytes = encodeMessage({ type: Xs.watchEvent, requestId: 0, transactionId: 0, payload });
    if (this.queuedBytes > DROP_EVENTS_ABOVE_BYTES) {
      this.counters.count('store.events-dropped');
      return;
    }
    const key = toText(payload);
    if (this.queuedBytes > MERGE_EVENTS_ABOVE_BYTES && this.waiting.has(key)) {
      this.counters.count('store.events-merged');
      return;
    }
    this.counters.count('store.watch-event');
    // Events caused by a request follow its reply.
    if (this.servicing) {
      this.lateEvents.push({ bytes, key });
      return;
    }
    this.enqueue({ bytes, key });
    this.service();
  }

  private enqueue(message: Queued): void {
    this.queue.push(message);
    this.queuedBytes += message.bytes.length;
    if (message.key !== null) this.waiting.add(message.key);
  }

  /** Moves queued bytes into the response ring; true when any moved. */
  private deliver(): boolean {
    let moved = false;
    while (this.queue.length > 0) {
      const cons = this.word(RSP_CONS);
      const prod = this.word(RSP_PROD);
      const used = (prod - cons) >>> 0;
      if (used > RING_BYTES) {
        this.fail('ring-index');
        return moved;
      }
      const { bytes: message, key } = this.queue[0];
      const length = Math.min(RING_BYTES - used, message.length - this.sent);
      if (length === 0) break;
      if (key !== null) this.waiting.delete(key);
      for (let i = 0; i < length; i++) {
        this.mem.u8[this.page + RSP + ((prod + i) & (RING_BYTES - 1))] = message[this.sent + i];
      }
      this.setWord(RSP_PROD, (prod + length) >>> 0);
      moved = true;
      this.sent += length;
      this.queuedBytes -= length;
      if (this.sent === message.length) {
        this.queue.shift();
        this.sent = 0;
      }
    }
    return moved;
  }

  /** Takes request bytes up to the end of one message and carries it out; true when any byte was taken. */
  private receive(): boolean {
    if (this.queuedBytes > REPLY_BACKLOG_BYTES) return false;
    const cons = this.word(REQ_CONS);
    const waiting = (this.word(REQ_PROD) - cons) >>> 0;
    if (waiting > RING_BYTES) {
      this.fail('ring-index');
      return false;
    }
    let taken = this.take(cons, Math.min(waiting, HEADER_BYTES - this.received));
    if (this.received >= HEADER_BYTES) {
      const length = this.requestView.getUint32(12, true);
      if (length > MAX_PAYLOAD) {
        this.fail('protocol');
        return false;
      }
      const end = HEADER_BYTES + length;
      taken += this.take(cons + taken, Math.min(waiting - taken, end - this.received));
      if (this.received === end) this.process(end);
    }
    if (taken > 0) this.setWord(REQ_CONS, (cons + taken) >>> 0);
    return taken > 0;
  }

  /** Copies request bytes out of the ring; the number copied. */
  private take(cons: number, count: number): number {
    if (count <= 0) return 0;
    for (let i = 0; i < count; i++) {
      this.request[this.received + i] = this.mem.u8[this.page + REQ + ((cons + i) & (RING_BYTES - 1))];
    }
    this.received += count;
    return count;
  }

  private process(end: number): void {
    this.received = 0;
    const view = this.requestView;
    const type = view.getUint32(0, true);
    this.counters.count(`store.request.${messageName(type)}`);
    const reply = handleRequest(this.store, this.connection, {
      type,
      requestId: view.getUint32(4, true),
      transactionId: view.getUint32(8, true),
      payload: this.request.slice(HEADER_BYTES, end),
    });
    if (reply.refused !== undefined) this.counters.count(`store.refused.${reply.refused.errno}`);
    this.enqueue({ bytes: encodeMessage(reply.message), key: null });
    if (reply.firstEvent !== undefined) this.onWatchEvent(reply.firstEvent.path, reply.firstEvent.token);
    for (const event of this.lateEvents.splice(0)) this.enqueue(event);
  }

  private fail(reason: 'ring-index' | 'protocol'): void {
    this.broken = reason;
    this.counters.count(`store.broken.${reason}`);
    this.setWord(ERROR, reason === 'ring-index' ? ERROR_RING_INDEX : ERROR_PROTOCOL);
    this.store.resetWatches(this.connection);
  }

  private word(offset: number): number {
    return Atomics.load(this.mem.u32, (this.page + offset) >>> 2);
  }

  private setWord(offset: number, value: number): void {
    Atomics.store(this.mem.u32, (this.page + offset) >>> 2, value);
  }
}
