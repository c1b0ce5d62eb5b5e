// SPDX-License-Identifier: MIT
// The comparison and the minimiser themselves, with the real CPU in the engine's place: right, and with a mistake put in.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCampaign } from './campaign.ts';
import { BASE_BYTES, DATA_BASE, PAGE, STATUS } from './case.ts';
import type { Batch, Case, Result } from './case.ts';
import { differences } from './compare.ts';
import { describe as describeCase } from './disassemble.ts';
import type { EngineRunner } from './engine.ts';
import { Generator } from './generator.ts';
import { NativeCpu } from './native.ts';
import { makeCase } from './plain-case.ts';

let native: NativeCpu;
let second: NativeCpu;
beforeAll(() => {
  native = new NativeCpu();
  second = new NativeCpu();
});
afterAll(() => {
  native.close();
  second.close();
});

/** The second CPU with a mistake in the cases that contain an instruction. */
function mistaken(name: string, spoil: (r: Result) => void): EngineRunner {
  return {
    async run(batch: Batch): Promise<Result[]> {
      const results = await second.run(batch);
      results.forEach((r, i) => {
        const c = batch.cases[i];
        const present = c.steps.some(
          (s, k) =>
            s.form.startsWith(`${name} `) &&
            c.code[s.offset] !== 0x90 &&
            s.offset < (c.steps[k + 1]?.offset ?? c.code.length),
        );
        if (present && r.status === STATUS.done) spoil(r);
      });
      return results;
    },
  };
}

describe('a campaign', () => {
  it('finds nothing when both sides are the same CPU', async () => {
    const result = await runCampaign({ seed: 3, cases: 20_000, maxFailures: 3 }, native, second);
    expect(result.failures).toEqual([]);
    expect(result.compared).toBeGreaterThan(19_900);
  });

  it('minimises a failure to the instruction at fault and prints it', async () => {
    const engine = mistaken('bswap', (r) => (r.gpr[0] ^= 1n));
    const result = await runCampaign({ seed: 4, cases: 20_000, maxFailures: 1, mode: 64 }, native, engine);
    expect(result.failing).toBeGreaterThan(0);
    const lines = (result.failures[0] ?? '').split('\n');
    const code = lines.slice(
      1,
      lines.findIndex((l) => l.startsWith('  with')),
    );
    expect(code.filter((l) => !l.trimEnd().endsWith('nop'))).toHaveLength(1);
    expect(code.join()).toContain('bswap');
    expect(result.failures[0]).toMatch(/rax: native 0x[0-9a-f]+, engine 0x[0-9a-f]+/);
  });

  it('sees each kind of difference', async () => {
    const spoilers: [string, (r: Result) => void][] = [
      ['rflags', (r) => (r.rflags ^= 0x400)],
      ['rip', (r) => (r.rip += 1n)],
      ['xmm3', (r) => (r.fx[160 + 48] ^= 1)],
      ['st(2)', (r) => (r.fx[64] ^= 1)],
      ['mxcsr', (r) => (r.fx[24] ^= 1)],
      ['fsw', (r) => (r.fx[2] ^= 1)],
      ['[0x10000000]', (r) => void r.changes.set(0x10000000, 0x1234n)],
    ];
    for (const [what, spoil] of spoilers) {
      const result = await runCampaign(
        { seed: 6, cases: 2000, maxFailures: 1, only: 'lea', mode: 64 },
        native,
        mistaken('lea', spoil),
      );
      expect(result.failures[0], what).toContain(what);
    }
  });
});

it('a failure tells of sixteen words of memory at most, behind everything else', () => {
  const words = Array.from({ length: 20 }, (_, i) => ({ what: `[${i}]`, native: '1', engine: '2' }));
  const rax = { what: 'rax', native: '3', engine: '4' };
  const lines = describeCase(makeCase('90'), new Uint8Array(BASE_BYTES), [...words, rax]).split('\n');
  const told = lines.slice(lines.indexOf('  differs:') + 1);
  expect(told).toHaveLength(18);
  expect(told[0]).toBe('    rax: native 3, engine 4');
  expect(told[16]).toBe('    [15]: native 1, engine 2');
  expect(told[17]).toBe('    and 4 more words of memory');
});

describe('repeated comparisons that fault', () => {
  const base = new Uint8Array(BASE_BYTES);
  /** (repne) scasb through the read-only page into the hole behind it. */
  async function faults(code: string): Promise<{ c: Case; result: Result }> {
    const steps = [{ offset: 0, form: 'scas AE', size: '', undefinedAfter: 0 }];
    const from = BigInt(DATA_BASE + 3 * PAGE) - (code === 'ae' ? 0n : 0xd80n);
    const c = makeCase(code, { 0: 0x58n, 1: 0xf8dn, 7: from }, { rflags: 0x282, steps });
    const [result] = await native.run({ base, cases: [c] });
    expect([result.status, result.vector]).toEqual([STATUS.exception, 14]);
    return { c, result };
  }
  const flagsFlipped = (r: Result): Result => ({ ...r, rflags: r.rflags ^ 0x80 });

  it('may have the flags of before', async () => {
    const { c, result } = await faults('f2ae');
    expect(differences(c, base, result, flagsFlipped(result))).toEqual([]);
    expect(differences(c, base, result, { ...result, rflags: result.rflags ^ 0x400 })).toHaveLength(1);
  });

  it('may not where nothing is repeated', async () => {
    const { c, result } = await faults('ae');
    expect(differences(c, base, result, flagsFlipped(result))).toHaveLength(1);
  });
});

describe('the generator', () => {
  it('makes the same cases from the same seed', () => {
    expect(new Generator({ seed: 9 }).batch(500)).toEqual(new Generator({ seed: 9 }).batch(500));
    expect(new Generator({ seed: 9 }).batch(5)).not.toEqual(new Generator({ seed: 10 }).batch(5));
  });

  it('refuses a filter that nothing matches', () => {
    expect(() => new Generator({ seed: 1, only: 'frobnicate' })).toThrow('frobnicate');
  });
});
