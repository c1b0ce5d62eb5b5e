// SPDX-License-Identifier: MIT
// CPU time, memory and end of everything one engine run started, found through a tag in its environment (Linux proc(5)).

import { readFileSync, readdirSync } from 'node:fs';

/** The environment variable every process of a run inherits. */
export const TAG_VARIABLE = 'PARAVANE_BENCH_TAG';

/** USER_HZ: the unit of times in /proc/PID/stat, 100 on every Linux architecture we run on. */
const TICKS_PER_SECOND = 100;

function readProc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1');
  } catch {
    return ''; // It ended, or belongs to someone else.
  }
}

/** The processes whose environment carries `tag`, whoever their parent is by now. */
export function processesOf(tag: string): number[] {
  const wanted = `${TAG_VARIABLE}=${tag}\0`;
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => readProc(pid, 'environ').includes(wanted));
}

/** CPU seconds, user and system, used so far by `tag`'s processes and the children they have waited for. */
export function cpuSecondsOf(tag: string): number {
  let ticks = 0;
  for (const pid of processesOf(tag)) {
    const stat = readProc(pid, 'stat');
    // The command name may hold spaces and parentheses; the fields begin after the last one.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    for (const at of [11, 12, 13, 14]) ticks += Number(fields[at] ?? 0);
  }
  return ticks / TICKS_PER_SECOND;
}

export interface PeakMemory {
  /** Bytes: the largest process's peak resident set plus the unshared pages of the others. */
  readonly total: number;
  /** Bytes: the peak resident set of the largest process, the one that holds the guest's RAM. */
  readonly largest: number;
}

/** Peak memory of `tag`'s processes. Pages of files (a runtime's own code) are counted once, in the largest process. */
export function peakMemoryOf(tag: string): PeakMemory {
  const sizes = processesOf(tag).map((pid) => {
    const status = readProc(pid, 'status');
    const bytes = (field: string): number =>
      1024 * Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0);
    return { peak: bytes('VmHWM'), unshared: bytes('RssAnon') + bytes('RssShmem') };
  });
  sizes.sort((a, b) => b.peak - a.peak);
  const largest = sizes[0]?.peak ?? 0;
  return { largest, total: sizes.slice(1).reduce((sum, size) => sum + size.unshared, largest) };
}

/** Ends every process of `tag` at once; those that have ended already are no error. */
export function killAll(tag: string): void {
  for (const pid of processesOf(tag)) {
    if (pid === process.pid) continue;
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It ended in between.
    }
  }
}
