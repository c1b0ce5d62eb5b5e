// SPDX-License-Identifier: MIT
// The history of one machine in a file of fixed size: four rings of points, each finer one feeding the coarser ones.
// File, little endian: magic "PVRING1\0", u32 number of channels, u32 CRC-32 of their names, then per tier its slots in order.
// Slot: u32 period number + 1 (0: never written), u32 CRC-32 of what follows, then average and maximum of each channel as f32, NaN = unknown.
// A point of period p lives in slot p modulo the number of slots, so a slot that holds another period is a gap.
import * as fs from 'node:fs';
import { crc32 } from 'node:zlib';
import { CHANNEL_NAMES, TIERS } from '../contract/metrics.ts';
import type { Channel } from '../contract/metrics.ts';

const MAGIC = 'PVRING1\0';
const HEADER_BYTES = 16;
const CHANNELS = CHANNEL_NAMES.length;
const SLOT_BYTES = 8 + CHANNELS * 8;

/** Byte offset of each tier. */
const TIER_AT = TIERS.map((_, tier) =>
  TIERS.slice(0, tier).reduce((at, { points }) => at + points * SLOT_BYTES, HEADER_BYTES),
);
const FILE_BYTES = TIERS.reduce((bytes, { points }) => bytes + points * SLOT_BYTES, HEADER_BYTES);

export type Values = Readonly<Record<Channel, number | null>>;

/** A stretch of one tier in columns; gaps are null. */
export interface Stretch {
  periodMs: number;
  /** Start of the first point. */
  start: number;
  length: number;
  average: Record<Channel, (number | null)[]>;
  maximum: Record<Channel, (number | null)[]>;
}

/** What has been gathered of a coarser tier's running period. */
interface Gathering {
  period: number;
  sums: Float64Array;
  counts: Uint32Array;
  maxima: Float64Array;
}

/** History of a machine, open for writing by one manager; reading opens the file for each look. */
export class RingFile {
  readonly #file: string;
  #descriptor: number | null = null;
  readonly #gathering: (Gathering | null)[] = TIERS.map(() => null);

  constructor(file: string) {
    this.#file = file;
  }

  /** Keeps one second's values. `at` is the end of the second, in milliseconds since 1970. Throws the system's errors. */
  append(at: number, values: Values): void {
    const descriptor = this.#open();
    for (let tier = 0; tier < TIERS.length; tier++) {
      const period = Math.floor((at - 1) / TIERS[tier].periodMs);
      const gathering = this.#gatheringOf(descriptor, tier, period);
      CHANNEL_NAMES.forEach((name, i) => {
        const value = values[name];
        if (value === null) return;
        gathering.sums[i] += value;
        gathering.counts[i]++;
        gathering.maxima[i] = Math.max(gathering.maxima[i], value);
      });
      // The coarse points are written as they grow, so that a crash loses nothing.
      writeSlot(descriptor, tier, gathering);
    }
  }

