// SPDX-License-Identifier: MIT
// The messages between a VM process and those attached to it: length-prefixed frames on a local socket.
// Frame: u32 length of what follows (little endian), u8 type, payload. Payloads are bytes or JSON.
import type { LogLevel } from './machine.ts';
import type { ErrorReport, VmOutcome, VmStats } from './outcome.ts';

/** Longest accepted frame; larger lengths come from something that does not speak this protocol. */
const FRAME_LIMIT = 4 * 1024 * 1024;

/** Frame types. 1..15 go to the VM process, 16.. come from it. */
const FrameType = {
  Hello: 1,
  Input: 2,
  Resize: 3,
  Detach: 4,
  PowerOff: 5,
  Force: 6,
  Pause: 7,
  Resume: 8,
  Reset: 9,
  Sysrq: 10,
  Watch: 11,
  Pty: 12,
  InputMark: 13,
  Welcome: 16,
  Output: 17,
  Ended: 18,
  Notice: 19,
  State: 20,
  Sample: 21,
  Log: 22,
  Resized: 23,
  PtyOffered: 24,
  InputTaken: 25,
} as const;

export interface ConsoleSize {
  columns: number;
  rows: number;
}

/** What an attached client says. The first message must be `hello` with the token of the VM's directory entry. */
export type ClientMessage =
  | { type: 'hello'; token: string; size: ConsoleSize | null }
  | { type: 'input'; bytes: Uint8Array }
  | { type: 'resize'; size: ConsoleSize }
  /** The client leaves on purpose and the VM is to run on. */
  | { type: 'detach' }
  /** Ask the guest to power off. */
  | { type: 'powerOff' }
  /** End the VM at once. */
  | { type: 'force' }
  /** Let the guest stand still, and go on. */
  | { type: 'pause' }
  | { type: 'resume' }
  /** End the guest at once and start it anew, in the same VM. */
  | { type: 'reset' }
  /** Send a magic SysRq key, one letter or digit. */
  | { type: 'sysrq'; key: string }
  /** From now on send this client `sample` and `log` messages. A client that watches and leaves is not missed: it is the manager. */
  | { type: 'watch' }
  /** Offer the console as a pseudo-terminal, or do not; `ptyOffered` answers. */
  | { type: 'pty'; on: boolean }
  /** Say `inputTaken` with this number when the guest has taken all input sent so far. */
  | { type: 'inputMark'; id: number };

/** What the guest is doing. */
export type GuestState = 'starting' | 'running' | 'paused';

/** What the VM process says. */
export type VmMessage =
  /** `offset`: how many bytes of output there were before those that follow at once, `past` of them; `guest`: how many guests there were before this one. */
  | {
      type: 'welcome';
      id: string;
      name: string;
      state: GuestState;
      guest: number;
      offset: number;
      past: number;
      size: ConsoleSize | null;
    }
  | { type: 'output'; bytes: Uint8Array }
  /** A line for the user that is not guest output. */
  | { type: 'notice'; text: string }
  | { type: 'state'; state: GuestState; guest: number }
  /** About once a second to those who watch; missing while the vCPU does not come back from a slice. */
  | { type: 'sample'; at: number; guest: number; stats: VmStats; rssBytes: number }
  | { type: 'log'; at: number; level: LogLevel; source: 'process' | 'guest'; text: string }
  | { type: 'resized'; size: ConsoleSize }
  /** Where programs find the console; null when it is not offered, with the reason if it should be. */
  | { type: 'ptyOffered'; path: string | null; problem: ErrorReport | null }
  | { type: 'inputTaken'; id: number }
  | { type: 'ended'; outcome: VmOutcome; stats: VmStats | null };

function frame(type: number, payload: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(5 + payload.length);
  bytes.writeUInt32LE(1 + payload.length, 0);
  bytes[4] = type;
  bytes.set(payload, 5);
  return bytes;
}

const EMPTY = new Uint8Array(0);
const json = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));

