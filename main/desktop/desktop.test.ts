// SPDX-License-Identifier: MIT
// When the window is an application and when it is a page.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { obstacleToElectron, openDesktop } from './desktop.ts';
import { hasDisplay } from './display.ts';
import { installedElectron } from './electron-binary.ts';

afterEach(() => vi.unstubAllEnvs());

describe('hasDisplay', () => {
  it.each([
    [{}, 'linux', false],
    [{ DISPLAY: '' }, 'linux', false],
    [{ DISPLAY: ':0' }, 'linux', true],
    [{ WAYLAND_DISPLAY: 'wayland-0' }, 'linux', true],
    [{}, 'darwin', true],
    [{}, 'win32', true],
  ] as const)('%j on %s: %s', (environment, platform, there) => {
    expect(hasDisplay(environment, platform)).toBe(there);
  });
});

describe('obstacleToElectron', () => {
  it.each([
    [{}, 'linux', 1000, /no display/],
    [{ DISPLAY: ':0' }, 'linux', 0, /root/],
    [{ DISPLAY: ':0' }, 'linux', 1000, null],
    [{}, 'darwin', 0, null],
    [{}, 'win32', undefined, null],
  ] as const)('%j on %s as user %s', (environment, platform, user, obstacle) => {
    const found = obstacleToElectron(environment, platform, user);
    if (obstacle === null) expect(found).toBeNull();
    else expect(found).toMatch(obstacle);
  });
});

describe('openDesktop', () => {
  it('says why the window is a page', async () => {
    vi.stubEnv('DISPLAY', '');
    vi.stubEnv('WAYLAND_DISPLAY', '');
    const said: string[] = [];
    if (!hasDisplay()) {
      expect(await openDesktop((text) => said.push(text))).toBeNull();
      expect(said).toEqual([expect.stringMatching(/no display here; the window is a page/i)]);
    }
  });
});

describe('installedElectron', () => {
  it('is what ELECTRON_PATH names, if that is a program', () => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-electron-'));
    try {
      const program = path.join(directory, 'electron');
      fs.writeFileSync(program, '#!/bin/sh\n', { mode: 0o600 });
      vi.stubEnv('ELECTRON_PATH', program);
      expect(installedElectron()).toBeNull();
      fs.chmodSync(program, 0o700);
      expect(installedElectron()).toBe(program);
      vi.stubEnv('ELECTRON_PATH', directory);
      expect(installedElectron()).toBeNull();
    } finally {
      fs.rmSync(directory, { recursive: true });
    }
  });
});
