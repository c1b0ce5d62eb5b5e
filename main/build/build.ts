// SPDX-License-Identifier: MIT
// Generates what a checkout needs before it can run: the interpreter's WebAssembly and its list of host operations, into build/.
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { buildInterpreter } from '../../engine/cpu/interpreter.ts';
import { buildFastPaths } from '../../engine/xen/fast/hooks.ts';
import { hostOpsFile, interfaceHash, interpreterFile } from './interpreter-files.ts';

/** Writes beside the target and renames, so that a running VM never sees half a file. */
function writeAtomically(path: URL, data: Uint8Array | string): void {
  const temporary = new URL(`${path.href}.${process.pid}`);
  writeFileSync(temporary, data);
  renameSync(temporary, path);
}

const { bytes, hostOps } = buildInterpreter({ hooks: buildFastPaths });
mkdirSync(new URL('.', interpreterFile), { recursive: true });
writeAtomically(interpreterFile, bytes);
writeAtomically(hostOpsFile, JSON.stringify({ interface: interfaceHash(), hostOps }));
process.stdout.write(`interpreter: ${Math.ceil(bytes.length / 1024)} KiB of WebAssembly\n`);
