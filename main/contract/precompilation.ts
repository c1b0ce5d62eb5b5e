// SPDX-License-Identifier: MIT
// What translating a kernel ahead of its first boot is asked with and says at its end.
import * as v from 'valibot';
import { commandLine, count, hostPath, taskId } from './values.ts';

export const precompilationRequest = v.strictObject({
  kernel: hostPath,
  /** Of the machines to come: some arguments change which code Linux runs. */
  commandLine: v.optional(commandLine),
  /** False: by symbols and control flow alone, without a boot. */
  rehearse: v.optional(v.boolean()),
  task: taskId,
});

export const precompilation = v.strictObject({
  /** Where the kernel's symbols were found. */
  symbols: v.picklist(['elf', 'kallsyms', 'none']),
  functions: count,
  /** From symbols and control flow. */
  static: v.strictObject({ regions: count, modules: count, bytes: count }),
  /** From a boot without a file system; null when there was none. */
  rehearsal: v.nullable(
    v.strictObject({
      /** It came to an end, had nothing more to do, or took too long. */
      outcome: v.picklist(['ended', 'idle', 'stopped']),
      instructions: count,
      seconds: v.number(),
      regions: count,
    }),
  ),
  /** Bytes of the store on disk afterwards. */
  storeBytes: count,
});
export type Precompilation = v.InferOutput<typeof precompilation>;
