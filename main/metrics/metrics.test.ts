// SPDX-License-Identifier: MIT
// History on disk: four tiers, gaps, restarts, damage; and rates from totals.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CHANNEL_NAMES, TIERS } from '../contract/metrics.ts';
import { appendEvent, readEvents } from './event-file.ts';
import { ratesBetween } from './rates.ts';
import type { Totals } from './rates.ts';
import { RingFile, tierFor } from './ring-file.ts';
import type { Values } from './ring-file.ts';

let directory: string;
const file = (): string => path.join(directory, 'history.ring');
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-metrics-'));
});
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }));

const START = 1_795_230_000_000;
const values = (cpu: number | null): Values =>
  ({ ...Object.fromEntries(CHANNEL_NAMES.map((name) => [name, null])), cpu }) as Values;

describe('RingFile', () => {
  it('keeps seconds, and averages and maxima of longer times', () => {
    const ring = new RingFile(file());
    for (let i = 1; i <= 20; i++) ring.append(START + i * 1000, values(i));
    const seconds = ring.read(START, START + 20_000, 0);
    expect(seconds.average.cpu).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
    expect(seconds.average.memory.every((value) => value === null)).toBe(true);
    const tens = ring.read(START, START + 20_000, 1);
    expect([tens.average.cpu, tens.maximum.cpu]).toEqual([
      [5.5, 15.5],
      [10, 20],
    ]);
    expect(ring.read(START, START + 1000, 3).maximum.cpu).toEqual([20]);
    ring.close();
  });

  it('gaps are gaps, also where the ring still has older points', () => {
    const ring = new RingFile(file());
    ring.append(START + 1000, values(1));
    ring.append(START + 4000, values(4));
    expect(ring.read(START, START + 4000, 0).average.cpu).toEqual([1, null, null, 4]);
    const later = START + TIERS[0].points * 1000;
    expect(ring.read(later, later + 4000, 0).average.cpu).toEqual([null, null, null, null]);
    ring.close();
  });

  it('never has more points than a tier keeps, and stays the same size', () => {
    const ring = new RingFile(file());
    ring.append(START + 1000, values(1));
    const { size } = fs.statSync(file());
    expect(size).toBeLessThan(1_000_000);
    for (let i = 0; i < 1500; i++) ring.append(START + i * 1000, values(i));
    expect(fs.statSync(file()).size).toBe(size);
    expect(ring.read(0, START + 1_500_000, 0).length).toBe(TIERS[0].points);
    ring.close();
  });

  it('goes on where another manager stopped', () => {
    const first = new RingFile(file());
    for (let i = 1; i <= 5; i++) first.append(START + i * 1000, values(10));
    first.close();
    const second = new RingFile(file());
    for (let i = 6; i <= 10; i++) second.append(START + i * 1000, values(20));
    const { average, maximum } = second.read(START, START + 10_000, 1);
    expect(average.cpu[0]).toBeCloseTo(15, 5);
    expect(maximum.cpu[0]).toBe(20);
    second.close();
  });

  it('averages over the time that was measured, however often the manager is restarted in a period', () => {
    // A day begins; an hour at 10, three hours off, half an hour at 40.
    const day = Math.ceil(START / 86_400_000) * 86_400_000;
    const run = (from: number, seconds: number, value: number): void => {
      for (let i = 1; i <= seconds; i++) {
        // Whoever writes is replaced at odd moments.
        if (i % 1237 === 1) ring = new RingFile(file());
        ring.append(day + from + i * 1000, values(value));
      }
    };
    let ring: RingFile;
    run(0, 3600, 10);
    run(4 * 3_600_000, 1800, 40);
    const { average, maximum } = ring!.read(day, day + 1, 3);
    expect(average.cpu[0]).toBeCloseTo((3600 * 10 + 1800 * 40) / 5400, 1);
    expect(maximum.cpu[0]).toBe(40);
  });

  it('a year takes no more room than a minute, and older days make room', () => {
    const ring = new RingFile(file());
    ring.append(START, values(0));
    const { size } = fs.statSync(file());
    const DAY = 86_400_000;
    for (let day = 1; day <= 400; day++) ring.append(START + day * DAY, values(day));
    expect(fs.statSync(file()).size).toBe(size);
    expect(size).toBeLessThan(700_000);
    const days = ring.read(START - DAY, START + 401 * DAY, 3);
    expect(days.length).toBe(366);
    expect(days.average.cpu.filter((value) => value !== null).length).toBeGreaterThanOrEqual(365);
    expect(days.average.cpu.findLast((value) => value !== null)).toBe(400);
    ring.close();
  });

  it('is right after a write that stopped at any byte: the point is there or a gap', () => {
    const ring = new RingFile(file());
    // What the second takes the place of is a point of the lap before.
    ring.append(START + 1000, values(7));
    ring.append(START + 2000, values(8));
    const before = fs.readFileSync(file());
    ring.append(START + 1000 + TIERS[0].points * 1000, values(9));
    ring.close();
    const after = fs.readFileSync(file());
    const changed = [...after.keys()].filter((i) => after[i] !== before[i]);
    const slot = changed[0];
    const next = START + TIERS[0].points * 1000;
    const seen = new Set<unknown>();
    for (let bytes = 0; bytes <= 8 + CHANNEL_NAMES.length * 8; bytes++) {
      fs.writeFileSync(file(), Buffer.concat([after.subarray(0, slot + bytes), before.subarray(slot + bytes)]));
      const read = new RingFile(file());
      const [value] = read.read(next, next + 1000, 0).average.cpu;
      seen.add(value);
      const [second] = read.read(START + 1000, START + 2000, 0).average.cpu;
      expect(second, `after ${bytes} bytes`).toBe(8);
    }
    expect(seen).toEqual(new Set([null, 9]));
  });

  it('of a version with fewer channels is kept, the new ones unknown', () => {
    const ring = new RingFile(file());
    for (let i = 1; i <= 30; i++) ring.append(START + i * 1000, { ...values(i), memory: 5 });
    ring.close();
    narrow(CHANNEL_NAMES.length - 3);
    const widened = new RingFile(file());
    const { average } = widened.read(START, START + 30_000, 0);
    expect(average.cpu).toEqual(Array.from({ length: 30 }, (_, i) => i + 1));
    expect(average[CHANNEL_NAMES.at(-1)!].every((value) => value === null)).toBe(true);
    widened.append(START + 31_000, values(31));
    expect(widened.read(START, START + 40_000, 1).average.cpu[0]).toBeCloseTo(5.5, 5);
    widened.close();
  });

  /** Rewrites the file as a version that knew the first channels only would have written it. */
  function narrow(channels: number): void {
    const wide = fs.readFileSync(file());
    const [from, to] = [8 + CHANNEL_NAMES.length * 8, 8 + channels * 8];
    const slots = (wide.length - 16) / from;
    const old = Buffer.alloc(16 + slots * to);
    wide.copy(old, 0, 0, 16);
    old.writeUInt32LE(channels, 8);
    old.writeUInt32LE(crc32(CHANNEL_NAMES.slice(0, channels).join('\n')), 12);
    for (let n = 0; n < slots; n++) {
      const slot = old.subarray(16 + n * to, 16 + (n + 1) * to);
      wide.copy(slot, 0, 16 + n * from, 16 + n * from + to);
      if (slot.readUInt32LE(0) !== 0) slot.writeUInt32LE(crc32(slot.subarray(8), crc32(slot.subarray(0, 4))), 4);
    }
    fs.writeFileSync(file(), old);
  }

  it('whatever is in the file is points or gaps, never an error', () => {
    const ring = new RingFile(file());
    for (let i = 1; i <= 50; i++) ring.append(START + i * 1000, values(i));
    ring.close();
    const sound = fs.readFileSync(file());
    fc.assert(
      fc.property(fc.nat({ max: sound.length - 1 }), fc.uint8Array({ minLength: 1, maxLength: 300 }), (at, bytes) => {
        const damaged = Buffer.from(sound);
        damaged.set(bytes.subarray(0, sound.length - at), at);
        fs.writeFileSync(file(), damaged);
        const { average } = new RingFile(file()).read(START, START + 50_000, 0);
        average.cpu.forEach((value, i) => expect([null, i + 1]).toContain(value));
        const next = new RingFile(file());
        next.append(START + 60_000, values(1));
        next.close();
      }),
    );
  });

  it('shows damaged points as gaps and replaces a file that is none', () => {
    const ring = new RingFile(file());
    for (let i = 1; i <= 3; i++) ring.append(START + i * 1000, values(i));
    const bytes = fs.readFileSync(file());
    const slot = bytes.indexOf(Buffer.from(new Float32Array([2]).buffer));
    bytes[slot + 1] ^= 0xff;
    fs.writeFileSync(file(), bytes);
    expect(ring.read(START, START + 3000, 0).average.cpu).toEqual([1, null, 3]);
    ring.close();
    fs.writeFileSync(file(), 'something else');
    const fresh = new RingFile(file());
    expect(fresh.read(START, START + 2000, 0).average.cpu).toEqual([null, null]);
    fresh.append(START + 1000, values(1));
    expect(fresh.read(START, START + 1000, 0).average.cpu).toEqual([1]);
    fresh.close();
  });

  it('is asked for the finest tier that reaches back far enough', () => {
    const now = START;
    expect([60, 3600, 86_400, 30 * 86_400, 1e9].map((seconds) => tierFor(now - seconds * 1000, now))).toEqual([
      0, 1, 2, 3, 3,
    ]);
  });
});

