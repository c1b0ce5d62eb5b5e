// SPDX-License-Identifier: MIT
// Guest requests to xenstore: from the payload of a message to a store operation and its reply (docs/misc/xenstore.txt).

import { formatPermissions, parsePermissions } from './permissions.ts';
import { domainPath, type Store, type StoreConnection } from './store.ts';
import { MAX_PAYLOAD, StoreError, Xs, joinStrings, splitStrings, toBytes, toText, type Message } from './wire.ts';

/** What to send for a request. */
export interface Reply {
  readonly message: Message;
  /** A new watch's first event, to be sent right after the reply. */
  readonly firstEvent?: { readonly path: string; readonly token: string };
  /** Set when the request was refused. */
  readonly refused?: StoreError;
}

const OK = joinStrings(['OK']);

/** Carries out a request of an ordinary domain. Never throws: refusals become messages of type `error`. */
export function handleRequest(store: Store, connection: StoreConnection, request: Message): Reply {
  const reply = (type: number, payload: Uint8Array): Message => ({
    type,
    requestId: request.requestId,
    transactionId: request.transactionId,
    payload,
  });
  try {
    if (request.type === Xs.watch) {
      const [path, token] = strings(request.payload);
      store.addWatch(connection, path, token);
      return { message: reply(Xs.watch, OK), firstEvent: { path, token } };
    }
    const payload = perform(store, connection, request);
    if (payload.length > MAX_PAYLOAD) throw new StoreError('E2BIG', 'reply too long');
    return { message: reply(request.type, payload) };
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    return { message: reply(Xs.error, joinStrings([error.errno])), refused: error };
  }
}

function perform(store: Store, connection: StoreConnection, request: Message): Uint8Array {
  const { type, payload, transactionId: tx } = request;
  switch (type) {
    case Xs.control:
    case Xs.introduce:
    case Xs.release:
    case Xs.resume:
    case Xs.setTarget:
      throw new StoreError('EACCES', 'only for the control domain');
  }
  if (tx !== 0 && !store.hasTransaction(connection, tx)) throw new StoreError('ENOENT', `no transaction ${String(tx)}`);

  switch (type) {
    case Xs.directory:
      return joinStrings(store.directory(connection, tx, single(payload)).names);
    case Xs.directoryPart: {
      const [path, offset] = strings(payload);
      return directoryPart(store.directory(connection, tx, path), offset);
    }
    case Xs.read:
      return store.read(connection, tx, single(payload));
    case Xs.getPerms:
      return joinStrings(formatPermissions(store.node(connection, tx, single(payload)).permissions));
    case Xs.write: {
      const nul = payload.indexOf(0);
      if (nul < 0) throw new StoreError('EINVAL', 'no path');
      store.edit(connection, tx, {
        op: 'write',
        path: toText(payload.subarray(0, nul)),
        value: payload.slice(nul + 1),
      });
      return OK;
    }
    case Xs.mkdir:
      store.edit(connection, tx, { op: 'mkdir', path: single(payload) });
      return OK;
    case Xs.rm:
      store.edit(connection, tx, { op: 'rm', path: single(payload) });
      return OK;
    case Xs.setPerms: {
      const [path, ...permissions] = strings(payload);
      store.edit(connection, tx, { op: 'setPerms', path, permissions: parsePermissions(permissions) });
      return OK;
    }
    case Xs.unwatch: {
      const [path, token] = strings(payload);
      store.removeWatch(connection, path, token);
      return OK;
    }
    case Xs.resetWatches:
      store.resetWatches(connection);
      return OK;
    case Xs.transactionStart:
      if (tx !== 0) throw new StoreError('EBUSY', 'transactions do not nest');
      return joinStrings([String(store.startTransaction(connection))]);
    case Xs.transactionEnd: {
      const verdict = single(payload);
      if (verdict !== 'T' && verdict !== 'F') throw new StoreError('EINVAL', 'neither T nor F');
      store.endTransaction(connection, tx, verdict === 'T');
      return OK;
    }
    case Xs.getDomainPath:
      return joinStrings([domainPath(domidOf(single(payload)))]);
    case Xs.isDomainIntroduced:
      return joinStrings([store.isIntroduced(domidOf(single(payload))) ? 'T' : 'F']);
    default:
      throw new StoreError('ENOSYS', `message type ${String(type)}`);
  }
}

/** The only string of a payload. */
function single(payload: Uint8Array): string {
  const all = splitStrings(payload);
  if (all.length !== 1) throw new StoreError('EINVAL', 'more than one string');
  return all[0];
}

/** The strings of a payload that must have at least two. */
function strings(payload: Uint8Array): [string, string, ...string[]] {
  const all = splitStrings(payload);
  if (all.length < 2) throw new StoreError('EINVAL', 'too few strings');
  return all as [string, string, ...string[]];
}

function domidOf(text: string): number {
  if (!/^\d{1,5}$/.test(text)) throw new StoreError('EINVAL', 'not a domain id');
  return Number(text);
}

/**
 * A part of a long directory: generation NUL, then the names from byte `offset` of the whole list that fit; an empty
 * name marks the end of the list.
 */
function directoryPart(directory: { names: string[]; generation: number }, offset: string): Uint8Array {
  if (!/^\d{1,10}$/.test(offset)) throw new StoreError('EINVAL', 'not an offset');
  const generation = joinStrings([String(directory.generation)]);
  const list = joinStrings(directory.names);
  const from = Math.min(Number(offset), list.length);
  const room = MAX_PAYLOAD - generation.length - 1;
  let to = list.length;
  if (to - from > room) {
    // Only whole names: end after the last NUL that fits.
    to = list.subarray(0, from + room).lastIndexOf(0) + 1;
  }
  const part = list.subarray(from, Math.max(from, to));
  const end = to === list.length ? toBytes('\0') : new Uint8Array(0);
  const reply = new Uint8Array(generation.length + part.length + end.length);
  reply.set(generation);
  reply.set(part, generation.length);
  reply.set(end, generation.length + part.length);
  return reply;
}
