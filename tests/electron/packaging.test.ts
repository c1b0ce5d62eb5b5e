// SPDX-License-Identifier: MIT
// electron-builder.yml: valid by electron-builder's own schema, with the fuses and file places that the design relies on.
import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { requireApp } from './desktop-app.ts';

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

/** What @electron/fuses looks for in the binary; version and number of fuses follow, then '0' or '1' for each. */
const FUSE_MARK = 'dL7pKGdnNz796PbbjQWNKmHXBZaB9tsX';
const FUSES = 9;

describe('a package', () => {
  let directory: string;
  beforeAll(async () => {
    await requireApp();
    directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-package-'));
  }, 60_000);
  afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));

  it('has the application, its dependencies, and native code beside the archive', async () => {
    // Everything but Electron itself, which packaging only copies, apart from its fuses: a byte for each after a mark.
    const electron = path.join(directory, 'electron');
    for (const folder of ['resources', 'locales']) fs.mkdirSync(path.join(electron, folder), { recursive: true });
    for (const file of ['electron', 'LICENSE', 'LICENSES.chromium.html', 'chrome-sandbox', 'version'])
      fs.writeFileSync(path.join(electron, file), '', { mode: 0o755 });
    const unblown = Buffer.concat([Buffer.from(FUSE_MARK), Buffer.from([1, FUSES]), Buffer.alloc(FUSES, '1')]);
    fs.writeFileSync(path.join(electron, 'electron'), unblown, { mode: 0o755 });
    const config = await read();
    const { build, Platform } = require('electron-builder') as {
      build(options: Json): Promise<string[]>;
      Platform: { LINUX: { createTarget(name: string): unknown } };
    };
    await build({
      targets: Platform.LINUX.createTarget('dir'),
      projectDir: root,
      publish: 'never',
      config: {
        ...config,
        electronDist: electron,
        directories: { ...(config.directories as Json), output: directory },
      },
    });
    const resources = path.join(directory, 'linux-unpacked/resources');
    const blown = fs.readFileSync(path.join(directory, 'linux-unpacked/paravane')).toString('latin1').slice(-FUSES);
    // Run as Node, encrypted cookies, NODE_OPTIONS, --inspect, archive integrity, archive only, V8 snapshot, file privileges.
    expect(blown.slice(0, 8)).toBe('01001100');
    const { listPackage, extractFile } = require('@electron/asar') as {
      listPackage(archive: string, options: Json): string[];
      extractFile(archive: string, file: string): Buffer;
    };
    const archive = path.join(resources, 'app.asar');
    const files = listPackage(archive, { isPack: false });
    const manifest = JSON.parse(extractFile(archive, 'package.json').toString()) as Json;
    expect(manifest).toMatchObject({ main: 'main/electron/main.js', type: 'module' });
    expect(files).toEqual(
      expect.arrayContaining([
        '/main/electron/main.js',
        '/main/electron/preload.cjs',
        '/main/vm/process.js',
        '/main/vm/vcpu-worker.js',
        '/build/renderer/index.html',
        '/build/interpreter.wasm',
        '/node_modules/valibot/package.json',
        '/node_modules/ws/package.json',
      ]),
    );
    expect(files.filter((file) => /\.ts$|^\/(tests|renderer|docs)\//.test(file) && !/node_modules/.test(file))).toEqual(
      [],
    );
    const pty = path.join(root, 'node_modules/node-pty/build/Release/pty.node');
    if (fs.existsSync(pty)) {
      const unpacked = path.join(`${archive}.unpacked`, path.relative(root, pty));
      expect(fs.existsSync(unpacked)).toBe(true);
    }
  }, 120_000);
});