  /** What is already in the file of this period counts on: the manager may have been restarted in the middle of it. */
  #gatheringOf(descriptor: number, tier: number, period: number): Gathering {
    const current = this.#gathering[tier];
    if (current?.period === period) return current;
    const fresh: Gathering = {
      period,
      sums: new Float64Array(CHANNELS),
      counts: new Uint32Array(CHANNELS),
      maxima: new Float64Array(CHANNELS).fill(-Infinity),
    };
    const slot = tier === 0 ? null : readSlots(descriptor, tier, period, 1)[0];
    if (slot !== null) {
      // How many seconds the average is of is not kept; the part of the period that has passed is what it can be at most.
      const weight = Math.max(1, Math.round(TIERS[tier].periodMs / 2000));
      for (let i = 0; i < CHANNELS; i++) {
        if (Number.isNaN(slot.average[i])) continue;
        fresh.sums[i] = slot.average[i] * weight;
        fresh.counts[i] = weight;
        fresh.maxima[i] = slot.maximum[i];
      }
    }
    this.#gathering[tier] = fresh;
    return fresh;
  }

  #open(): number {
    if (this.#descriptor !== null) return this.#descriptor;
    if (!isUsable(this.#file)) create(this.#file);
    this.#descriptor = fs.openSync(this.#file, 'r+');
    return this.#descriptor;
  }

  close(): void {
    if (this.#descriptor === null) return;
    fs.closeSync(this.#descriptor);
    this.#descriptor = null;
    this.#gathering.fill(null);
  }

  /** The points of a tier that touch [from, to). At most as many as the tier keeps, the newest. */
  read(from: number, to: number, tier: number): Stretch {
    const { periodMs, points } = TIERS[tier];
    const last = Math.floor((to - 1) / periodMs);
    const first = Math.max(Math.floor(from / periodMs), last - points + 1);
    const length = Math.max(0, last - first + 1);
    const slots = this.#readSlots(tier, first, length);
    const column = (which: 'average' | 'maximum') =>
      Object.fromEntries(
        CHANNEL_NAMES.map((name, i) => [
          name,
          slots.map((slot) => (slot === null || Number.isNaN(slot[which][i]) ? null : slot[which][i])),
        ]),
      ) as Record<Channel, (number | null)[]>;
    return { periodMs, start: first * periodMs, length, average: column('average'), maximum: column('maximum') };
  }

  #readSlots(tier: number, first: number, length: number): (Slot | null)[] {
    if (!isUsable(this.#file)) return new Array<null>(length).fill(null);
    const descriptor = fs.openSync(this.#file, 'r');
    try {
      return readSlots(descriptor, tier, first, length);
    } finally {
      fs.closeSync(descriptor);
    }
  }
}

/** The finest tier that reaches back to `from`, seen from `now`. */
export function tierFor(from: number, now: number): number {
  const reaching = TIERS.findIndex(({ periodMs, points }) => from >= now - periodMs * points);
  return reaching < 0 ? TIERS.length - 1 : reaching;
}

interface Slot {
  average: Float32Array;
  maximum: Float32Array;
}

function namesChecksum(): number {
  return crc32(CHANNEL_NAMES.join('\n'));
}

/** A file of other channels or another size is from another version: it is begun anew, for history is worth less than clarity. */
function isUsable(file: string): boolean {
  let descriptor: number;
  try {
    descriptor = fs.openSync(file, 'r');
  } catch {
    return false;
  }
  try {
    const header = Buffer.alloc(HEADER_BYTES);
    fs.readSync(descriptor, header, 0, HEADER_BYTES, 0);
    return (
      fs.fstatSync(descriptor).size === FILE_BYTES &&
      header.toString('latin1', 0, 8) === MAGIC &&
      header.readUInt32LE(8) === CHANNELS &&
      header.readUInt32LE(12) === namesChecksum()
    );
  } finally {
    fs.closeSync(descriptor);
  }
}

function create(file: string): void {
  const header = Buffer.alloc(HEADER_BYTES);
  header.write(MAGIC, 'latin1');
  header.writeUInt32LE(CHANNELS, 8);
  header.writeUInt32LE(namesChecksum(), 12);
  const temporary = `${file}.tmp`;
  fs.writeFileSync(temporary, header, { mode: 0o600 });
  // Sparse: space is used as points come.
  fs.truncateSync(temporary, FILE_BYTES);
  fs.renameSync(temporary, file);
}

const slotAt = (tier: number, period: number): number => TIER_AT[tier] + (period % TIERS[tier].points) * SLOT_BYTES;

function writeSlot(descriptor: number, tier: number, { period, sums, counts, maxima }: Gathering): void {
  const bytes = Buffer.alloc(SLOT_BYTES);
  bytes.writeUInt32LE(period + 1, 0);
  for (let i = 0; i < CHANNELS; i++) {
    bytes.writeFloatLE(counts[i] === 0 ? NaN : sums[i] / counts[i], 8 + 8 * i);
    bytes.writeFloatLE(counts[i] === 0 ? NaN : maxima[i], 12 + 8 * i);
  }
  bytes.writeUInt32LE(crc32(bytes.subarray(8)), 4);
  fs.writeSync(descriptor, bytes, 0, SLOT_BYTES, slotAt(tier, period));
}

function readSlots(descriptor: number, tier: number, first: number, length: number): (Slot | null)[] {
  const { points } = TIERS[tier];
  const ring = Buffer.alloc(points * SLOT_BYTES);
  fs.readSync(descriptor, ring, 0, ring.length, TIER_AT[tier]);
  return Array.from({ length }, (_, i) => {
    const period = first + i;
    const at = (period % points) * SLOT_BYTES;
    const bytes = ring.subarray(at, at + SLOT_BYTES);
    if (bytes.readUInt32LE(0) !== period + 1 || bytes.readUInt32LE(4) !== crc32(bytes.subarray(8))) return null;
    const average = new Float32Array(CHANNELS);
    const maximum = new Float32Array(CHANNELS);
    for (let channel = 0; channel < CHANNELS; channel++) {
      average[channel] = bytes.readFloatLE(8 + 8 * channel);
      maximum[channel] = bytes.readFloatLE(12 + 8 * channel);
    }
    return { average, maximum };
  });
}
