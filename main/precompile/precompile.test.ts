// SPDX-License-Identifier: MIT
// Tests of translating a kernel ahead of its first boot: what gets into the store, and that later boots use it.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { PvMachine } from '../../engine/xen/machine.ts';
import { debianKernel } from '../../tests/support/requirements.ts';
import { openBlockStore } from '../block-store/block-store.ts';
import { blockEngineVersion } from '../block-store/engine-version.ts';
import { loadInterpreter } from '../build/interpreter-files.ts';
import { buildDemoGuest } from '../demo-guest/demo-guest.ts';
import { loadPvKernel } from '../kernel/load.ts';
import { readKernelCode } from './kernel-code.ts';
import { precompileKernel } from './precompile.ts';

let directory: string;
let kernel: string;
let cloudKernel: string;
const saved = process.env.PARAVANE_CACHE;
// From the user's cache, before that is replaced.
beforeAll(async () => {
  cloudKernel = await debianKernel('cloud');
}, 300_000);
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-precompile-'));
  process.env.PARAVANE_CACHE = directory;
  kernel = path.join(directory, 'kernel');
  fs.writeFileSync(kernel, buildDemoGuest());
});
afterEach(() => {
  if (saved === undefined) delete process.env.PARAVANE_CACHE;
  else process.env.PARAVANE_CACHE = saved;
  fs.rmSync(directory, { recursive: true, force: true });
});

const store = () => openBlockStore({ engineVersion: blockEngineVersion(), kind: 'pv', capBytes: 0 });

it('fills the store, and the same again adds nothing', async () => {
  const told: string[] = [];
  const first = await precompileKernel({ kernel, rehearse: false, progress: (text) => told.push(text) });
  expect(first).toMatchObject({ symbols: 'none', rehearsal: null });
  expect(first.static.regions).toBeGreaterThan(10);
  expect([...new Set(told)]).toEqual(['Reading the kernel', 'Following the code', 'Translating']);
  const { entries } = store().stats();
  expect(entries).toBe(first.static.modules);
  await precompileKernel({ kernel, rehearse: false });
  expect(store().stats().entries).toBe(entries);
});

it('learns from a boot, and the next one begins with that', async () => {
  const { rehearsal } = await precompileKernel({ kernel: cloudKernel, regions: 0 });
  expect(rehearsal!.outcome).toBe('ended');
  expect(rehearsal!.regions).toBeGreaterThan(20);
  // Their machine code, too, where it can be kept.
  const segments = fs.globSync('**/code-*/*.blocks', { cwd: directory });
  expect(segments.length > 0).toBe(process.platform === 'linux');
  const { elf } = await loadPvKernel(cloudKernel);
  let now = 0;
  const clock = { monotonicNs: () => (now += 1e5), wallClockNs: () => 1.7e18 };
  const host = { ...clock, randomWord: () => 4, consoleOut: () => {}, log: () => {} };
  const machine = await PvMachine.create({
    ...{ kernel: elf.bytes, commandLine: '', memoryBytes: 256 * 2 ** 20, interpreter: loadInterpreter(), host },
    blocks: store(),
  });
  while (machine.stats().translator!.storeHits === 0 && machine.stats().instructions < 1e9) machine.run(1e7);
  expect(machine.stats().translator!.storeHits).toBeGreaterThan(0);
}, 60_000);

it('says what is wrong with the file', async () => {
  await expect(precompileKernel({ kernel: directory })).rejects.toMatchObject({ code: 'file-is-directory' });
  fs.writeFileSync(kernel, 'no kernel');
  await expect(precompileKernel({ kernel })).rejects.toMatchObject({ code: 'kernel-not-recognised' });
});

it('ends when it is told to, with a store that can be used', async () => {
  const abort = new AbortController();
  const job = precompileKernel({ kernel, signal: abort.signal, progress: () => abort.abort() });
  await expect(job).rejects.toMatchObject({ name: 'AbortError' });
  await expect(precompileKernel({ kernel, signal: abort.signal })).rejects.toMatchObject({ name: 'AbortError' });
  expect(store().stats()).toMatchObject({ damaged: 0 });
});

it("finds the symbols of Debian's kernel, which is stripped", async () => {
  const code = readKernelCode(await loadPvKernel(cloudKernel));
  expect(code.symbols).toBe('kallsyms');
  expect(code.functions.length).toBeGreaterThan(20_000);
  // Entry point and five known names, all in code.
  expect(code.roots.length).toBeGreaterThanOrEqual(5);
  expect(code.roots.every((offset) => code.image.isCode(offset))).toBe(true);
  expect(code.lasting.length).toBe(1);
});
