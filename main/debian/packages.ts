// SPDX-License-Identifier: MIT
// Debian packages by name, unpacked into the cache: downloaded once, reused when offline, never installed.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { PvError, pvError } from '../../engine/errors.ts';
import { downloadPackage, requireDebianTools, showPackage, unpackPackage, updatePrivateLists } from './apt.ts';
import type { AptLists, PackageRecord } from './apt.ts';
import { cacheDirectory, cacheSubdirectory, moveIntoPlace, temporaryDirectory } from './cache-directory.ts';
import type { Progress } from './progress.ts';

/** An unpacked package. */
export interface UnpackedPackage {
  name: string;
  version: string;
  /** Directory that holds the package's files under their installed paths, e.g. `boot/vmlinuz-...`. */
  directory: string;
}

/** A kernel from a package. */
export interface PackagedKernel {
  /** Name of the concrete package, e.g. linux-image-6.1.0-56-cloud-amd64. */
  packageName: string;
  version: string;
  /** Path of the vmlinuz file. */
  kernel: string;
}

/** A record together with the lists it is from, which are those to download by. */
interface Found {
  record: PackageRecord;
  lists: AptLists;
}

/** In the file name, as in the pool of an archive, an epoch's colon becomes %3a. */
const directoryName = ({ name, version, architecture }: PackageRecord): string =>
  `${name}_${version.replaceAll(':', '%3a')}_${architecture}`;

/** The private lists are updated at most once per process: a second try cannot find more. */
let privateUpdate: Promise<void> | null = null;

async function findPackage(name: string, progress: Progress): Promise<Found> {
  for (const lists of ['system', 'private'] as const) {
    const record = await showPackage(name, lists);
    if (record !== null) return { record, lists };
  }
  return findInFreshLists(name, progress);
}

async function findInFreshLists(name: string, progress: Progress): Promise<Found> {
  if (privateUpdate === null) progress.say('fetching the list of Debian packages');
  privateUpdate ??= updatePrivateLists();
  await privateUpdate;
  const record = await showPackage(name, 'private');
  if (record === null) throw pvError('debian-package-unknown', { name });
  return { record, lists: 'private' };
}

/**
 * The package `name` (by default the version apt would install), unpacked in the cache. Fetched when it is not there yet;
 * when nothing can be fetched, an older version in the cache serves. Throws PvError.
 */
export async function fetchPackage(name: string, progress: Progress): Promise<UnpackedPackage> {
  requireDebianTools();
  try {
    const found = await findPackage(name, progress);
    return await fetchFound(found, progress);
  } catch (error) {
    const older = error instanceof PvError ? newestInCache(name) : null;
    if (older === null) throw error;
    progress.say(`${(error as PvError).message} Using ${older.name} ${older.version} from the cache.`);
    return older;
  }
}

/** Fetches; an archive drops superseded versions, so what fails by the known lists is tried again by fresh ones. */
async function fetchFound(found: Found, progress: Progress): Promise<UnpackedPackage> {
  try {
    return await fetchExactly(found, progress);
  } catch (error) {
    if (!(error instanceof PvError) || error.code !== 'debian-download-failed') throw error;
    const fresh = await findInFreshLists(found.record.name, progress).catch(() => null);
    if (fresh === null || fresh.record.version === found.record.version) throw error;
    return fetchExactly(fresh, progress);
  }
}

async function fetchExactly({ record, lists }: Found, progress: Progress): Promise<UnpackedPackage> {
  const directory = path.join(cacheSubdirectory('debian'), directoryName(record));
  const unpacked = { name: record.name, version: record.version, directory };
  if (fs.existsSync(directory)) return unpacked;
  const temporary = temporaryDirectory();
  try {
    const transfer = progress.transfer(`${record.name} ${record.version}`, record.size);
    progress.signal?.throwIfAborted();
    const debFile = await downloadPackage(record, temporary, lists, transfer.at, progress.signal);
    transfer.done();
    const files = path.join(temporary, 'files');
    await unpackPackage(record.name, debFile, files);
    moveIntoPlace(files, directory);
  } finally {
    fs.rmSync(temporary, { recursive: true, force: true });
  }
  return unpacked;
}

/** The most recently unpacked version of a package in the cache. */
function newestInCache(name: string): UnpackedPackage | null {
  const parent = path.join(cacheDirectory(), 'debian');
  if (!fs.existsSync(parent)) return null;
  const candidates = fs
    .readdirSync(parent)
    .filter((entry) => entry.startsWith(`${name}_`))
    .map((entry) => ({ entry, time: fs.statSync(path.join(parent, entry)).ctimeMs }))
    .sort((a, b) => b.time - a.time);
  if (candidates.length === 0) return null;
  const version = candidates[0].entry.split('_')[1].replaceAll('%3a', ':');
  return { name, version, directory: path.join(parent, candidates[0].entry) };
}

/**
 * The kernel a metapackage such as `linux-image-cloud-amd64` stands for (or the package itself when it holds a kernel).
 * Offline, the newest kernel of that kind in the cache. Throws PvError.
 */
export async function fetchKernel(metapackage: string, progress: Progress): Promise<PackagedKernel> {
  const concrete = await concreteKernelPackage(metapackage, progress);
  const unpacked = await fetchPackage(concrete, progress);
  const boot = path.join(unpacked.directory, 'boot');
  const file = fs.existsSync(boot) ? fs.readdirSync(boot).find((name) => name.startsWith('vmlinuz-')) : undefined;
  if (file === undefined) throw pvError('debian-package-unknown', { name: `${concrete} with a kernel in /boot` });
  return { packageName: unpacked.name, version: unpacked.version, kernel: path.join(boot, file) };
}

async function concreteKernelPackage(metapackage: string, progress: Progress): Promise<string> {
  requireDebianTools();
  try {
    const { record } = await findPackage(metapackage, progress);
    return record.depends.find((name) => /^linux-image-\d/.test(name)) ?? metapackage;
  } catch (error) {
    const flavour = metapackage.replace(/^linux-image-/, '');
    const cached = error instanceof PvError ? newestKernelInCache(flavour) : null;
    if (cached === null) throw error;
    return cached;
  }
}

/** Name of the newest cached kernel package of a flavour: `cloud-amd64`, or `amd64` which is not to match the former. */
function newestKernelInCache(flavour: string): string | null {
  const parent = path.join(cacheDirectory(), 'debian');
  if (!fs.existsSync(parent)) return null;
  const names = fs
    .readdirSync(parent)
    .map((entry) => entry.split('_')[0])
    .filter((name) => name.endsWith(`-${flavour}`) && /^linux-image-[\d.+~-]+-$/.test(name.slice(0, -flavour.length)));
  return names.sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).at(-1) ?? null;
}
