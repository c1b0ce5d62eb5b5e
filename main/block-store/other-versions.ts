// SPDX-License-Identifier: MIT
// Removes the stores which other engine versions have left in the same library: nobody else would.
import * as path from 'node:path';
import type { StoreDirectory, StoreEnvironment, StoreFiles } from './directory.ts';
import { listStoreFiles, namesIn, removeQuietly, statusOf } from './directory.ts';

/** What is not used for so long goes. */
const UNUSED_MS = 30 * 24 * 3600 * 1000;

interface Version {
  /** Directories of its kinds. */
  kinds: string[];
  path: string;
  bytes: number;
  /** Latest change of any segment. */
  usedMs: number;
}

/**
 * All other versions together may take one cap: the least recently used go first, and what nobody has used for a month goes anyway.
 * Removes only files that a store makes, and directories that are empty then. Never throws.
 */
export function removeOtherVersions(directory: StoreDirectory, environment: StoreEnvironment, capBytes: number): void {
  const { files, now } = environment;
  const versions = namesIn(files, directory.library)
    .filter((name) => name !== directory.engineVersion)
    .map((name) => readVersion(files, path.join(directory.library, name)))
    .filter((version) => version !== null)
    .sort((a, b) => b.usedMs - a.usedMs);
  let bytes = 0;
  for (const version of versions) {
    bytes += version.bytes;
    if (bytes <= capBytes && now() - version.usedMs <= UNUSED_MS) continue;
    bytes -= version.bytes;
    for (const kind of version.kinds) {
      for (const { name } of listStoreFiles(files, kind)) removeQuietly(files, path.join(kind, name));
      removeEmptyDirectory(files, kind);
    }
    removeEmptyDirectory(files, version.path);
  }
}

/** Null for what is not the directory of a version: anything without segments. */
function readVersion(files: StoreFiles, versionPath: string): Version | null {
  const version: Version = { path: versionPath, kinds: [], bytes: 0, usedMs: 0 };
  for (const kind of namesIn(files, versionPath)) {
    const kindPath = path.join(versionPath, kind);
    const listed = statusOf(files, kindPath)?.isDirectory() ? listStoreFiles(files, kindPath) : [];
    if (listed.length === 0) continue;
    version.kinds.push(kindPath);
    for (const { size, mtimeMs } of listed) {
      version.bytes += size;
      version.usedMs = Math.max(version.usedMs, mtimeMs);
    }
  }
  return version.kinds.length > 0 ? version : null;
}

function removeEmptyDirectory(files: StoreFiles, directory: string): void {
  try {
    files.rmdirSync(directory);
  } catch {
    // Something else is in it.
  }
}
