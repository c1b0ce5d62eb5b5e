// SPDX-License-Identifier: MIT
// Writer of cpio archives in the "newc" format, as Linux unpacks an initramfs from.
// Format: Documentation/driver-api/early-userspace/buffer-format.rst of Linux.
import { pvError } from '../errors.ts';
import { encodeUtf8 } from './utf8.ts';

/** One entry. `path` is relative to the root ("bin/sh"); `permissions` are the low 12 bits of the mode. */
export type CpioEntry =
  | { readonly kind: 'file'; readonly path: string; readonly permissions: number; readonly data: Uint8Array }
  | { readonly kind: 'directory'; readonly path: string; readonly permissions: number }
  | { readonly kind: 'symlink'; readonly path: string; readonly target: string }
  | {
      readonly kind: 'character-device' | 'block-device';
      readonly path: string;
      readonly permissions: number;
      readonly major: number;
      readonly minor: number;
    };

const HEADER_SIZE = 110;
const TRAILER = 'TRAILER!!!';
const BLOCK = 512;
/** File type bits of st_mode. */
const TYPE_BITS = {
  file: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
  'character-device': 0o020000,
  'block-device': 0o060000,
} as const satisfies Record<CpioEntry['kind'], number>;

/**
 * Makes an archive of `entries` in their order. The result depends on nothing else: owner and group are root, times are zero, inode
 * numbers count from 1. A directory must stand before what is in it. Throws `archive-entry-invalid`.
 */
export function writeCpio(entries: readonly CpioEntry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  let size = 0;
  const append = (part: Uint8Array): void => {
    parts.push(part);
    size += part.length;
    const padding = -size & 3;
    if (padding !== 0) {
      parts.push(new Uint8Array(padding));
      size += padding;
    }
  };
  entries.forEach((entry, index) => {
    const path = checkedPath(entry.path);
    const data =
      entry.kind === 'file' ? entry.data : entry.kind === 'symlink' ? encodeUtf8(entry.target) : new Uint8Array(0);
    const permissions = entry.kind === 'symlink' ? 0o777 : entry.permissions & 0o7777;
    const isDevice = entry.kind === 'character-device' || entry.kind === 'block-device';
    append(
      header({
        inode: index + 1,
        mode: TYPE_BITS[entry.kind] | permissions,
        links: entry.kind === 'directory' ? 2 : 1,
        dataSize: data.length,
        major: isDevice ? entry.major : 0,
        minor: isDevice ? entry.minor : 0,
        path,
      }),
    );
    append(data);
  });
  append(header({ inode: 0, mode: 0, links: 1, dataSize: 0, major: 0, minor: 0, path: encodeUtf8(TRAILER) }));

  const archive = new Uint8Array(Math.ceil(size / BLOCK) * BLOCK);
  let at = 0;
  for (const part of parts) {
    archive.set(part, at);
    at += part.length;
  }
  return archive;
}

interface HeaderFields {
  readonly inode: number;
  readonly mode: number;
  readonly links: number;
  readonly dataSize: number;
  readonly major: number;
  readonly minor: number;
  readonly path: Uint8Array;
}

/** The header with the NUL-terminated path that follows it. */
function header(fields: HeaderFields): Uint8Array {
  const numbers = [
    fields.inode,
    fields.mode,
    0, // uid
    0, // gid
    fields.links,
    0, // mtime
    fields.dataSize,
    0, // device the file is on: major
    0, // minor
    fields.major,
    fields.minor,
    fields.path.length + 1,
    0, // checksum, unused by "newc"
  ];
  const text = '070701' + numbers.map((n) => n.toString(16).padStart(8, '0')).join('');
  const bytes = new Uint8Array(HEADER_SIZE + fields.path.length + 1);
  bytes.set(encodeUtf8(text));
  bytes.set(fields.path, HEADER_SIZE);
  return bytes;
}

function checkedPath(path: string): Uint8Array {
  const isSound =
    path !== '' && path !== TRAILER && !path.startsWith('/') && !path.includes('\0') && !path.split('/').includes('..');
  if (!isSound) throw pvError('archive-entry-invalid', { path });
  return encodeUtf8(path);
}
