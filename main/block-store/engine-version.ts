// SPDX-License-Identifier: MIT
// The engine version that stored blocks belong to: blocks call into the interpreter and rely on its layout of memory.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import * as path from 'node:path';
import { pvError } from '../../engine/errors.ts';
import { hostOpsFile, interpreterFile } from '../build/interpreter-files.ts';

/** Names this build of the engine: 32 hexadecimal digits from the interpreter's bytes and the sources of the engine. Throws `interpreter-missing`. */
export function blockEngineVersion(interpreter: URL = interpreterFile): string {
  const hash = createHash('sha256');
  try {
    for (const file of [interpreter, new URL(path.basename(hostOpsFile.pathname), interpreter)])
      hash.update(readFileSync(file));
  } catch (cause) {
    throw pvError('interpreter-missing', {}, cause);
  }
  return hash.digest('hex').slice(0, 32);
}
