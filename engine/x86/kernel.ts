// SPDX-License-Identifier: MIT
// Shared WebAssembly functions behind instruction descriptions: declared once, built once per module that uses them.

import type { Callee, FunctionBuilder } from '../wasm/function.ts';
import type { ValType } from '../wasm/opcodes.ts';

export interface Kernel {
  /** Unique; appears in profiles. */
  readonly name: string;
  readonly params: readonly ValType[];
  /** At most one result; further ones go through the state block's work area. */
  readonly results: readonly ValType[];
  /** Fills the body; `callee` gives other kernels that it calls (no recursion). */
  readonly build: (f: FunctionBuilder, callee: (kernel: Kernel) => Callee) => void;
}
