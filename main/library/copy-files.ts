// SPDX-License-Identifier: MIT
// Copies of files and whole folders that are on the disk when they are said to be: shared blocks where the file system can, else piece by
// piece, with progress, and able to stop.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describeWriteError, syncDirectory } from '../vm/atomic-file.ts';

/** Who follows a copy, and who may stop it. */
export interface CopyOptions {
  signal?: AbortSignal | undefined;
  /** Bytes copied so far, of how many. */
  tell?: ((done: number, total: number) => void) | undefined;
}

const PIECE_BYTES = 1024 * 1024;

interface Entry {
  /** Below the folder that is copied; parents come before what is in them. */
  relative: string;
  kind: 'folder' | 'file' | 'link';
  size: number;
}

/**
 * Copies what is in the folder `from` into `to`, which exists. `skip` names entries of the top level that are left out. Sockets, pipes and devices
 * are not copied. Throws `disk-full`, `file-write-failed`, or the reason of the signal; what was copied so far then remains.
 */
export async function copyFolder(
  from: string,
  to: string,
  skip: (name: string) => boolean,
  { signal, tell }: CopyOptions = {},
): Promise<void> {
  try {
    const entries = await listed(from, skip);
    const total = entries.reduce((sum, { size }) => sum + size, 0);
    let before = 0;
    for (const { relative, kind, size } of entries) {
      const [source, target] = [path.join(from, relative), path.join(to, relative)];
      if (kind === 'folder') await fs.promises.mkdir(target, { mode: 0o700 });
      else if (kind === 'link') await fs.promises.symlink(await fs.promises.readlink(source), target);
      else await copyBytes(source, target, { signal, tell: (done) => tell?.(before + done, total) });
      before += size;
    }
    for (const { relative, kind } of entries) if (kind === 'folder') syncDirectory(path.join(to, relative));
    syncDirectory(to);
  } catch (error) {
    signal?.throwIfAborted();
    throw describeWriteError(error, to);
  }
}

/** Copies one file to a path that must not exist yet. Throws as `copyFolder` does. */
export async function copyFile(from: string, to: string, { signal, tell }: CopyOptions = {}): Promise<void> {
  try {
    const { size } = await fs.promises.stat(from);
    await copyBytes(from, to, { signal, tell: (done) => tell?.(done, size) });
    syncDirectory(path.dirname(to));
  } catch (error) {
    signal?.throwIfAborted();
    throw describeWriteError(error, to);
  }
}

async function listed(folder: string, skip: (name: string) => boolean): Promise<Entry[]> {
  const entries: Entry[] = [];
  const walk = async (below: string): Promise<void> => {
    for (const found of await fs.promises.readdir(path.join(folder, below), { withFileTypes: true })) {
      if (below === '' && skip(found.name)) continue;
      const relative = path.join(below, found.name);
      if (found.isDirectory()) {
        entries.push({ relative, kind: 'folder', size: 0 });
        await walk(relative);
      } else if (found.isSymbolicLink()) entries.push({ relative, kind: 'link', size: 0 });
      else if (found.isFile())
        entries.push({ relative, kind: 'file', size: (await fs.promises.stat(path.join(folder, relative))).size });
    }
  };
  await walk('');
  return entries;
}

async function copyBytes(from: string, to: string, { signal, tell }: CopyOptions): Promise<void> {
  signal?.throwIfAborted();
  if (await sharesBlocks(from, to)) return;
  const source = await fs.promises.open(from, 'r');
  try {
    const target = await fs.promises.open(to, 'wx', 0o600);
    try {
      const piece = Buffer.allocUnsafe(PIECE_BYTES);
      for (let at = 0; ;) {
        const { bytesRead } = await source.read(piece, 0, PIECE_BYTES, at);
        if (bytesRead === 0) break;
        signal?.throwIfAborted();
        await target.writeFile(piece.subarray(0, bytesRead));
        at += bytesRead;
        tell?.(at, at);
      }
      await target.sync();
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
}

/** Takes no time and no room where the file system can (Btrfs, XFS, APFS); false where it cannot. */
async function sharesBlocks(from: string, to: string): Promise<boolean> {
  try {
    await fs.promises.copyFile(from, to, fs.constants.COPYFILE_EXCL | fs.constants.COPYFILE_FICLONE_FORCE);
    const copy = await fs.promises.open(to, 'r+');
    await copy.sync().finally(() => copy.close());
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw error;
    // A refused clone may leave an empty file.
    await fs.promises.rm(to, { force: true });
    return false;
  }
}