export function encodeClientMessage(message: ClientMessage): Buffer {
  switch (message.type) {
    case 'hello':
      return frame(FrameType.Hello, json({ token: message.token, size: message.size }));
    case 'input':
      return frame(FrameType.Input, message.bytes);
    case 'resize':
      return frame(FrameType.Resize, json(message.size));
    case 'detach':
      return frame(FrameType.Detach, EMPTY);
    case 'powerOff':
      return frame(FrameType.PowerOff, EMPTY);
    case 'force':
      return frame(FrameType.Force, EMPTY);
    case 'pause':
      return frame(FrameType.Pause, EMPTY);
    case 'resume':
      return frame(FrameType.Resume, EMPTY);
    case 'reset':
      return frame(FrameType.Reset, EMPTY);
    case 'sysrq':
      return frame(FrameType.Sysrq, json({ key: message.key }));
    case 'watch':
      return frame(FrameType.Watch, EMPTY);
    case 'pty':
      return frame(FrameType.Pty, json({ on: message.on }));
    case 'inputMark':
      return frame(FrameType.InputMark, json({ id: message.id }));
  }
}

export function encodeVmMessage(message: VmMessage): Buffer {
  switch (message.type) {
    case 'welcome':
      return frame(FrameType.Welcome, json(withoutType(message)));
    case 'output':
      return frame(FrameType.Output, message.bytes);
    case 'notice':
      return frame(FrameType.Notice, json({ text: message.text }));
    case 'ended':
      return frame(FrameType.Ended, json({ outcome: message.outcome, stats: message.stats }));
    case 'state':
      return frame(FrameType.State, json(withoutType(message)));
    case 'sample':
      return frame(FrameType.Sample, json(withoutType(message)));
    case 'log':
      return frame(FrameType.Log, json(withoutType(message)));
    case 'resized':
      return frame(FrameType.Resized, json(withoutType(message)));
    case 'ptyOffered':
      return frame(FrameType.PtyOffered, json(withoutType(message)));
    case 'inputTaken':
      return frame(FrameType.InputTaken, json(withoutType(message)));
  }
}

function withoutType<T extends { type: string }>({ type: _, ...rest }: T): Omit<T, 'type'> {
  return rest;
}

/** Thrown by the decoders for bytes that are no frame of this protocol; the connection is then closed. */
export class ProtocolError extends Error {}

/** Cuts a byte stream into frames. */
class FrameReader {
  #pending: Buffer = Buffer.alloc(0);

