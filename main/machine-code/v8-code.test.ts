// SPDX-License-Identifier: MIT
// With the real V8, in processes of their own: machine code of one is of use to the next, and to none with other options.
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ENGINE_FLAGS } from '../vm/vm-child.ts';
import { buildV8Code } from './build.ts';
import { loadV8Code, v8CodeFile } from './v8-code.ts';

const here = (file: string): string => JSON.stringify(new URL(file, import.meta.url).href);
/** (param i32) (result i32): twice the number and three more. */
const wasm = [0, 97, 115, 109, 1, 0, 0, 0, 1, 6, 1, 96, 1, 127, 1, 127, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 12, 1, 10, 0, 32, 0, 65, 2, 108, 65, 3, 106, 11]; // prettier-ignore

let directory: string;
let file: string;
beforeAll(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-code-'));
  file = JSON.stringify(path.join(directory, 'code'));
});
afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));

/** Runs a piece of code with `v8` and `wasm` in Node with V8 options; returns what it prints. */
function inProcess(flags: readonly string[], code: string): string {
  const imports = `import { compileOptimised, loadV8Code } from ${here('./v8-code.ts')}; import * as fs from 'node:fs';
    const v8 = loadV8Code(); const wasm = Uint8Array.from(${JSON.stringify(wasm)});`;
  return execFileSync(process.execPath, [...flags, '--input-type=module', '-e', imports + code], { encoding: 'utf8' });
}

const write = (flags: readonly string[]): string =>
  inProcess(
    flags,
    `const bytes = new Uint8Array(v8.serialize(compileOptimised(wasm.buffer)));
     fs.writeFileSync(${file}, bytes); console.log(bytes.length > 0);`,
  ).trim();
const use = (flags: readonly string[]): string =>
  inProcess(
    flags,
    `const module = v8.deserialize(wasm, new Uint8Array(fs.readFileSync(${file})));
     console.log(module ? new WebAssembly.Instance(module).exports.f(20) : 'refused');
     if (module) console.log(Buffer.compare(new Uint8Array(v8.wireBytes(module)), wasm), v8.serialize(module).byteLength);`,
  ).trim();

// Only on the platform that the addon is for.
describe.runIf(process.platform === 'linux')('machine code of V8', () => {
  it('has its addon: the tests need a C++ compiler (g++) for it', () => {
    expect(fs.existsSync(v8CodeFile), 'Run: sudo apt-get install g++; npm run build').toBe(true);
    expect(loadV8Code()).toBeDefined();
  });

  it('runs in another process, as the module that it was made of', () => {
    expect(write(ENGINE_FLAGS)).toBe('true');
    const size = fs.statSync(path.join(directory, 'code')).size;
    expect(use(ENGINE_FLAGS).split('\n')).toEqual(['43', `0 ${size}`]);
  });

  it('is refused by a process with other options', () => {
    expect(write(ENGINE_FLAGS)).toBe('true');
    expect(use([...ENGINE_FLAGS, '--no-wasm-bulkmem-inlining'])).toBe('refused');
  });

  it('is nothing as long as nothing is optimised', () => {
    expect(inProcess([], 'console.log(v8.serialize(new WebAssembly.Module(wasm)).byteLength)').trim()).toBe('0');
  });

  it('leaves V8 as it was: what is compiled next is compiled when it is called', () => {
    const code = `compileOptimised(wasm.buffer); const other = wasm.slice(); other[other.length - 2] = 0x6b;
      const module = new WebAssembly.Module(other); console.log(v8.serialize(module).byteLength);
      console.log(new WebAssembly.Instance(module).exports.f(20));`;
    expect(inProcess(ENGINE_FLAGS, code).trim().split('\n')).toEqual(['0', '37']);
  });

  it('takes nothing but modules and bytes', () => {
    const code = `console.log([v8.serialize({}), v8.serialize(), v8.wireBytes(1), v8.deserialize(1, 2), v8.deserialize(wasm)].join());`;
    expect(inProcess([], code).trim()).toBe(',,,,');
  });
});

describe('the addon', () => {
  it('is not loaded where there is none', () => {
    expect(loadV8Code(new URL('missing.node', v8CodeFile))).toBe(undefined);
  });

  it.runIf(process.platform === 'linux')('is missed with a sentence where there is no compiler', () => {
    const target = new URL(`file://${directory}/v8-code.node`);
    expect(buildV8Code('no-such-compiler', target)).toMatch(
      /will not be kept: there is no C\+\+ compiler \(no-such-compiler\)/,
    );
    expect(fs.existsSync(target)).toBe(false);
    expect(buildV8Code(undefined, target)).toBe('machine code of translations is kept');
    expect(loadV8Code(target)).toBeDefined();
  });
});
