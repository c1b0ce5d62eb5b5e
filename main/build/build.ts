// SPDX-License-Identifier: MIT
// Generates what a checkout needs before it can run, into build/: the interpreter's WebAssembly and its list of host operations, an addon that
// keeps machine code, and by that the interpreter's; the modules of a vCPU's thread in few files.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildInterpreter } from '../../engine/cpu/interpreter.ts';
import { buildFastPaths } from '../../engine/xen/fast/hooks.ts';
import { buildV8Code } from '../machine-code/build.ts';
import { interpreterCodeFile } from '../machine-code/interpreter-code.ts';
import { ENGINE_FLAGS } from '../vm/vm-child.ts';
import { bundleVmModules } from './bundle.ts';
import { hostOpsFile, interfaceHash, interpreterFile } from './interpreter-files.ts';

/** Writes beside the target and renames, so that a running VM never sees half a file. */
function writeAtomically(path: URL, data: Uint8Array | string): void {
  const temporary = new URL(`${path.href}.${process.pid}`);
  writeFileSync(temporary, data);
  renameSync(temporary, path);
}

/** Fingerprint of all that decides what translated code looks like. */
function engineSources(): string {
  const hash = createHash('sha256');
  for (const folder of ['cpu', 'translate', 'wasm', 'x86']) {
    const directory = fileURLToPath(new URL(`../../engine/${folder}`, import.meta.url));
    const files = readdirSync(directory, { recursive: true, encoding: 'utf8' });
    for (const file of files.filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts')).sort())
      hash.update(`${folder}/${file.replaceAll('\\', '/')}\0`).update(readFileSync(join(directory, file)));
  }
  return hash.digest('hex');
}

/** Leaves machine code of the interpreter for VM processes, where it can be kept. Guests run without it, and start slower. */
function compileInterpreter(): void {
  rmSync(interpreterCodeFile, { force: true });
  const script = fileURLToPath(new URL('./compile-interpreter.ts', import.meta.url));
  const temporary = `${fileURLToPath(interpreterCodeFile)}.${process.pid}`;
  try {
    execFileSync(process.execPath, [...ENGINE_FLAGS, script, temporary], { stdio: ['ignore', 'ignore', 'pipe'] });
    if (existsSync(temporary)) renameSync(temporary, interpreterCodeFile);
  } catch (error) {
    rmSync(temporary, { force: true });
    process.stdout.write(`the interpreter will be compiled by each guest: ${String(error)}\n`);
  }
}

const { bytes, hostOps } = buildInterpreter({ hooks: buildFastPaths });
mkdirSync(new URL('.', interpreterFile), { recursive: true });
writeAtomically(interpreterFile, bytes);
writeAtomically(hostOpsFile, JSON.stringify({ interface: interfaceHash(), sources: engineSources(), hostOps }));
process.stdout.write(`${buildV8Code()}\n`);
compileInterpreter();
await bundleVmModules();
process.stdout.write(`interpreter: ${Math.ceil(bytes.length / 1024)} KiB of WebAssembly\n`);
