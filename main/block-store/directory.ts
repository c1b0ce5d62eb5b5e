// SPDX-License-Identifier: MIT
// Where a store lies, what its files are called, and which file-system calls it makes.
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { cacheDirectory } from '../debian/cache-directory.ts';
import { storeTag } from './format.ts';

/** The file-system calls of the store; tests put failing ones in their place. */
export type StoreFiles = Pick<
  typeof fs,
  | 'closeSync'
  | 'fdatasyncSync'
  | 'fstatSync'
  | 'ftruncateSync'
  | 'lstatSync'
  | 'mkdirSync'
  | 'openSync'
  | 'readdirSync'
  | 'readFileSync'
  | 'readSync'
  | 'renameSync'
  | 'rmdirSync'
  | 'statSync'
  | 'unlinkSync'
  | 'utimesSync'
  | 'writeFileSync'
  | 'writeSync'
>;

export type StoreLog = (level: 'info' | 'warn' | 'error', text: string) => void;

/** What a store depends on besides its options. */
export interface StoreEnvironment {
  files: StoreFiles;
  /** Milliseconds since 1970. */
  now(): number;
}

export const systemEnvironment: StoreEnvironment = { files: fs, now: () => Date.now() };

/** Values are only for the engine version and the kind of use that they were made by. */
export interface StoreIdentity {
  /** The library's directory: that of all engine versions and kinds. */
  directory: string;
  engineVersion: string;
  kind: string;
}

const NAME = /^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$/;
const SEGMENT = /^[0-9a-f]{16}\.blocks$/;
const TEMPORARY = /^[0-9a-f]{16}\.blocks\.tmp$/;
const TEMPORARY_SUFFIX = '.tmp';

/** Of one store: who compacts and evicts. */
export const LOCK_NAME = 'maintenance.lock';

/** The library used unless another is chosen. */
export const defaultLibrary = (): string => path.join(cacheDirectory(), 'blocks');

export const isSegmentName = (name: string): boolean => SEGMENT.test(name);
export const isTemporaryName = (name: string): boolean => TEMPORARY.test(name);
/** True for every name that the store gives to a file. */
export const isStoreFileName = (name: string): boolean =>
  isSegmentName(name) || isTemporaryName(name) || name.startsWith(LOCK_NAME);

/** A file of a store, as listed. */
export interface ListedFile {
  name: string;
  size: number;
  mtimeMs: number;
}

/** The directory of one store: `<library>/<engine version>/<kind>`. */
export class StoreDirectory {
  readonly path: string;
  readonly library: string;
  readonly engineVersion: string;
  /** What the headers of the store's segments carry. */
  readonly tag: Buffer;
  readonly #files: StoreFiles;

  /** Throws RangeError when a name cannot be one of a directory: it comes from the program, never from a guest. */
  constructor(identity: StoreIdentity, files: StoreFiles) {
    for (const name of [identity.engineVersion, identity.kind]) {
      if (!NAME.test(name)) throw new RangeError(`"${name}" cannot name a block store`);
    }
    this.library = identity.directory;
    this.engineVersion = identity.engineVersion;
    this.path = path.join(identity.directory, identity.engineVersion, identity.kind);
    this.tag = storeTag(identity.engineVersion, identity.kind);
    this.#files = files;
  }

  file(name: string): string {
    return path.join(this.path, name);
  }

  /** Creates what is missing, for this user only. */
  create(): void {
    this.#files.mkdirSync(this.path, { recursive: true, mode: 0o700 });
  }

  /**
   * What speaks against using the directory: code is read from it, so nobody else may have been able to write there. Null when nothing
   * does; a directory that does not exist yet is fine.
   */
  objection(): string | null {
    const status = statusOf(this.#files, this.path);
    if (status === null) return null;
    if (!status.isDirectory()) return 'it is not a directory';
    if (process.geteuid === undefined) return null;
    if (status.uid !== process.geteuid() && status.uid !== 0) return 'it belongs to another user';
    if ((status.mode & 0o022) !== 0) return 'other users can write to it';
    return null;
  }

  /** Segments and temporary files; everything else in the directory is not the store's and is left alone. */
  list(): ListedFile[] {
    return listStoreFiles(this.#files, this.path).filter(({ name }) => isSegmentName(name) || isTemporaryName(name));
  }

  /** A name that no file has. */
  newSegmentName(): string {
    return `${randomBytes(8).toString('hex')}.blocks`;
  }

  temporaryName(segmentName: string): string {
    return segmentName + TEMPORARY_SUFFIX;
  }

  /** Removes a file; another process may have been faster, and one that cannot be removed does no harm. */
  remove(name: string): void {
    removeQuietly(this.#files, this.file(name));
  }
}

/** The store's files in `directory`; none when it cannot be read. */
export function listStoreFiles(files: StoreFiles, directory: string): ListedFile[] {
  const listed: ListedFile[] = [];
  for (const name of namesIn(files, directory)) {
    if (!isStoreFileName(name)) continue;
    const status = statusOf(files, path.join(directory, name));
    if (status?.isFile()) listed.push({ name, size: status.size, mtimeMs: status.mtimeMs });
  }
  return listed;
}

/** The status of a path itself, links not followed; null when it is not there or not accessible. */
export function statusOf(files: StoreFiles, file: string): fs.Stats | null {
  try {
    return files.lstatSync(file);
  } catch {
    return null;
  }
}

/** The names in a directory; none when it cannot be read. */
export function namesIn(files: StoreFiles, directory: string): string[] {
  try {
    return files.readdirSync(directory);
  } catch {
    return [];
  }
}

export function removeQuietly(files: StoreFiles, file: string): void {
  try {
    files.unlinkSync(file);
  } catch {
    // Already gone, or not ours to remove.
  }
}
