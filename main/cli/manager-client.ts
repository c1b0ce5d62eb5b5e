// SPDX-License-Identifier: MIT
// The command line's way to a manager: the one that is running, or one of its own for the time of the command.
import type * as net from 'node:net';
import { pathToFileURL } from 'node:url';
import { pvError } from '../../engine/errors.ts';
import { MessageConnection } from '../contract/connection.ts';
import type { Connection } from '../contract/wire.ts';
import { dataDirectory } from '../library/directories.ts';
import { reportOf } from '../manager/endings.ts';
import { LineReader, readManagerEntry } from '../serve/local-socket.ts';
import type { ManagerEntry } from '../serve/local-socket.ts';
import { connect } from '../vm/runtime-directory.ts';

export interface ManagerClient {
  connection: Connection;
  /** Ends the connection; machines run on. */
  close(): void;
}

/** Longest line from the manager; reports and scrollbacks are long. */
const LINE_LIMIT = 256 * 1024 * 1024;

/** Machines of tests of the command line. */
export function testMachineModule(): string | undefined {
  const substitute = process.env.PARAVANE_TEST_MACHINE;
  return substitute === undefined ? undefined : pathToFileURL(substitute).href;
}

/** Connects to the running manager of the user's library; when nobody listens any more, this process manages for itself. */
export async function openManager(): Promise<ManagerClient> {
  const entry = readManagerEntry(dataDirectory());
  if (entry !== null) {
    try {
      return overSocket(await connect(entry), entry);
    } catch {
      // A manager that was killed left its entry behind; the next one replaces it.
    }
  }
  return inProcess();
}

function overSocket(socket: net.Socket, { token }: ManagerEntry): ManagerClient {
  const connection = new MessageConnection((text) => socket.write(`${text}\n`));
  const lines = new LineReader(LINE_LIMIT);
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => {
    for (const line of lines.push(chunk)) connection.receive(line);
  });
  socket.on('close', () => connection.close(reportOf(pvError('manager-lost', {}))));
  socket.write(`${token}\n`);
  return { connection, close: () => socket.destroy() };
}

async function inProcess(): Promise<ManagerClient> {
  // Loaded only when needed: most commands find a manager running.
  const { Manager } = await import('../manager/manager.ts');
  const { Gate } = await import('../manager/gate.ts');
  const { Session } = await import('../manager/session.ts');
  const machineModule = testMachineModule();
  const manager = await Manager.open({ resident: false, ...(machineModule !== undefined && { machineModule }) });
  const gate = new Gate(manager);
  const session = new Session('command', {
    send: (text) => connection.receive(text),
    backlog: () => 0,
    close: () => undefined,
  });
  const connection: MessageConnection = new MessageConnection((text) => void gate.receive(session, text));
  manager.addSession(session);
  return { connection, close: () => manager.close() };
}
