// SPDX-License-Identifier: MIT
// Where the built interpreter lies, and loading it.
import { readFileSync } from 'node:fs';
import type { InterpreterCode } from '../../engine/cpu/vcpu.ts';
import { pvError } from '../../engine/errors.ts';

export const interpreterFile = new URL('../../build/interpreter.wasm', import.meta.url);
export const hostOpsFile = new URL('../../build/interpreter-host-ops.json', import.meta.url);

/** Reads the interpreter that `npm run build` made; throws `interpreter-missing`. */
export function loadInterpreter(): InterpreterCode {
  try {
    const module = new WebAssembly.Module(readFileSync(interpreterFile));
    return { module, hostOps: JSON.parse(readFileSync(hostOpsFile, 'utf8')) as string[] };
  } catch (cause) {
    throw pvError('interpreter-missing', {}, cause);
  }
}