describe('ratesBetween', () => {
  const totals = (at: number, guest: number, more: Partial<Totals['stats']> = {}): Totals => ({
    at,
    guest,
    rssBytes: 5e7,
    stats: {
      instructions: 0,
      hypercalls: {},
      faults: {},
      tlbMisses: 0,
      elapsedNs: 0,
      runNs: 0,
      idleNs: 0,
      hostCpuNs: 0,
      peakRssBytes: 0,
      ...more,
    },
  });

  it('divides by the time between, family by family', () => {
    const after = totals(2000, 0, {
      instructions: 4e6,
      runNs: 1e9,
      idleNs: 0.5e9,
      hypercalls: { mmu_update: 10, mmuext_op: 10, sched_op: 4, unheard_of: 2 },
      faults: { 14: 6, 13: 2 },
      translatedInstructions: 3e6,
    });
    expect(ratesBetween(totals(0, 0), after)).toMatchObject({
      instructions: 2e6,
      translated: 1.5e6,
      interpreted: 0.5e6,
      running: 0.5,
      idle: 0.25,
      hypercalls: 13,
      hypercallsMmu: 10,
      hypercallsSched: 2,
      hypercallsOther: 1,
      faults: 4,
      pageFaults: 3,
      events: null,
      memory: 5e7,
    });
  });

  it('says nothing across a reset, a long silence or a clock that went back', () => {
    expect(ratesBetween(totals(0, 0), totals(1000, 1))).toBeNull();
    expect(ratesBetween(totals(0, 0), totals(60_000, 0))).toBeNull();
    expect(ratesBetween(totals(1000, 0), totals(1000, 0))).toBeNull();
  });
});

describe('events', () => {
  it('are read back by time, without damaged lines, from a bounded file', () => {
    const events = path.join(directory, 'events.jsonl');
    for (let at = 0; at < 5000; at++) appendEvent(events, { at, kind: 'started', text: 'x'.repeat(40) });
    fs.appendFileSync(events, '{"at":"damaged"}\nrubbish\n');
    appendEvent(events, { at: 5000, kind: 'stopped', text: '' });
    expect(fs.statSync(events).size).toBeLessThan(300_000);
    expect(readEvents(events, 4999, 5001).map(({ kind }) => kind)).toEqual(['started', 'stopped']);
    expect(readEvents(path.join(directory, 'none'), 0, 1)).toEqual([]);
  });
});
