// SPDX-License-Identifier: MIT
// The store of machine code on disk, beside that of translations: of the V8 and the options that this process runs with.
import { createHash } from 'node:crypto';
import { openBlockStore } from '../block-store/block-store.ts';
import type { StoreLog } from '../block-store/directory.ts';
import { KeptCode } from './kept-code.ts';
import { loadV8Code } from './v8-code.ts';

export interface CodeStore {
  readonly compiler: KeptCode;
  /** Nothing is compiled with it afterwards. Never rejects. */
  close(): Promise<void>;
}

/** Whatever else V8 would refuse code for has a store of its own, so that processes with other options do not overwrite each other's. */
function kindOfThisProcess(): string {
  const { execArgv, versions, arch } = process;
  const options = [versions.v8, arch, ...execArgv.filter((option) => option.startsWith('--')).sort()];
  return `code-${createHash('sha256').update(options.join('\n')).digest('hex').slice(0, 16)}`;
}

/** Undefined where machine code cannot be kept. Values are written by the calling thread. `engineVersion`: as of the store of translations. */
export function openCodeStore(engineVersion: string, log: StoreLog): CodeStore | undefined {
  const v8 = loadV8Code();
  if (!v8) return undefined;
  const store = openBlockStore({ engineVersion, kind: kindOfThisProcess(), writing: 'direct', log });
  return { compiler: new KeptCode(v8, store), close: () => store.close() };
}
