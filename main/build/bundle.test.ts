// SPDX-License-Identifier: MIT
// The bundles of a vCPU's thread: what they export and find, and that they are used only as long as no source has changed.
import { mkdtempSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { MachineConfig, MachineModule } from '../vm/machine.ts';
import { bundleVmModules } from './bundle.ts';
import { stampsFile, vmModules, type SourceStamp } from './vm-modules.ts';

const directory = mkdtempSync(join(tmpdir(), 'paravane-bundle-'));
const folder = pathToFileURL(`${directory}/`);
const stampsPath = join(directory, stampsFile);
const isBundled = (): boolean => vmModules(null, folder).machine.startsWith(folder.href);

beforeAll(() => bundleVmModules(folder));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

it('is one module for the thread and one for the machine, which share the classes of errors', async () => {
  const { worker, machine } = vmModules(null, folder);
  expect(readFileSync(worker, 'utf8')).toMatch(/from "\.\/errors-/);
  expect(readFileSync(new URL(machine), 'utf8')).toMatch(/from "\.\/errors-/);
  const { createMachine } = (await import(machine)) as MachineModule;
  const config = { kernel: join(directory, 'none') } as MachineConfig;
  await expect(createMachine(config, {} as never)).rejects.toMatchObject({ code: 'file-missing' });
});

it('keeps addresses relative to the place of the source', () => {
  const text = readFileSync(new URL(vmModules(null, folder).machine), 'utf8');
  const [, place] = /new URL\("\.\.\/\.\.\/build\/interpreter\.wasm", new URL\("([^"]+)"/.exec(text) ?? [];
  expect(new URL(place!, folder).href).toBe(new URL('./interpreter-files.ts', import.meta.url).href);
});

it('is used until a source changes, or is missing, or the list is damaged', () => {
  expect(isBundled()).toBe(true);
  const whole = readFileSync(stampsPath, 'utf8');
  const stamps = JSON.parse(whole) as SourceStamp[];
  expect(stamps.length).toBeGreaterThan(100);
  const source = join(directory, 'source.ts');
  writeFileSync(source, 'first');
  const { size, mtimeMs } = statSync(source);
  writeFileSync(stampsPath, JSON.stringify([...stamps, ['source.ts', size, mtimeMs]]));
  expect(isBundled()).toBe(true);
  utimesSync(source, new Date(mtimeMs), new Date(mtimeMs + 1000));
  expect(isBundled()).toBe(false);
  rmSync(source);
  expect(isBundled()).toBe(false);
  writeFileSync(stampsPath, whole.slice(0, -2));
  expect(isBundled()).toBe(false);
  rmSync(stampsPath);
  expect(isBundled()).toBe(false);
});

it('is not used with another machine, which comes with the sources of its errors', () => {
  const { worker, machine } = vmModules('file:///elsewhere.ts', folder);
  expect(machine).toBe('file:///elsewhere.ts');
  expect(worker.href).toBe(new URL('../vm/vcpu-worker.ts', import.meta.url).href);
});
