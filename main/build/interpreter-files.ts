// SPDX-License-Identifier: MIT
// Where the built interpreter lies, and loading it.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { interfaceText } from '../../engine/cpu/catalog.ts';
import type { InterpreterCode } from '../../engine/cpu/vcpu.ts';
import { pvError } from '../../engine/errors.ts';
import type { ModuleCompiler } from '../../engine/host.ts';
import { XS } from '../../engine/xen/fast/layout.ts';
import { builtInterpreter } from '../machine-code/interpreter-code.ts';

export const interpreterFile = new URL('../../build/interpreter.wasm', import.meta.url);
/** Also holds fingerprints: of what sources and interpreter must agree about, and of the sources that translated code comes from. */
export const hostOpsFile = new URL('../../build/interpreter-host-ops.json', import.meta.url);

/** Fingerprint of what the built interpreter and the sources must agree about. */
export const interfaceHash = (): string =>
  createHash('sha256').update(interfaceText()).update(JSON.stringify(XS)).digest('hex');

/** Its name in a store of machine code, where it is the only one of its kind: an engine version has one interpreter. */
const interpreterKey = '00';

/**
 * Reads the interpreter that `npm run build` made; throws `interpreter-missing`. `compiler`: of what the build could not compile for this process; by
 * default V8 alone.
 */
export function loadInterpreter(compiler?: ModuleCompiler): InterpreterCode {
  try {
    const bytes = readFileSync(interpreterFile);
    const module =
      builtInterpreter(bytes) ?? compiler?.compile(interpreterKey, bytes) ?? new WebAssembly.Module(bytes);
    const built = JSON.parse(readFileSync(hostOpsFile, 'utf8')) as { interface: string; hostOps: string[] };
    if (built.interface !== interfaceHash()) throw new Error('the interpreter was built from other sources');
    return { module, hostOps: built.hostOps };
  } catch (cause) {
    throw pvError('interpreter-missing', {}, cause);
  }
}
