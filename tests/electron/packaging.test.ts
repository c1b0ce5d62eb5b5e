// SPDX-License-Identifier: MIT
// electron-builder.yml: valid by electron-builder's own schema, with the fuses and file places that the design relies on.
import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';

const root = path.resolve(import.meta.dirname, '../..');
const require = createRequire(import.meta.url);

type Json = Record<string, unknown>;
const { loadConfig } = require('app-builder-lib/out/util/config/load') as {
  loadConfig<T>(request: Json): Promise<{ result: T } | null>;
};
const { validateConfiguration } = require('app-builder-lib/out/util/config/config') as {
  validateConfiguration(config: unknown, logger: { isEnabled: boolean; add(): void }): Promise<void>;
};

async function read(): Promise<Json> {
  const loaded = await loadConfig<Json>({
    packageKey: 'build',
    configFilename: 'electron-builder',
    projectDir: root,
    packageMetadata: null,
  });
  return loaded!.result;
}
const validate = (config: unknown): Promise<void> =>
  validateConfiguration(config, { isEnabled: false, add: () => undefined });

describe('electron-builder.yml', () => {
  it('is valid by the schema of electron-builder', async () => {
    await expect(validate(await read())).resolves.toBeUndefined();
  });

  it.each([
    ['an unknown field', { surprise: true }],
    ['an unknown fuse', { electronFuses: { runAsnode: false } }],
    ['a mistyped option of a target', { nsis: { oneClik: true } }],
  ])('the schema would refuse %s', async (_what, spoilt) => {
    await expect(validate({ ...(await read()), ...spoilt })).rejects.toThrow();
  });

  it('packages for three systems', async () => {
    const config = (await read()) as Record<'linux' | 'win' | 'mac', { target: { target: string }[] }>;
    const targets = (['linux', 'win', 'mac'] as const).map((system) =>
      config[system].target.map(({ target }) => target),
    );
    expect(targets).toEqual([['AppImage', 'deb'], ['nsis'], ['dmg']]);
  });

  it('blows the fuses that keep other code out', async () => {
    expect((await read()).electronFuses).toMatchObject({
      runAsNode: false,
      enableNodeOptionsEnvironmentVariable: false,
      enableNodeCliInspectArguments: false,
      enableEmbeddedAsarIntegrityValidation: true,
      onlyLoadAppFromAsar: true,
      grantFileProtocolExtraPrivileges: false,
    });
  });

  it('unpacks every run-time dependency that has native code, and nothing else', async () => {
    const manifest = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8')) as Record<string, object>;
    const names = Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies });
    const native = names.filter((name) => fs.existsSync(path.join(root, 'node_modules', name, 'binding.gyp')));
    expect((await read()).asarUnpack).toEqual(native.map((name) => `node_modules/${name}/**`));
  });

  it('is of the Electron that is installed, and names icons that are there', async () => {
    const config = await read();
    const electron = JSON.parse(fs.readFileSync(path.join(root, 'node_modules/electron/package.json'), 'utf8')) as {
      version: string;
    };
    expect(config.electronVersion).toBe(electron.version);
    for (const system of ['linux', 'win', 'mac'])
      expect(fs.existsSync(path.join(root, 'assets', (config[system] as { icon: string }).icon)), system).toBe(true);
  });
});
