// SPDX-License-Identifier: MIT
// The interpreter's machine code that the build has left: of use to VM processes, to nobody else, and only as it was made.
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ENGINE_FLAGS } from '../vm/vm-child.ts';
import { interpreterCodeFile } from './interpreter-code.ts';

const here = (file: string): string => JSON.stringify(new URL(file, import.meta.url).href);

/** What becomes of the built interpreter in Node with V8 options and the machine code of a file: bytes of the code in use, or `undefined`. */
function use(flags: readonly string[], file: URL): string {
  const code = `import { readFileSync } from 'node:fs';
    import { interpreterFile } from ${here('../build/interpreter-files.ts')};
    import { builtInterpreter } from ${here('./interpreter-code.ts')};
    import { loadV8Code } from ${here('./v8-code.ts')};
    const module = builtInterpreter(readFileSync(interpreterFile), new URL(${JSON.stringify(file.href)}));
    console.log(module && loadV8Code().serialize(module).byteLength);`;
  return execFileSync(process.execPath, [...flags, '--input-type=module', '-e', code], { encoding: 'utf8' }).trim();
}

let directory: string;
beforeAll(() => (directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-interpreter-'))));
afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));

/** A changed copy of the file. */
function changed(change: (bytes: Buffer) => Buffer): URL {
  const file = path.join(directory, 'code');
  fs.writeFileSync(file, change(fs.readFileSync(interpreterCodeFile)));
  return pathToFileURL(file);
}

// Only on the platform that the addon is for.
describe.runIf(process.platform === 'linux')('machine code of the interpreter', () => {
  it('is used by a process with the options of VMs, all of it', () => {
    const header = 33;
    expect(use(ENGINE_FLAGS, interpreterCodeFile)).toBe(String(fs.statSync(interpreterCodeFile).size - header));
  });

  it('spares whoever loads the interpreter its compilation', () => {
    const code = `import { loadInterpreter } from ${here('../build/interpreter-files.ts')};
      const compiler = { compile: () => { throw new Error('compiled'); }, isReady: () => false };
      console.log(WebAssembly.Module.exports(loadInterpreter(compiler).module).some(({ name }) => name === 'run'));`;
    const args = [...ENGINE_FLAGS, '--input-type=module', '-e', code];
    expect(execFileSync(process.execPath, args, { encoding: 'utf8' }).trim()).toBe('true');
  });

  it('is refused by V8 with other options', () => {
    expect(use([...ENGINE_FLAGS, '--no-wasm-bulkmem-inlining'], interpreterCodeFile)).toBe('undefined');
  });

  it('is left alone when it is damaged, cut off or missing', () => {
    const flip = (at: number) => (bytes: Buffer) => {
      bytes[at]! ^= 1;
      return bytes;
    };
    for (const at of [0, 32, 33, 100_000]) expect(use(ENGINE_FLAGS, changed(flip(at)))).toBe('undefined');
    for (const length of [0, 20, 33, 1000]) {
      expect(
        use(
          ENGINE_FLAGS,
          changed((bytes) => bytes.subarray(0, length)),
        ),
      ).toBe('undefined');
    }
    expect(use(ENGINE_FLAGS, pathToFileURL(path.join(directory, 'none')))).toBe('undefined');
  });
});
