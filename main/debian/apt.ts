// SPDX-License-Identifier: MIT
// Asks the host's apt for packages without being root: reads its lists, keeps private ones when those are missing or stale.
import { execFile, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { promisify } from 'node:util';
import { pvError } from '../../engine/errors.ts';
import { cacheDirectory, cacheSubdirectory } from './cache-directory.ts';

const run = promisify(execFile);

/** What apt knows about the version of a package it would install. */
export interface PackageRecord {
  name: string;
  version: string;
  architecture: string;
  /** Bytes of the .deb file. */
  size: number;
  /** Names of packages this one depends on, alternatives left out. */
  depends: string[];
}

/** Where apt looks: the system's lists, or private ones that this user may update. */
export type AptLists = 'system' | 'private';

/** The tools' messages are read, so they have to be in English. */
const environment = (): NodeJS.ProcessEnv => ({ ...process.env, LC_ALL: 'C' });

/** Options that give apt a state of its own below the cache; sources and keys stay the system's. */
function aptOptions(lists: AptLists): string[] {
  // Without this, apt run by root drops to a user who may not write into our directories.
  const options = ['-q', '-o', 'APT::Sandbox::User=root'];
  if (lists === 'system') return options;
  const state = cacheSubdirectory('apt');
  fs.mkdirSync(path.join(state, 'lists', 'partial'), { recursive: true });
  fs.mkdirSync(path.join(state, 'archives', 'partial'), { recursive: true });
  return [
    ...options,
    ...['-o', `Dir::State::lists=${path.join(state, 'lists')}`],
    ...['-o', `Dir::Cache=${state}`],
    ...['-o', `Dir::Cache::archives=${path.join(state, 'archives')}`],
  ];
}

/** Fails with a clear error when this host has no apt or dpkg. */
export function requireDebianTools(): void {
  const directories = (process.env.PATH ?? '').split(path.delimiter);
  for (const tool of ['apt-get', 'apt-cache', 'dpkg-deb']) {
    if (!directories.some((directory) => fs.existsSync(path.join(directory, tool)))) {
      throw pvError('debian-tools-missing', { tool });
    }
  }
}

/** The record of the version of `name` that apt would install, or null when the lists do not have it. */
export async function showPackage(name: string, lists: AptLists): Promise<PackageRecord | null> {
  let text: string;
  try {
    const policy = await run('apt-cache', [...aptOptions(lists), 'policy', name], { env: environment() });
    const candidate = /^\s*Candidate: (\S+)$/m.exec(policy.stdout)?.[1];
    if (candidate === undefined || candidate === '(none)') return null;
    text = (await run('apt-cache', [...aptOptions(lists), 'show', `${name}=${candidate}`], { env: environment() }))
      .stdout;
  } catch {
    return null;
  }
  return parseRecord(text.split('\n\n')[0]);
}

/** Parses one stanza of `apt-cache show` (deb822); null when a needed field is missing. */
export function parseRecord(stanza: string): PackageRecord | null {
  const field = (name: string): string | undefined => new RegExp(`^${name}: (.*)$`, 'm').exec(stanza)?.[1];
  const [name, version, architecture, size] = ['Package', 'Version', 'Architecture', 'Size'].map(field);
  if (name === undefined || version === undefined || architecture === undefined) return null;
  const depends = (field('Depends') ?? '')
    .split(',')
    .filter((clause) => clause.trim() !== '' && !clause.includes('|'))
    .map((clause) => clause.trim().split(/[\s(:]/)[0]);
  return { name, version, architecture, size: Number(size ?? 0), depends };
}

/** Fetches the package lists into the private state. Throws PvError. */
export async function updatePrivateLists(): Promise<void> {
  try {
    await run('apt-get', [...aptOptions('private'), '-o', 'APT::Update::Error-Mode=any', 'update'], {
      env: environment(),
    });
  } catch (error) {
    throw pvError('debian-lists-unavailable', { detail: lastLine(error) }, error);
  }
}

/**
 * Downloads the .deb of exactly this version into `directory`, calling `progress` with the bytes that have arrived.
 * apt checks the file against its signed lists. Returns the file's path; throws PvError.
 */
export async function downloadPackage(
  record: PackageRecord,
  directory: string,
  lists: AptLists,
  progress: (bytes: number) => void,
  signal?: AbortSignal,
): Promise<string> {
  const debFile = (): string | undefined => fs.readdirSync(directory).find((file) => file.endsWith('.deb'));
  const timer = setInterval(() => {
    const file = debFile();
    const status = file && fs.statSync(path.join(directory, file), { throwIfNoEntry: false });
    if (status) progress(status.size);
  }, 200);
  try {
    const args = [...aptOptions(lists), 'download', `${record.name}=${record.version}`];
    await runIn(directory, 'apt-get', args, signal);
  } catch (error) {
    signal?.throwIfAborted();
    throw pvError('debian-download-failed', { name: record.name, detail: lastLine(error) }, error);
  } finally {
    clearInterval(timer);
  }
  const file = debFile();
  if (file === undefined) throw pvError('debian-download-failed', { name: record.name, detail: 'apt wrote no file' });
  return path.join(directory, file);
}

/** Unpacks a .deb's files into `directory`. Throws PvError. */
export async function unpackPackage(name: string, debFile: string, directory: string): Promise<void> {
  try {
    await run('dpkg-deb', ['-x', debFile, directory], { env: environment() });
  } catch (error) {
    throw pvError('debian-unpack-failed', { name, detail: lastLine(error), cache: cacheDirectory() }, error);
  }
}

/** Runs a command in a directory; rejects with its standard error. */
function runIn(directory: string, command: string, args: string[], signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: directory,
      env: environment(),
      stdio: ['ignore', 'ignore', 'pipe'],
      ...(signal && { signal }),
    });
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.on('error', reject);
    child.on('close', (code) =>
      code === 0 ? resolve() : reject(Object.assign(new Error(`code ${code}`), { stderr })),
    );
  });
}

/** The most telling line of a failed command: its first line marked as an error, else the last one. */
function lastLine(error: unknown): string {
  const { stderr, message } = error as { stderr?: string; message: string };
  const lines = (stderr ?? '').split('\n').filter((line) => line.trim() !== '');
  const line = lines.find((candidate) => candidate.startsWith('E: ')) ?? lines.at(-1) ?? message;
  return line.replace(/^[EW]: /, '').replace(/\.$/, '');
}
