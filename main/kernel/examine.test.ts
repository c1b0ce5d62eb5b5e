// SPDX-License-Identifier: MIT
// Kernels are examined beside the manager's thread: it goes on meanwhile, can cancel, and is not filled by files that unpack to much.
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { performance } from 'node:perf_hooks';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { debianKernel } from '../../tests/support/requirements.ts';
import { buildDemoGuest } from '../demo-guest/demo-guest.ts';
import { examineKernel } from './examine.ts';

let directory: string;
let demo: string;
beforeAll(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-examine-'));
  demo = path.join(directory, 'demo');
  fs.writeFileSync(demo, buildDemoGuest());
});
afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));

/** How much of the CPU time that this process takes for `work` is this thread's. */
async function shareOfThisThread(work: () => Promise<unknown>): Promise<number> {
  const sum = ({ user, system }: NodeJS.CpuUsage) => user + system;
  const [thread, all] = [process.threadCpuUsage(), process.cpuUsage()];
  await work();
  return sum(process.threadCpuUsage(thread)) / sum(process.cpuUsage(all));
}

it('says what is in a kernel', async () => {
  const { description, xen } = await examineKernel(demo);
  expect(description).toMatchObject({ container: 'elf', bits: 64, pv: true });
  expect(typeof xen?.entry).toBe('bigint');
});

it('passes on why a file is none', async () => {
  const text = path.join(directory, 'text');
  fs.writeFileSync(text, 'x'.repeat(5000));
  await expect(examineKernel(text)).rejects.toMatchObject({
    code: 'kernel-not-recognised',
    message: expect.stringContaining(text),
  });
  await expect(examineKernel(path.join(directory, 'none'))).rejects.toMatchObject({ code: 'file-missing' });
});

it('leaves this thread free while a real kernel is unpacked', async () => {
  const kernel = await debianKernel('generic');
  const share = await shareOfThisThread(async () => {
    const { description } = await examineKernel(kernel);
    expect(description.pv).toBe(true);
  });
  expect(share).toBeLessThan(0.25);
}, 120_000);

it('ends when it is cancelled, in its turn or before', async () => {
  const kernel = await debianKernel('generic');
  const controller = new AbortController();
  const started = performance.now();
  const first = examineKernel(kernel, { signal: controller.signal });
  const second = examineKernel(kernel, { signal: controller.signal });
  setTimeout(() => controller.abort(new Error('enough')), 50);
  await expect(first).rejects.toThrow('enough');
  await expect(second).rejects.toThrow('enough');
  expect(performance.now() - started).toBeLessThan(1000);
  expect((await examineKernel(demo)).description.pv).toBe(true);
}, 120_000);

it('gives up after a time', async () => {
  const kernel = await debianKernel('generic');
  await expect(examineKernel(kernel, { timeLimitMs: 20 })).rejects.toMatchObject({ code: 'examination-failed' });
}, 120_000);

it('a small file that unpacks to much is refused, and memory stays bounded', async () => {
  const bomb = path.join(directory, 'bomb.gz');
  fs.writeFileSync(bomb, gzipSync(Buffer.alloc(400 * 2 ** 20)));
  await expect(examineKernel(bomb)).rejects.toMatchObject({
    code: 'kernel-payload-corrupt',
    message: expect.stringContaining('unpacks to more than 268435456 bytes'),
  });
  const large = path.join(directory, 'large.gz');
  fs.writeFileSync(large, Buffer.concat([Buffer.from([0x1f, 0x8b, 8]), randomBytes(1000)]));
  fs.truncateSync(large, 200 * 2 ** 20);
  await expect(examineKernel(large)).rejects.toMatchObject({ code: 'file-too-large' });
  await expect.poll(() => process.memoryUsage().rss / 2 ** 20, { timeout: 10_000 }).toBeLessThan(700);
}, 60_000);
