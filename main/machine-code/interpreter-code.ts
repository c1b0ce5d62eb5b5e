// SPDX-License-Identifier: MIT
// Machine code of the interpreter that `npm run build` leaves beside it, so that not even the first guest waits for its compilation.
import { readFileSync } from 'node:fs';
import { digestOf, packCode, unpackCode } from './kept-code.ts';
import { compileOptimised, loadV8Code } from './v8-code.ts';

export const interpreterCodeFile = new URL('../../build/interpreter-code', import.meta.url);

/** Compiles the interpreter with the options of this process, for others that have the same; undefined where machine code cannot be kept. */
export function compileInterpreter(wasm: Uint8Array): Uint8Array | undefined {
  const v8 = loadV8Code();
  if (!v8) return undefined;
  const code = new Uint8Array(v8.serialize(compileOptimised(Uint8Array.from(wasm).buffer)));
  return code.length === 0 ? undefined : packCode(digestOf(wasm), { isComplete: true, code });
}

/** The interpreter of these bytes with its machine code; undefined when that is not there, or of no use to this process, or not what was built. */
export function builtInterpreter(wasm: Uint8Array, file: URL = interpreterCodeFile): WebAssembly.Module | undefined {
  const v8 = loadV8Code();
  if (!v8) return undefined;
  let value: Uint8Array;
  try {
    value = readFileSync(file);
  } catch {
    return undefined;
  }
  const kept = unpackCode(digestOf(wasm), value);
  return kept && v8.deserialize(wasm, kept.code);
}
