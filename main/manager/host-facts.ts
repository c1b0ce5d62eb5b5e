// SPDX-License-Identifier: MIT
// What the manager knows of its computer and of itself.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import * as v from 'valibot';
import { hostSpeed } from '../contract/host.ts';
import type { Diagnostics, HostInfo, HostSpeed } from '../contract/host.ts';
import type { Manager } from './manager.ts';

export const packageVersion = (
  JSON.parse(fs.readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
).version;

export function versions(): Record<string, string> {
  const { node, v8, uv } = process.versions;
  const { electron, chrome } = process.versions as Partial<Record<string, string>>;
  return {
    paravane: packageVersion,
    node,
    v8,
    uv,
    system: `${os.type()} ${os.release()}`,
    ...(electron !== undefined && { electron }),
    ...(chrome !== undefined && { chrome }),
  };
}

export function hostInfoOf(manager: Manager): HostInfo {
  const machinesDirectory = manager.machinesDirectory();
  return {
    version: packageVersion,
    versions: versions(),
    platform: process.platform,
    architecture: process.arch,
    cpuModel: os.cpus()[0]?.model.trim() ?? 'unknown',
    cores: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    freeMemoryBytes: os.freemem(),
    machinesDirectory,
    freeDiskBytes: freeDiskBytes(machinesDirectory),
    dataDirectory: manager.dataDirectory,
    homeDirectory: os.homedir(),
    pathSeparator: path.sep,
    speed: readSpeed(manager.dataDirectory),
  };
}

/** Room on the file system of a directory, which need not exist yet. */
function freeDiskBytes(directory: string): number | null {
  for (let at = directory; ; at = path.dirname(at)) {
    try {
      const { bavail, bsize } = fs.statfsSync(at);
      return bavail * bsize;
    } catch {
      if (path.dirname(at) === at) return null;
    }
  }
}

export const speedFile = (dataDirectory: string): string => path.join(dataDirectory, 'speed.json');

function readSpeed(dataDirectory: string): HostSpeed | null {
  try {
    const result = v.safeParse(hostSpeed, JSON.parse(fs.readFileSync(speedFile(dataDirectory), 'utf8')));
    return result.success ? result.output : null;
  } catch {
    return null;
  }
}

export function diagnosticsOf(manager: Manager): Diagnostics {
  return {
    at: Date.now(),
    versions: versions(),
    upSinceMs: Date.now() - manager.startedAt,
    counters: manager.counters.counts(),
    refusals: manager.counters.refusals(),
    sessions: [...manager.sessions].map(({ id, kind, since, messages }) => ({ id, kind, since, messages })),
    processes: manager
      .controls()
      .flatMap(({ id, pid, startedAt }) =>
        pid === null || startedAt === null ? [] : [{ machine: id, pid, startedAt }],
      ),
    recent: manager.counters.recent(),
  };
}
