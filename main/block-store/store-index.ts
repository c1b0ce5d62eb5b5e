// SPDX-License-Identifier: MIT
// What a store holds: for every key its newest record and when it was last used, gathered from the headers of all segments.
import type { StoreDirectory, StoreEnvironment } from './directory.ts';
import { isSegmentName } from './directory.ts';
import { keyCrc } from './format.ts';
import { scanBuffer, scanSegment } from './segment-reader.ts';
import type { FoundValue } from './segment-reader.ts';

export interface IndexedSegment {
  name: string;
  size: number;
  mtimeMs: number;
  state: 'intact' | 'stale' | 'damaged';
  /** Nobody appends to it any more. */
  complete: boolean;
}

export interface IndexedValue extends FoundValue {
  segment: IndexedSegment;
  /** The latest of `time` and all touches, in ms since 1970; never noticeably in the future. */
  lastUse: number;
}

export interface StoreIndex {
  segments: IndexedSegment[];
  values: Map<string, IndexedValue>;
  /** Damaged places and damaged segments. */
  damaged: number;
  /** Segments made by another engine version, for another kind, or in another format. */
  stale: number;
  /** Of all segments. */
  bytes: number;
}

const CLOCK_TOLERANCE_MS = 1000;

/** Reads the headers of all segments. Whatever cannot be read is left out. */
export function readIndex(directory: StoreDirectory, { files, now }: StoreEnvironment): StoreIndex {
  const index: StoreIndex = { segments: [], values: new Map(), damaged: 0, stale: 0, bytes: 0 };
  const touches = new Map<number, number>();
  const buffer = scanBuffer();
  // A clock that was wrong once must not make a value immortal. (Within a millisecond writers count on, to keep their order.)
  const latest = now() + CLOCK_TOLERANCE_MS;
  for (const { name, mtimeMs } of directory.list()) {
    if (!isSegmentName(name)) continue;
    const scan = scanSegment(files, directory.file(name), directory.tag, buffer);
    if (scan === null) continue;
    const { size, state, complete } = scan;
    const segment: IndexedSegment = { name, size, mtimeMs, state, complete };
    index.segments.push(segment);
    index.bytes += scan.size;
    index.damaged += scan.damaged;
    if (scan.state === 'stale') index.stale++;
    for (const value of scan.values) {
      const known = index.values.get(value.key);
      const lastUse = Math.min(value.time, latest);
      if (known === undefined || known.lastUse <= lastUse) index.values.set(value.key, { ...value, segment, lastUse });
    }
    for (const { keyCrc, time } of scan.touches) {
      touches.set(keyCrc, Math.max(touches.get(keyCrc) ?? 0, Math.min(time, latest)));
    }
  }
  if (touches.size > 0) {
    for (const value of index.values.values()) {
      value.lastUse = Math.max(value.lastUse, touches.get(keyCrc(value.key)) ?? 0);
    }
  }
  return index;
}
