// SPDX-License-Identifier: MIT
// Loads every emitted file the way it will be loaded: modules, preload script, workers, VM process, page. A green build proves nothing.
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { APP_DIRECTORY, emitText, sourcesToEmit } from '../../main/build/emit.ts';
import { requireApp } from './desktop-app.ts';

beforeAll(requireApp, 60_000);
const emitted = (file: string): string => path.join(APP_DIRECTORY, file);

describe('the emitted application', () => {
  it('has a module for each source, and its entry, page and interpreter', () => {
    const manifest = JSON.parse(fs.readFileSync(emitted('package.json'), 'utf8')) as { main: string; type: string };
    const wanted = [
      ...sourcesToEmit().map((file) => file.replace(/\.ts$/, '.js')),
      manifest.main,
      'main/electron/preload.cjs',
      'build/renderer/index.html',
      'build/interpreter.wasm',
      'assets/icon.png',
    ];
    expect(wanted.filter((file) => !fs.existsSync(emitted(file)))).toEqual([]);
    expect(manifest.type).toBe('module');
  });

  it('names no TypeScript any more: imports, workers, processes', () => {
    const named = sourcesToEmit()
      .filter((file) => file.endsWith('.ts'))
      .map((file) => file.replace(/\.ts$/, '.js'))
      .filter((file) =>
        /(from|import\(|new URL\()\s*['"]\.[^'"]*\.ts['"]/.test(fs.readFileSync(emitted(file), 'utf8')),
      );
    expect(named).toEqual([]);
  });

  it('loads under plain Node wherever Electron is not imported', () => {
    // Entries do something when they are loaded: the command line has a harmless verb, workers and processes wait for their starter.
    const modules = [
      'main/manager/manager.js',
      'main/serve/serve.js',
      'main/vm/process.js',
      'main/vm/pv-machine.js',
      'main/cli/main.js',
    ];
    const script = `for (const file of ${JSON.stringify(modules.map(emitted))}) await import(file); console.log('loaded');`;
    const output = execFileSync(process.execPath, ['--no-strip-types', '--input-type=module', '-e', script]);
    expect(output.toString()).toMatch(/loaded/);
  });

  it('has a command line that runs the demonstration guest in the emitted VM process and worker', () => {
    const output = execFileSync(
      process.execPath,
      [
        '--no-strip-types',
        emitted('main/cli/paravane.js'),
        'welcome',
        '--demo',
        '--append',
        'demo=auto',
        '--memory',
        '16M',
      ],
      { input: '', timeout: 60_000 },
    );
    expect(output.toString()).toMatch(/tick 3[^]*powering off/);
  }, 90_000);

  it('has a preload script that asks for nothing but `electron`, and exposes the bridge', () => {
    const exposed: Record<string, object> = {};
    const asked: string[] = [];
    const electron = {
      contextBridge: { exposeInMainWorld: (name: string, api: object) => (exposed[name] = api) },
      ipcRenderer: { on: () => undefined, send: () => undefined },
    };
    const load = new Function(
      'require',
      'module',
      'exports',
      fs.readFileSync(emitted('main/electron/preload.cjs'), 'utf8'),
    );
    load(
      (name: string) => {
        asked.push(name);
        return electron;
      },
      { exports: {} },
      {},
    );
    expect(asked).toEqual(['electron']);
    expect(Object.keys(exposed.paravane)).toEqual(['invoke', 'on']);
  });
});

describe('emitText', () => {
  it('drops types and renames what is started by address', () => {
    const source = [
      "import { a } from './a.ts';",
      "import type { B } from './b.ts';",
      "const worker = new URL('./worker.ts', import.meta.url);",
      "const page = new URL('./page.ts', base);",
      "const later = (): Promise<unknown> => import('./later.ts');",
      'export const c: B = a(worker, page, later);',
    ].join('\n');
    const output = emitText(source, 'x.ts');
    expect(output).toMatch(/from ['"]\.\/a\.js['"]/);
    expect(output).not.toContain('./b');
    expect(output).toContain("new URL('./worker.js', import.meta.url)");
    expect(output).toContain("new URL('./page.ts', base)");
    expect(output).toMatch(/import\(['"]\.\/later\.js['"]\)/);
    expect(output).not.toContain('Promise<');
  });
});
