// SPDX-License-Identifier: MIT
// Compaction and eviction: copies what is worth keeping into new segments and removes the old ones. A crash at any moment leaves
// every kept value in at least one of them.
import type { StoreDirectory, StoreEnvironment } from './directory.ts';
import { isTemporaryName } from './directory.ts';
import { RecordType, SEGMENT_OVERHEAD_BYTES, encodeTouches, keyCrc } from './format.ts';
import type { Touch } from './format.ts';
import { MaintenanceLock } from './maintenance-lock.ts';
import { readValues } from './segment-reader.ts';
import { SegmentWriter } from './segment-writer.ts';
import { readIndex } from './store-index.ts';
import type { IndexedSegment, IndexedValue, StoreIndex } from './store-index.ts';

export interface MaintenanceLimits {
  capBytes: number;
  segmentBytes: number;
}

/** An incomplete segment changed within this time may still have a writer, and is left alone. */
const ACTIVE_MS = 20 * 1000;
/** Eviction starts when what is worth keeping takes more than this share of the cap ... */
const EVICT_ABOVE = 7 / 8;
/** ... and goes on until it takes no more than this one, so that it is not needed again at once. */
const EVICT_TO = 3 / 4;
/** Superseded and damaged bytes that do not make a segment worth copying. */
const TOLERATED_GARBAGE = 1 / 16;

/** What becomes of a segment. */
interface Plan {
  segment: IndexedSegment;
  keep: IndexedValue[];
  copy: boolean;
}

/**
 * Brings a store into order. Returns how many values were evicted; null when another process is at it. Throws the system's error
 * when the disk is full or not writable.
 */
export function maintain(
  directory: StoreDirectory,
  environment: StoreEnvironment,
  limits: MaintenanceLimits,
): number | null {
  const lock = MaintenanceLock.acquire(directory, environment);
  if (lock === null) return null;
  try {
    removeAbandoned(directory, environment);
    const index = readIndex(directory, environment);
    const isActive = ({ complete, mtimeMs }: IndexedSegment): boolean =>
      !complete && Math.abs(environment.now() - mtimeMs) <= ACTIVE_MS;
    const idle = index.segments.filter((segment) => !isActive(segment));
    const evicted = chooseEvicted(index, new Set(idle), limits.capBytes);
    const plans = planSegments(index, idle, evicted, limits.segmentBytes);
    const copied = new Set(plans.filter(({ copy }) => copy).map(({ segment }) => segment));
    const touches: Touch[] = [];
    for (const { key, segment, time, lastUse } of index.values.values()) {
      // The record of these touches may be in a segment that is copied, where only values are taken over.
      if (!copied.has(segment) && lastUse > time) touches.push({ keyCrc: keyCrc(key), time: lastUse });
    }
    copySegments(directory, environment, limits, plans, touches, lock);
    return evicted.size;
  } finally {
    lock.release();
  }
}

/** Removes what compactions that were interrupted have left. */
function removeAbandoned(directory: StoreDirectory, { now }: StoreEnvironment): void {
  for (const { name, mtimeMs } of directory.list()) {
    if (isTemporaryName(name) && Math.abs(now() - mtimeMs) > ACTIVE_MS) directory.remove(name);
  }
}

/** The least recently used values, as many as have to go. */
function chooseEvicted(index: StoreIndex, idle: ReadonlySet<IndexedSegment>, capBytes: number): Set<IndexedValue> {
  let bytes = 0;
  for (const segment of index.segments) if (!idle.has(segment)) bytes += segment.size;
  const movable = [...index.values.values()].filter(({ segment }) => idle.has(segment));
  const total = movable.reduce((sum, value) => sum + value.bytes, bytes);
  if (total <= capBytes * EVICT_ABOVE) return new Set();
  // The sort is stable: of values with the same time, those found later count as younger.
  movable.reverse().sort((a, b) => b.lastUse - a.lastUse);
  let kept = 0;
  while (kept < movable.length && bytes + movable[kept].bytes <= capBytes * EVICT_TO) bytes += movable[kept++].bytes;
  return new Set(movable.slice(kept));
}

function planSegments(
  index: StoreIndex,
  idle: readonly IndexedSegment[],
  evicted: ReadonlySet<IndexedValue>,
  segmentBytes: number,
): Plan[] {
  const plans = new Map(idle.map((segment): [IndexedSegment, Plan] => [segment, { segment, keep: [], copy: true }]));
  const hit = new Set<IndexedSegment>();
  for (const value of index.values.values()) {
    if (evicted.has(value)) hit.add(value.segment);
    else plans.get(value.segment)?.keep.push(value);
  }
  let small: Plan | null = null;
  let copies = 0;
  for (const plan of plans.values()) {
    const { segment, keep } = plan;
    keep.sort((a, b) => a.offset - b.offset);
    if (keep.length === 0) continue;
    const live = keep.reduce((sum, value) => sum + value.bytes, SEGMENT_OVERHEAD_BYTES);
    const tidy = !hit.has(segment) && segment.size - live <= segment.size * TOLERATED_GARBAGE;
    if (tidy && segment.size >= segmentBytes / 2) {
      plan.copy = false;
    } else {
      copies++;
      if (tidy) small = plan;
    }
  }
  // One small segment alone would only become another small one.
  if (copies === 1 && small !== null) small.copy = false;
  return [...plans.values()];
}

/** Copies what is kept of the planned segments, and removes each once its values are safe in finished segments. */
function copySegments(
  directory: StoreDirectory,
  environment: StoreEnvironment,
  { segmentBytes }: MaintenanceLimits,
  plans: readonly Plan[],
  touches: readonly Touch[],
  lock: MaintenanceLock,
): void {
  const output = new SegmentWriter(environment.files, directory, { segmentBytes, compacting: true });
  let copied: IndexedSegment[] = [];
  const finishOutput = (): void => {
    output.seal();
    for (const { name } of copied) directory.remove(name);
    copied = [];
    lock.refresh();
  };
  try {
    if (touches.length > 0 && plans.some(({ copy }) => copy)) {
      output.append(RecordType.Touches, '', encodeTouches(touches), environment.now());
    }
    for (const { segment, keep, copy } of plans) {
      if (!copy) continue;
      if (keep.length === 0) {
        directory.remove(segment.name);
        continue;
      }
      for (const { value, source } of intactValues(directory, environment, segment, keep)) {
        if (output.isFull(source.bytes)) finishOutput();
        output.append(RecordType.Value, source.key, value, source.lastUse);
      }
      copied.push(segment);
    }
    finishOutput();
  } finally {
    output.abandon();
  }
}

/** Reads values of one segment, leaving out the damaged ones. */
function* intactValues(
  directory: StoreDirectory,
  { files }: StoreEnvironment,
  segment: IndexedSegment,
  values: readonly IndexedValue[],
): Generator<{ source: IndexedValue; value: Buffer }> {
  let fd: number;
  try {
    fd = files.openSync(directory.file(segment.name), 'r');
  } catch {
    // Removed meanwhile: forgotten.
    return;
  }
  try {
    for (const [source, value] of readValues(files, fd, values)) {
      if (value !== null) yield { source, value };
    }
  } finally {
    files.closeSync(fd);
  }
}
