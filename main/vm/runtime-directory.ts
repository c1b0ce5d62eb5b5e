// SPDX-License-Identifier: MIT
// The per-user directory of running VMs: one entry file (how to reach it) and one socket for each.
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as net from 'node:net';
import * as os from 'node:os';
import * as path from 'node:path';
import { pvError } from '../../engine/errors.ts';
import { machineLogFile } from './machine-log.ts';

/** What a VM is known by before its process runs. */
export interface VmIdentity {
  id: string;
  name: string;
  /** Path of the unix socket, or name of the Windows pipe. */
  socket: string;
  /** Must be presented when connecting: on Windows, pipes are not protected by a directory. */
  token: string;
  /** Milliseconds since 1970. */
  startedAt: number;
  /** Folder of a machine of the library; null for one that exists only while it runs. */
  folder: string | null;
}

/** What the entry file of a running VM says. */
export interface VmEntry extends VmIdentity {
  /** Process id of the VM process. */
  pid: number;
}

/** How long a VM process may take to accept a connection before it counts as silent. */
const CONNECT_TIMEOUT_MS = 3000;

const LOG_LIFETIME_MS = 7 * 24 * 3600 * 1000;

/**
 * Path of the directory, created with access for this user only.
 * `PARAVANE_RUNTIME_DIR` overrides it; throws PvError when another user could have put something there.
 */
export function runtimeDirectory(): string {
  const directory = process.env.PARAVANE_RUNTIME_DIR || defaultDirectory();
  try {
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
    const status = fs.lstatSync(directory);
    if (!status.isDirectory()) throw new Error('it is not a directory');
    if (process.getuid !== undefined) {
      if (status.uid !== process.getuid()) throw new Error('it belongs to another user');
      if ((status.mode & 0o077) !== 0) throw new Error('other users can enter it');
    }
  } catch (error) {
    throw pvError('runtime-directory-unsafe', { path: directory, detail: (error as Error).message }, error);
  }
  return directory;
}

function defaultDirectory(): string {
  if (process.platform === 'win32') {
    return path.join(process.env.LOCALAPPDATA ?? os.tmpdir(), 'Paravane', 'run');
  }
  const base = process.env.XDG_RUNTIME_DIR;
  if (base && fs.existsSync(base)) return path.join(base, 'paravane');
  return path.join(os.tmpdir(), `paravane-${process.getuid?.() ?? 0}`);
}

/** Makes the identity of a new VM; nothing is written yet. A machine of the library brings its own identifier and folder. */
export function newIdentity(name: string | null, machine?: { id: string; folder: string }): VmIdentity {
  const unique = randomBytes(4).toString('hex');
  const id = machine?.id ?? unique;
  return {
    id,
    name: name ?? `vm-${id}`,
    // Never the socket of an earlier run, which may not have ended completely.
    socket: socketPath(unique),
    token: randomBytes(16).toString('hex'),
    startedAt: Date.now(),
    folder: machine?.folder ?? null,
  };
}

/** Where a program of this user listens: a path in the runtime directory, or the name of a pipe. */
export function socketPath(name: string): string {
  return process.platform === 'win32' ? `\\\\.\\pipe\\paravane-${name}` : path.join(runtimeDirectory(), `${name}.sock`);
}

const entryPath = (id: string): string => path.join(runtimeDirectory(), `${id}.json`);

/** Path of a VM's log: in its machine's folder if it has one. */
export const logPath = ({ id, folder }: Pick<VmIdentity, 'id' | 'folder'>): string =>
  folder === null ? path.join(runtimeDirectory(), `${id}.log`) : machineLogFile(folder);

/** Announces a VM that already listens on its socket. */
export function writeEntry(entry: VmEntry): void {
  const temporary = `${entryPath(entry.id)}.tmp`;
  fs.writeFileSync(temporary, JSON.stringify(entry), { mode: 0o600 });
  fs.renameSync(temporary, entryPath(entry.id));
}

/** Removes a VM's entry and socket; its log stays when `keepLog` is set or when it is the log of a machine of the library. */
export function removeEntry(entry: Pick<VmEntry, 'id' | 'socket' | 'folder'>, keepLog = false): void {
  fs.rmSync(entryPath(entry.id), { force: true });
  if (process.platform !== 'win32') fs.rmSync(entry.socket, { force: true });
  if (!keepLog && entry.folder === null) fs.rmSync(logPath(entry), { force: true });
}

/** Logs of VMs that failed stay for a week. */
export function removeOldLogs(): void {
  const directory = runtimeDirectory();
  for (const file of fs.readdirSync(directory)) {
    if (!file.endsWith('.log')) continue;
    const log = path.join(directory, file);
    const modified = fs.statSync(log, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
    if (Date.now() - modified > LOG_LIFETIME_MS && !fs.existsSync(entryPath(path.basename(file, '.log'))))
      fs.rmSync(log, { force: true });
  }
}

function readEntry(file: string): VmEntry | null {
  try {
    const entry = JSON.parse(fs.readFileSync(file, 'utf8')) as VmEntry;
    const known = typeof entry.id === 'string' && typeof entry.socket === 'string' && entry.folder !== undefined;
    return known ? entry : null;
  } catch {
    return null;
  }
}

/** Connects to a VM's socket (or another of this directory); rejects with the system's error. */
export function connect(entry: Pick<VmEntry, 'socket'>): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(entry.socket);
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => socket.destroy(new Error('no connection within 3 seconds')));
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.setTimeout(0);
      socket.removeListener('error', reject);
      resolve(socket);
    });
  });
}

/** True when nobody can be listening any more: the error says so itself, no guess from the process id. */
export function provesGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ECONNREFUSED' || code === 'ENOENT';
}

/** The running VMs, oldest first. Entries whose process is gone are removed on the way. */
export async function listRunning(): Promise<VmEntry[]> {
  const directory = runtimeDirectory();
  const running: VmEntry[] = [];
  for (const file of fs.readdirSync(directory)) {
    if (!file.endsWith('.json')) continue;
    const entry = readEntry(path.join(directory, file));
    // An unreadable entry may be from another version; it is left alone.
    if (entry === null) continue;
    try {
      (await connect(entry)).destroy();
      running.push(entry);
    } catch (error) {
      // The log of a process that died is what is left to find out why.
      if (provesGone(error)) removeEntry(entry, true);
      else running.push(entry);
    }
  }
  return running.sort((a, b) => a.startedAt - b.startedAt);
}

/** The running VM with this identifier or name; throws PvError when there is none or more than one. */
export async function findRunning(name: string): Promise<VmEntry> {
  const running = await listRunning();
  const byId = running.find((entry) => entry.id === name);
  if (byId) return byId;
  const byName = running.filter((entry) => entry.name === name);
  if (byName.length === 0) throw pvError('vm-not-found', { name });
  if (byName.length > 1) throw pvError('vm-name-ambiguous', { name });
  return byName[0];
}
