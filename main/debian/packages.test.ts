// SPDX-License-Identifier: MIT
// Tests of fetching packages, with stand-ins for apt and dpkg whose archive is a directory of this test.
import { execFile } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { promisify } from 'node:util';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type * as packagesModule from './packages.ts';
import { silentProgress } from './progress.ts';

let base: string;

/** `apt-cache` answers from lists/, which `apt-get update` copies from mirror/; `apt-get download` needs mirror/NAME_VERSION.deb. */
const tools = {
  'apt-cache': `
    lists="$TEST_BASE/lists-system"
    for word; do case "$word" in Dir::State::lists=*) lists="\${word#*=}";; esac; last="$word"; done
    file="$lists/\${last%%=*}"
    [ -f "$file" ] || { echo "N: Unable to locate package $last" >&2; exit 0; }
    case " $* " in
      *" policy "*) echo "  Candidate: $(sed -n 's/^Version: //p' "$file")";;
      *) cat "$file";;
    esac`,
  'apt-get': `
    lists="$TEST_BASE/lists-system"
    for word; do case "$word" in Dir::State::lists=*) lists="\${word#*=}";; esac; last="$word"; done
    echo "$last" >>"$TEST_BASE/log"
    [ -d "$TEST_BASE/mirror" ] || { echo "E: Could not resolve the host name" >&2; exit 100; }
    case "$last" in
      update) cp "$TEST_BASE"/mirror/lists/* "$lists";;
      *) deb="\${last%%=*}_\${last#*=}.deb"
         cp "$TEST_BASE/mirror/$deb" . 2>/dev/null || { echo "E: Failed to fetch $deb  404  Not Found" >&2; exit 100; };;
    esac`,
  // The .deb of this archive is a text; unpacking puts it into boot/vmlinuz-test.
  'dpkg-deb': `
    grep -q broken "$2" && { echo "dpkg-deb: error: not a Debian format archive" >&2; exit 2; }
    mkdir -p "$3/boot"; cp "$2" "$3/boot/vmlinuz-test"`,
};

function addPackage(lists: string, name: string, version: string, extra = ''): void {
  fs.mkdirSync(path.join(base, lists), { recursive: true });
  const record = `Package: ${name}\nVersion: ${version}\nArchitecture: amd64\nSize: 10\n${extra}`;
  fs.writeFileSync(path.join(base, lists, name), record);
}

function addToMirror(name: string, version: string, content = `${name} ${version}`): void {
  addPackage('mirror/lists', name, version);
  fs.writeFileSync(path.join(base, 'mirror', `${name}_${version}.deb`), content);
}

const log = (): string[] =>
  fs.existsSync(path.join(base, 'log')) ? fs.readFileSync(path.join(base, 'log'), 'utf8').trim().split('\n') : [];
const kernelText = (directory: string): string => fs.readFileSync(path.join(directory, 'boot/vmlinuz-test'), 'utf8');

/** A fresh copy of the module, as in a new process. */
async function packages(): Promise<typeof packagesModule> {
  vi.resetModules();
  return import('./packages.ts');
}

beforeEach(() => {
  base = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-apt-'));
  const bin = path.join(base, 'bin');
  fs.mkdirSync(bin);
  for (const [name, script] of Object.entries(tools)) {
    fs.writeFileSync(path.join(bin, name), `#!/bin/sh\nset -e${script}\n`, { mode: 0o755 });
  }
  vi.stubEnv('TEST_BASE', base);
  vi.stubEnv('PARAVANE_CACHE', path.join(base, 'cache'));
  vi.stubEnv('PATH', `${bin}:/usr/bin:/bin`);
});
afterEach(() => {
  vi.unstubAllEnvs();
  fs.rmSync(base, { recursive: true, force: true });
});

