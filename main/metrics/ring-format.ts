// SPDX-License-Identifier: MIT
// The file of a machine's history: four rings of points, of a size that never changes.
// File, little endian: magic "PVRING2\0", u32 number of channels, u32 CRC-32 of their names, then per tier its slots in order.
// Slot: u32 period number + 1 (0: never written), u32 CRC-32 of all the rest of the slot, then average and maximum of each channel as f32, NaN =
// unknown. A point of period p lives in slot p modulo the number of slots, so a slot that holds another period is a gap.
import * as fs from 'node:fs';
import { crc32 } from 'node:zlib';
import { CHANNEL_NAMES, TIERS } from '../contract/metrics.ts';

const MAGIC = 'PVRING2\0';
const HEADER_BYTES = 16;
export const CHANNELS = CHANNEL_NAMES.length;

const slotBytes = (channels: number): number => 8 + channels * 8;
const SLOT_BYTES = slotBytes(CHANNELS);

/** Byte offset of a tier; that of the tier behind the last is the size of the file. */
function tierAt(tier: number, slot: number): number {
  return TIERS.slice(0, tier).reduce((at, { points }) => at + points * slot, HEADER_BYTES);
}

const FILE_BYTES = tierAt(TIERS.length, SLOT_BYTES);

export interface Slot {
  average: Float32Array;
  maximum: Float32Array;
}

const namesChecksum = (channels: number): number => crc32(CHANNEL_NAMES.slice(0, channels).join('\n'));

/** The number of channels of a history file, all of which are known here; null when it is none, or of a newer version. */
function channelsOf(file: string): number | null {
  let descriptor: number;
  try {
    descriptor = fs.openSync(file, 'r');
  } catch {
    return null;
  }
  try {
    const header = Buffer.alloc(HEADER_BYTES);
    fs.readSync(descriptor, header, 0, HEADER_BYTES, 0);
    const channels = header.readUInt32LE(8);
    const sound =
      header.toString('latin1', 0, 8) === MAGIC &&
      channels <= CHANNELS &&
      header.readUInt32LE(12) === namesChecksum(channels) &&
      fs.fstatSync(descriptor).size === tierAt(TIERS.length, slotBytes(channels));
    return sound ? channels : null;
  } finally {
    fs.closeSync(descriptor);
  }
}

export function isUsable(file: string): boolean {
  return channelsOf(file) === CHANNELS;
}

/** Sees to it that there is a file that can be written: what is there and none of ours is begun anew. Throws the system's errors. */
export function makeUsable(file: string): void {
  widen(file);
  if (!isUsable(file)) replace(file, header());
}

function header(): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  bytes.write(MAGIC, 'latin1');
  bytes.writeUInt32LE(CHANNELS, 8);
  bytes.writeUInt32LE(namesChecksum(CHANNELS), 12);
  return bytes;
}

function replace(file: string, content: Buffer): void {
  const temporary = `${file}.tmp`;
  fs.writeFileSync(temporary, content, { mode: 0o600 });
  // Sparse: space is used as points come.
  fs.truncateSync(temporary, FILE_BYTES);
  fs.renameSync(temporary, file);
}

/** Gives a file of an older version, which knew the first of our channels only, room for the others; their past is unknown. */
export function widen(file: string): void {
  const channels = channelsOf(file);
  if (channels === null || channels === CHANNELS) return;
  const old = fs.readFileSync(file);
  const wide = Buffer.alloc(FILE_BYTES);
  header().copy(wide);
  const oldSlot = slotBytes(channels);
  TIERS.forEach(({ points }, tier) => {
    for (let n = 0; n < points; n++) {
      const from = tierAt(tier, oldSlot) + n * oldSlot;
      const slot = old.subarray(from, from + oldSlot);
      if (slot.readUInt32LE(0) === 0 || slot.readUInt32LE(4) !== checksum(slot)) continue;
      const to = tierAt(tier, SLOT_BYTES) + n * SLOT_BYTES;
      const target = wide.subarray(to, to + SLOT_BYTES);
      slot.copy(target);
      for (let at = oldSlot; at < SLOT_BYTES; at += 4) target.writeFloatLE(NaN, at);
      target.writeUInt32LE(checksum(target), 4);
    }
  });
  replace(file, wide);
}

const slotAt = (tier: number, period: number): number =>
  tierAt(tier, SLOT_BYTES) + (period % TIERS[tier].points) * SLOT_BYTES;

/** Of the period number too: a write that was cut off behind it must not make old values new. */
const checksum = (slot: Buffer): number => crc32(slot.subarray(8), crc32(slot.subarray(0, 4)));

/** Writes the point of a period; `valuesOf` gives those of a channel, NaN for unknown ones. */
export function writeSlot(
  descriptor: number,
  tier: number,
  period: number,
  valuesOf: (channel: number) => { average: number; maximum: number },
): void {
  const bytes = Buffer.alloc(SLOT_BYTES);
  bytes.writeUInt32LE(period + 1, 0);
  for (let i = 0; i < CHANNELS; i++) {
    const { average, maximum } = valuesOf(i);
    bytes.writeFloatLE(average, 8 + 8 * i);
    bytes.writeFloatLE(maximum, 12 + 8 * i);
  }
  bytes.writeUInt32LE(checksum(bytes), 4);
  fs.writeSync(descriptor, bytes, 0, SLOT_BYTES, slotAt(tier, period));
}

/** The points of `length` periods from `first` on; gaps are null. */
export function readSlots(descriptor: number, tier: number, first: number, length: number): (Slot | null)[] {
  const { points } = TIERS[tier];
  const ring = Buffer.alloc(points * SLOT_BYTES);
  fs.readSync(descriptor, ring, 0, ring.length, tierAt(tier, SLOT_BYTES));
  return Array.from({ length }, (_, i) => {
    const period = first + i;
    const at = (period % points) * SLOT_BYTES;
    const bytes = ring.subarray(at, at + SLOT_BYTES);
    if (bytes.readUInt32LE(0) !== period + 1 || bytes.readUInt32LE(4) !== checksum(bytes)) return null;
    const average = new Float32Array(CHANNELS);
    const maximum = new Float32Array(CHANNELS);
    for (let channel = 0; channel < CHANNELS; channel++) {
      average[channel] = bytes.readFloatLE(8 + 8 * channel);
      maximum[channel] = bytes.readFloatLE(12 + 8 * channel);
    }
    return { average, maximum };
  });
}
