// SPDX-License-Identifier: MIT
// The native harness against results known from the manuals: without it the oracle would only compare two unknowns.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BASE_BYTES, CODE_BASE, CODE_BYTES, DATA_BASE, PAGE, STATUS } from './case.ts';
import type { Case, Result } from './case.ts';
import { incomparable } from './compare.ts';
import { Generator } from './generator.ts';
import { NativeCpu } from './native.ts';
import { makeCase, RSP } from './plain-case.ts';

let cpu: NativeCpu;
beforeAll(() => {
  cpu = new NativeCpu();
});
afterAll(() => {
  cpu.close();
});

async function run(c: Case): Promise<Result> {
  return (await cpu.run({ base: new Uint8Array(BASE_BYTES), cases: [c] }))[0];
}

describe('the native harness', () => {
  it('returns registers and flags of a completed case', async () => {
    const r = await run(makeCase('48 01 d8', { 0: 0xffffffffffffffffn, 3: 1n })); // add rax, rbx
    expect(r.status).toBe(STATUS.done);
    expect(r.gpr[0]).toBe(0n);
    expect(r.rflags & 0x8d5).toBe(0x55); // CF PF AF ZF
    expect(r.rip).toBe(BigInt(CODE_BASE + 0x103));
  });

  it('lets any register hold anything, rsp included', async () => {
    const r = await run(makeCase('90', { 4: 0x123456789abcdefn, 5: 7n, 15: 9n }));
    expect([r.gpr[4], r.gpr[5], r.gpr[15]]).toEqual([0x123456789abcdefn, 7n, 9n]);
  });

  it('reports what memory a case changed, once', async () => {
    const c = makeCase('c6 00 5a', { 0: BigInt(DATA_BASE + PAGE + 3) }); // mov byte [rax], 0x5a
    expect([...(await run(c)).changes]).toEqual([[DATA_BASE + PAGE, 0x5a000000n]]);
    expect((await run(makeCase('90'))).changes.size).toBe(0);
  });

  it('gives each case usable data segments, whatever the one before loaded', async () => {
    await run(makeCase('31 c0 8e c0 8e d8')); // xor eax, eax; mov es, eax; mov ds, eax
    const r = await run(makeCase('26 8b 03 8b 0b', { 3: BigInt(DATA_BASE) }, {}, 32)); // mov eax, es:[ebx]; mov ecx, [ebx]
    expect(r.status).toBe(STATUS.done);
  });

  it('applies patches and takes them back', async () => {
    const load = '48 8b 00'; // mov rax, [rax]
    const address = { 0: BigInt(DATA_BASE + 0x20) };
    const patched = await run(makeCase(load, address, { patches: [{ offset: 0x20, data: Uint8Array.of(1, 2, 3) }] }));
    expect(patched.gpr[0]).toBe(0x030201n);
    expect((await run(makeCase(load, address))).gpr[0]).toBe(0n);
  });

  it.each([
    ['write to the read-only page', 'c6 00 01', BigInt(DATA_BASE + 2 * PAGE), 14, 7, BigInt(DATA_BASE + 2 * PAGE)],
    ['read of a hole', '8a 00', BigInt(DATA_BASE + 3 * PAGE + 5), 14, 4, BigInt(DATA_BASE + 3 * PAGE + 5)],
    ['read across into a hole', '48 8b 00', BigInt(DATA_BASE + 5 * PAGE - 3), 14, 4, BigInt(DATA_BASE + 5 * PAGE)],
    ['non-canonical address', '8a 00', 0x0000800000000000n, 13, 0, 0n],
    ['jump to data', 'ff e0', BigInt(DATA_BASE + 8), 14, 0x15, BigInt(DATA_BASE + 8)],
  ])('reports a fault precisely: %s', async (_name, code, rax, vector, error, cr2) => {
    const r = await run(makeCase(code, { 0: rax }));
    expect([r.status, r.vector, r.error, r.cr2]).toEqual([STATUS.exception, vector, error, cr2]);
    expect(r.rip).toBe(vector === 14 && error === 0x15 ? rax : BigInt(CODE_BASE + 0x100));
    expect(r.gpr[0]).toBe(rax);
  });

  it.each([
    ['divide by zero', 'f7 f3', 0, 0x100],
    ['undefined opcode', '0f 0b', 6, 0x100],
    ['breakpoint', 'cc', 3, 0x101],
    ['privileged', 'f4', 13, 0x100],
    ['non-canonical stack', '48 bc 00 00 00 00 00 00 00 80 50', 12, 0x10a],
  ])('reports vectors: %s', async (_name, code, vector, offset) => {
    const r = await run(makeCase(code));
    expect([r.status, r.vector, r.rip]).toEqual([STATUS.exception, vector, BigInt(CODE_BASE + offset)]);
  });

  it('faults when the fetch runs into the hole after the code', async () => {
    const r = await run(makeCase('90 90', {}, { codeOffset: CODE_BYTES - 2 }));
    expect([r.vector, r.error, r.cr2, r.rip]).toEqual([
      14,
      0x14,
      BigInt(CODE_BASE + CODE_BYTES),
      BigInt(CODE_BASE + CODE_BYTES),
    ]);
  });

  it('runs 32-bit code', async () => {
    const r = await run(makeCase('40 ce 60', { 0: 0x7fffffffn, 1: 5n }, {}, 32)); // inc eax; into; pusha
    expect([r.status, r.vector]).toEqual([STATUS.exception, 4]);
    const done = await run(makeCase('40 60', { 0: 5n }, {}, 32));
    expect(done.status).toBe(STATUS.done);
    expect(done.gpr[0]).toBe(6n);
    expect(done.gpr[4]).toBe(RSP - 32n);
  });

  it('loads and returns x87 and SSE state', async () => {
    const r = await run(makeCase('d9 e8 0f 28 c1', {}, {})); // fld1; movaps xmm0, xmm1
    expect((r.fx[3] >> 3) & 7).toBe(7);
    expect(r.fx[4]).toBe(0x80);
    expect([...r.fx.subarray(32, 42)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f]);
  });

  it('delivers unmasked x87 and SSE exceptions', async () => {
    const fx = new Uint8Array(512);
    fx.set([0x7b, 0x03]); // zero divide unmasked
    fx.set([0x80, 0x1d], 24);
    const x87 = await run(makeCase('d9 e8 d9 ee de f9 9b', {}, { fx })); // fld1; fldz; fdivp; fwait
    expect([x87.vector, x87.rip]).toEqual([16, BigInt(CODE_BASE + 0x106)]);
    fx.set([0, 0, 0x80, 0x3f], 160);
    const sse = await run(makeCase('0f 5e c1', {}, { fx })); // divps xmm0, xmm1
    expect(sse.vector).toBe(19);
  });

  it('survives what a case does to flags and segments', async () => {
    const nt = await run(makeCase('9d', {}, { patches: [{ offset: 0x800, data: Uint8Array.of(0x02, 0x46, 0x24) }] })); // popf: NT, DF, AC, ID
    expect(nt.rflags & 0x244400).toBe(0x244400);
    expect((await run(makeCase('90'))).status).toBe(STATUS.done);
  });

  it('reports misaligned accesses with AC set, which say nothing about a PV guest', async () => {
    const patches = [{ offset: 0x800, data: Uint8Array.of(0x02, 0x02, 0x04) }];
    const c = makeCase('9d 8b 03', { 3: BigInt(DATA_BASE + 0x101) }, { patches }); // popf: AC; mov eax, [rbx]
    const result = await run(c);
    expect(result.vector).toBe(17);
    expect(incomparable(c, result)).toBe(true);
    const aligned = makeCase('9d 8b 03', { 3: BigInt(DATA_BASE + 0x100) }, { patches });
    expect(incomparable(aligned, await run(aligned))).toBe(false);
  });

  it('gives up on a case that does not end', async () => {
    expect((await run(makeCase('eb fe'))).status).toBe(STATUS.timeout);
    expect((await run(makeCase('90'))).status).toBe(STATUS.done);
  });

  it('gives the same results twice', async () => {
    const batch = new Generator({ seed: 5 }).batch(20_000);
    const first = await cpu.run(batch);
    const start = performance.now();
    const second = await cpu.run(batch);
    const seconds = (performance.now() - start) / 1000;
    // A timing that only a broken harness misses: the stated rate is measured by the benches.
    expect(20_000 / seconds).toBeGreaterThan(10_000);
    for (let i = 0; i < first.length; i++) expect(second[i], `case ${i}`).toEqual(first[i]);
  });
});