describe('fetchPackage', () => {
  it('downloads once and then uses the cache', async () => {
    addPackage('lists-system', 'tool', '1:2.0');
    addToMirror('tool', '1:2.0');
    const first = await (await packages()).fetchPackage('tool', silentProgress);
    expect(first).toMatchObject({ name: 'tool', version: '1:2.0' });
    expect(path.basename(first.directory)).toBe('tool_1%3a2.0_amd64');
    expect(kernelText(first.directory)).toBe('tool 1:2.0');
    expect(await (await packages()).fetchPackage('tool', silentProgress)).toEqual(first);
    expect(log()).toEqual(['tool=1:2.0']);
    expect(fs.readdirSync(path.join(base, 'cache/tmp'))).toEqual([]);
  });

  it('fetches lists of its own where the system has none', async () => {
    addToMirror('tool', '2');
    expect((await (await packages()).fetchPackage('tool', silentProgress)).version).toBe('2');
    expect(log()).toEqual(['update', 'tool=2']);
  });

  it('asks newer lists when the archive has dropped the version', async () => {
    addPackage('lists-system', 'tool', '1');
    addToMirror('tool', '2');
    expect((await (await packages()).fetchPackage('tool', silentProgress)).version).toBe('2');
    expect(log()).toEqual(['tool=1', 'update', 'tool=2']);
  });

  it('falls back to an older version in the cache when offline, and says so', async () => {
    addPackage('lists-system', 'tool', '1');
    addToMirror('tool', '1');
    await (await packages()).fetchPackage('tool', silentProgress);
    addPackage('lists-system', 'tool', '2');
    fs.rmSync(path.join(base, 'mirror'), { recursive: true });
    const said: string[] = [];
    const progress = { ...silentProgress, say: (text: string) => void said.push(text) };
    expect((await (await packages()).fetchPackage('tool', progress)).version).toBe('1');
    expect(said.join('\n')).toMatch(
      /could not be downloaded: Could not resolve the host name\. Using tool 1 from the cache/,
    );
  });

  it.each([
    ['is unknown everywhere', () => addToMirror('other', '1'), 'debian-package-unknown', /no package "tool"/],
    ['cannot be looked for', () => undefined, 'debian-lists-unavailable', /Could not resolve the host name/],
    [
      'cannot be unpacked',
      () => addToMirror('tool', '1', 'broken'),
      'debian-unpack-failed',
      /not a Debian format archive/,
    ],
  ])('throws when the package %s', async (_what, arrange, code, message) => {
    arrange();
    const { fetchPackage } = await packages();
    await expect(fetchPackage('tool', silentProgress)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
  });

  it('throws where there are no package tools', async () => {
    vi.stubEnv('PATH', path.join(base, 'empty'));
    const { fetchPackage } = await packages();
    await expect(fetchPackage('tool', silentProgress)).rejects.toMatchObject({ code: 'debian-tools-missing' });
  });

  it('throws when the cache cannot be written', async () => {
    addPackage('lists-system', 'tool', '1');
    fs.writeFileSync(path.join(base, 'cache'), 'a file');
    const { fetchPackage } = await packages();
    await expect(fetchPackage('tool', silentProgress)).rejects.toMatchObject({ code: 'cache-unwritable' });
  });

  it('may run in several processes at once', async () => {
    addPackage('lists-system', 'tool', '1');
    addToMirror('tool', '1');
    const program = `
      import { fetchPackage } from '${new URL('./packages.ts', import.meta.url).href}';
      import { silentProgress } from '${new URL('./progress.ts', import.meta.url).href}';
      process.stdout.write((await fetchPackage('tool', silentProgress)).directory);`;
    const run = () =>
      promisify(execFile)(process.execPath, ['--input-type=module', '-e', program], {
        cwd: fileURLToPath(new URL('.', import.meta.url)),
      });
    const results = await Promise.all([run(), run(), run()]);
    expect(new Set(results.map(({ stdout }) => stdout)).size).toBe(1);
    expect(kernelText(results[0].stdout)).toBe('tool 1');
    expect(fs.readdirSync(path.join(base, 'cache/tmp'))).toEqual([]);
  });
});

describe('fetchKernel', () => {
  const concrete = 'linux-image-6.1.0-9-cloud-amd64';

  it('follows the metapackage, and offline takes the newest kernel of that kind from the cache', async () => {
    addPackage('lists-system', 'linux-image-cloud-amd64', '6.1', `Depends: ${concrete} (= 6.1)\n`);
    addPackage('lists-system', concrete, '6.1');
    addToMirror(concrete, '6.1');
    const online = await (await packages()).fetchKernel('linux-image-cloud-amd64', silentProgress);
    expect(online).toMatchObject({ packageName: concrete, version: '6.1' });
    expect(fs.readFileSync(online.kernel, 'utf8')).toBe(`${concrete} 6.1`);

    fs.rmSync(path.join(base, 'mirror'), { recursive: true });
    fs.rmSync(path.join(base, 'lists-system'), { recursive: true });
    const { fetchKernel } = await packages();
    expect(await fetchKernel('linux-image-cloud-amd64', silentProgress)).toEqual(online);
    await expect(fetchKernel('linux-image-amd64', silentProgress)).rejects.toMatchObject({
      code: 'debian-lists-unavailable',
    });
  });
});
