// SPDX-License-Identifier: MIT
// Tests of the PV console ring: wrap, back-pressure, notifications, and hostile indices.

import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { Counters } from '../../xen/counters.ts';
import { fakeMemory } from '../../xen/fake-machine.ts';
import type { MachineMemoryView } from '../../xen/context.ts';
import { ConsoleRing } from './ring.ts';

const PAGE = 0x1000;

let mem: MachineMemoryView;
let counters: Counters;
let output: number[];
let kicks: number;
let ring: ConsoleRing;

beforeEach(() => {
  mem = fakeMemory(4);
  counters = new Counters();
  output = [];
  kicks = 0;
  ring = new ConsoleRing({
    mem,
    page: PAGE,
    counters,
    notifyGuest: () => kicks++,
    onOutput: (bytes) => output.push(...bytes),
  });
});

const word = (offset: number): number => (PAGE + offset) >>> 2;

/** The guest's side of output: writes as much as fits. */
function guestWrite(bytes: readonly number[]): number {
  const cons = mem.u32[word(0xc08)];
  let prod = mem.u32[word(0xc0c)];
  let sent = 0;
  for (const byte of bytes) {
    if ((prod - cons) >>> 0 >= 2048) break;
    mem.u8[PAGE + 0x400 + (prod & 2047)] = byte;
    prod = (prod + 1) >>> 0;
    sent++;
  }
  mem.u32[word(0xc0c)] = prod;
  return sent;
}

/** The guest's side of input: reads everything. */
function guestRead(): number[] {
  const bytes: number[] = [];
  while (mem.u32[word(0xc00)] !== mem.u32[word(0xc04)]) {
    bytes.push(mem.u8[PAGE + (mem.u32[word(0xc00)] & 1023)]);
    mem.u32[word(0xc00)]++;
  }
  return bytes;
}

describe('output', () => {
  it('passes bytes on and advances the consumer index', () => {
    guestWrite([...Buffer.from('hello')]);
    ring.service();
    expect(Buffer.from(output).toString()).toBe('hello');
    expect(mem.u32[word(0xc08)]).toBe(5);
    expect(counters.get('console.bytes-out')).toBe(5);
  });

  it('does not notify while there was plenty of space, and notifies when there was not', () => {
    guestWrite(new Array(100).fill(65));
    ring.service();
    expect(kicks).toBe(0);
    guestWrite(new Array(2048).fill(66));
    ring.service();
    expect(kicks).toBe(1);
    expect(output.length).toBe(2148);
  });

  it('survives indices that wrap past 2^32', () => {
    mem.u32[word(0xc08)] = 0xfffffffe;
    mem.u32[word(0xc0c)] = 0xfffffffe;
    guestWrite([1, 2, 3, 4]);
    ring.service();
    expect(output).toEqual([1, 2, 3, 4]);
    expect(mem.u32[word(0xc08)]).toBe(2);
  });

  it('ignores an impossible producer index, counts it, and recovers', () => {
    mem.u32[word(0xc0c)] = 0x80000000;
    ring.service();
    expect(output).toEqual([]);
    expect(counters.get('console.bad-output-index')).toBe(1);
    mem.u32[word(0xc0c)] = 0;
    guestWrite([7]);
    ring.service();
    expect(output).toEqual([7]);
  });
});

describe('input', () => {
  it('notifies the guest and fills only what is free', () => {
    const bytes = new Uint8Array(1500).map((_, i) => i);
    expect(ring.push(bytes)).toBe(1024);
    expect(kicks).toBe(1);
    expect(ring.push(bytes.subarray(1024))).toBe(0);
    expect(kicks).toBe(1);
    expect(guestRead()).toEqual([...bytes.subarray(0, 1024)]);
    expect(ring.push(bytes.subarray(1024))).toBe(476);
    expect(guestRead()).toEqual([...bytes.subarray(1024)]);
  });

  it('accepts nothing while the indices are impossible', () => {
    mem.u32[word(0xc00)] = 5;
    expect(ring.push(new Uint8Array([1]))).toBe(0);
    expect(counters.get('console.bad-input-index')).toBe(1);
  });
});

it('delivers every byte in order whatever the chunks (property)', () => {
  fc.assert(
    fc.property(
      fc.nat(0xffffffff),
      fc.array(fc.uint8Array({ maxLength: 3000 }), { maxLength: 8 }),
      fc.array(fc.uint8Array({ maxLength: 1500 }), { maxLength: 8 }),
      (start, outs, ins) => {
        mem.u8.fill(0, PAGE, PAGE + 4096);
        for (const at of [0xc00, 0xc04, 0xc08, 0xc0c]) mem.u32[word(at)] = start;
        output = [];
        for (const chunk of outs) {
          let rest = [...chunk];
          while (rest.length > 0) {
            rest = rest.slice(guestWrite(rest));
            ring.service();
          }
        }
        expect(output).toEqual(outs.flatMap((chunk) => [...chunk]));
        const received: number[] = [];
        for (const chunk of ins) {
          let rest = chunk;
          while (rest.length > 0) {
            rest = rest.subarray(ring.push(rest));
            received.push(...guestRead());
          }
        }
        expect(received).toEqual(ins.flatMap((chunk) => [...chunk]));
      },
    ),
    { seed: 20, numRuns: 40 },
  );
});

it('never writes outside its page nor throws on random page contents (fuzz, fixed seed)', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.uint8Array({ maxLength: 64 }), (indices, input) => {
      mem.u8.set(indices, PAGE + 0xc00);
      mem.u8.fill(0xaa, PAGE + 4096, PAGE + 8192);
      mem.u8.fill(0xaa, 0, PAGE);
      ring.service();
      ring.push(input);
      expect(mem.u8.subarray(PAGE + 4096, PAGE + 8192).every((b) => b === 0xaa)).toBe(true);
      expect(mem.u8.subarray(0, PAGE).every((b) => b === 0xaa)).toBe(true);
    }),
    { seed: 21, numRuns: 300 },
  );
});
