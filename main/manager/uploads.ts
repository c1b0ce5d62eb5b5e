// SPDX-License-Identifier: MIT
// Files that a page in a browser hands over in pieces, because a browser does not tell where a dropped file lies.
import { randomUUID } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { pvError } from '../../engine/errors.ts';
import { describeWriteError } from '../vm/atomic-file.ts';

/** Larger than any kernel or initrd; disks will be opened where they are. */
const UPLOAD_LIMIT = 2 * 1024 ** 3;
/** What was uploaded and never used is removed after this time. */
const LIFETIME_MS = 7 * 24 * 3600 * 1000;

interface Upload {
  directory: string;
  file: string;
  descriptor: number;
  size: number;
  arrived: number;
  /** Whoever began it; nobody else may go on with it. */
  owner: object;
}

export class Uploads {
  readonly #directory: string;
  readonly #uploads = new Map<string, Upload>();

  constructor(directory: string) {
    this.#directory = directory;
  }

  begin(name: string, size: number, owner: object): string {
    if (size > UPLOAD_LIMIT) throw pvError('upload-too-large', { limit: UPLOAD_LIMIT });
    this.#removeOld();
    const id = randomUUID();
    const directory = path.join(this.#directory, id);
    // Only the last part of the name, and nothing that would leave the directory or hide the file.
    const base = path.basename(name.replaceAll('\\', '/')).replace(/^\.+/, '') || 'file';
    const file = path.join(directory, base);
    try {
      fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
      const descriptor = fs.openSync(file, 'wx', 0o600);
      this.#uploads.set(id, { directory, file, descriptor, size, arrived: 0, owner });
    } catch (error) {
      fs.rmSync(directory, { recursive: true, force: true });
      throw describeWriteError(error, file);
    }
    return id;
  }

  /** Takes the next piece. Throws `upload-unknown`, `upload-out-of-order`, `upload-too-large`, `disk-full`. */
  chunk(id: string, offset: number, bytes: Uint8Array, owner: object): void {
    const upload = this.#get(id, owner);
    if (offset !== upload.arrived) throw pvError('upload-out-of-order', { expected: upload.arrived, offset });
    if (offset + bytes.length > upload.size) throw pvError('upload-too-large', { limit: upload.size });
    try {
      fs.writeSync(upload.descriptor, bytes);
    } catch (error) {
      this.cancel(id, owner);
      throw describeWriteError(error, upload.file);
    }
    upload.arrived += bytes.length;
  }

  /** Ends the upload and returns the file's path. */
  end(id: string, owner: object): string {
    const upload = this.#get(id, owner);
    if (upload.arrived !== upload.size)
      throw pvError('upload-out-of-order', { expected: upload.arrived, offset: upload.size });
    fs.closeSync(upload.descriptor);
    this.#uploads.delete(id);
    return upload.file;
  }

  cancel(id: string, owner: object): void {
    const upload = this.#get(id, owner);
    fs.closeSync(upload.descriptor);
    fs.rmSync(upload.directory, { recursive: true, force: true });
    this.#uploads.delete(id);
  }

  /** Drops what this owner has not ended. */
  cancelOf(owner: object): void {
    for (const [id, upload] of this.#uploads) if (upload.owner === owner) this.cancel(id, owner);
  }

  cancelAll(): void {
    for (const [id, { owner }] of this.#uploads) this.cancel(id, owner);
  }

  #get(id: string, owner: object): Upload {
    const upload = this.#uploads.get(id);
    if (upload === undefined || upload.owner !== owner) throw pvError('upload-unknown', {});
    return upload;
  }

  #removeOld(): void {
    if (!fs.existsSync(this.#directory)) return;
    for (const name of fs.readdirSync(this.#directory)) {
      const directory = path.join(this.#directory, name);
      const age = Date.now() - (fs.statSync(directory, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
      if (age > LIFETIME_MS && !this.#uploads.has(name)) fs.rmSync(directory, { recursive: true, force: true });
    }
  }
}
