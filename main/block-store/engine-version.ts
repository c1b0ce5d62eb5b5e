// SPDX-License-Identifier: MIT
// The engine version that stored blocks belong to: blocks call into the interpreter and rely on its layout of memory.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { pvError } from '../../engine/errors.ts';
import { interpreterFile } from '../build/interpreter-files.ts';

/**
 * Names this build of the engine: 32 hexadecimal digits from the interpreter's bytes and the version which the translator gives
 * itself. Throws `interpreter-missing`.
 */
export function blockEngineVersion(translatorVersion: string, interpreter: URL = interpreterFile): string {
  let code: Buffer;
  try {
    code = readFileSync(interpreter);
  } catch (cause) {
    throw pvError('interpreter-missing', {}, cause);
  }
  return createHash('sha256').update(`${translatorVersion}\0`).update(code).digest('hex').slice(0, 32);
}