  *push(chunk: Uint8Array): Generator<{ type: number; payload: Buffer }> {
    this.#pending = this.#pending.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#pending, chunk]);
    let at = 0;
    while (this.#pending.length - at >= 4) {
      const length = this.#pending.readUInt32LE(at);
      if (length < 1 || length > FRAME_LIMIT) throw new ProtocolError(`frame of ${length} bytes`);
      if (this.#pending.length - at < 4 + length) break;
      yield { type: this.#pending[at + 4], payload: this.#pending.subarray(at + 5, at + 4 + length) };
      at += 4 + length;
    }
    this.#pending = this.#pending.subarray(at);
  }
}

/** Decodes what clients send. Anyone of this user may connect, so each field is checked. */
export class ClientMessageReader {
  readonly #frames = new FrameReader();

  /** The messages completed by `chunk`; throws ProtocolError. */
  *push(chunk: Uint8Array): Generator<ClientMessage> {
    for (const { type, payload } of this.#frames.push(chunk)) {
      switch (type) {
        case FrameType.Hello: {
          const { token, size } = parseObject(payload);
          if (typeof token !== 'string') throw new ProtocolError('hello without token');
          yield { type: 'hello', token, size: size === null ? null : consoleSize(size) };
          break;
        }
        case FrameType.Input:
          yield { type: 'input', bytes: payload };
          break;
        case FrameType.Resize:
          yield { type: 'resize', size: consoleSize(parseObject(payload)) };
          break;
        case FrameType.Detach:
          yield { type: 'detach' };
          break;
        case FrameType.PowerOff:
          yield { type: 'powerOff' };
          break;
        case FrameType.Force:
          yield { type: 'force' };
          break;
        case FrameType.Pause:
          yield { type: 'pause' };
          break;
        case FrameType.Resume:
          yield { type: 'resume' };
          break;
        case FrameType.Reset:
          yield { type: 'reset' };
          break;
        case FrameType.Sysrq: {
          const { key } = parseObject(payload);
          if (typeof key !== 'string' || !/^[0-9a-z]$/.test(key)) throw new ProtocolError('SysRq key');
          yield { type: 'sysrq', key };
          break;
        }
        case FrameType.Watch:
          yield { type: 'watch' };
          break;
        case FrameType.Pty: {
          const { on } = parseObject(payload);
          if (typeof on !== 'boolean') throw new ProtocolError('pty');
          yield { type: 'pty', on };
          break;
        }
        case FrameType.InputMark: {
          const { id } = parseObject(payload);
          if (!Number.isSafeInteger(id)) throw new ProtocolError('input mark');
          yield { type: 'inputMark', id: id as number };
          break;
        }
        default:
          throw new ProtocolError(`frame type ${type}`);
      }
    }
  }
}

/** Decodes what a VM process sends; its fields are trusted because the socket lies in a directory only this user can enter. */
export class VmMessageReader {
  readonly #frames = new FrameReader();

  /** The messages completed by `chunk`; throws ProtocolError. */
  *push(chunk: Uint8Array): Generator<VmMessage> {
    for (const { type, payload } of this.#frames.push(chunk)) {
      switch (type) {
        case FrameType.Welcome:
          yield { type: 'welcome', ...(parseObject(payload) as unknown as Payload<'welcome'>) };
          break;
        case FrameType.Output:
          yield { type: 'output', bytes: payload };
          break;
        case FrameType.Notice:
          yield { type: 'notice', ...(parseObject(payload) as { text: string }) };
          break;
        case FrameType.Ended:
          yield { type: 'ended', ...(parseObject(payload) as { outcome: VmOutcome; stats: VmStats | null }) };
          break;
        case FrameType.State:
          yield { type: 'state', ...(parseObject(payload) as unknown as Payload<'state'>) };
          break;
        case FrameType.Sample:
          yield { type: 'sample', ...(parseObject(payload) as unknown as Payload<'sample'>) };
          break;
        case FrameType.Log:
          yield { type: 'log', ...(parseObject(payload) as unknown as Payload<'log'>) };
          break;
        case FrameType.Resized:
          yield { type: 'resized', ...(parseObject(payload) as unknown as Payload<'resized'>) };
          break;
        case FrameType.PtyOffered:
          yield { type: 'ptyOffered', ...(parseObject(payload) as unknown as Payload<'ptyOffered'>) };
          break;
        case FrameType.InputTaken:
          yield { type: 'inputTaken', ...(parseObject(payload) as unknown as Payload<'inputTaken'>) };
          break;
        default:
          throw new ProtocolError(`frame type ${type}`);
      }
    }
  }
}

type Payload<Type extends VmMessage['type']> = Omit<Extract<VmMessage, { type: Type }>, 'type'>;

function parseObject(payload: Buffer): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(payload.toString('utf8'));
  } catch {
    throw new ProtocolError('payload is not JSON');
  }
  if (typeof value !== 'object' || value === null) throw new ProtocolError('payload is not an object');
  return value as Record<string, unknown>;
}

function consoleSize(value: unknown): ConsoleSize {
  const { columns, rows } = (value ?? {}) as Record<string, unknown>;
  const valid = (n: unknown): n is number => typeof n === 'number' && Number.isInteger(n) && n > 0 && n < 65536;
  if (!valid(columns) || !valid(rows)) throw new ProtocolError('console size');
  return { columns, rows };
}
