// SPDX-License-Identifier: MIT
// Functions of the platform above the vCPU that generated code calls instead of leaving `run`: what they are given and must answer.

import type { ModuleBuilder, ModuleFunction } from '../wasm/module.ts';
import type { MemoryFunctions } from './memory-functions.ts';

/**
 * They may read and write the vCPU's state block as their platform would between two calls of `run`. A function that
 * answers 0 has changed nothing that the platform's own code would not change again in the same way.
 */
export interface Hooks {
  /** (state, exit reason) -> 1: handled, rip is where to go on; 0: leave `run`. Called for `Exit.Syscall` and `Exit.Exception`. */
  readonly enter: ModuleFunction;
  /** (state, address i64) -> 1: `protectedStore` is likely to carry out a store there, although the page is mapped read-only; 0: it faults. */
  readonly mayStore: ModuleFunction;
  /** (state, address i64, bytes, value i64) -> 1: the store, inside 8 aligned bytes, was carried out; 0: it faults. */
  readonly protectedStore: ModuleFunction;
  /**
   * (state) -> 1: IRET with 64-bit operands was done, rip is where to go on; 0: the host operation does it. Called at any
   * privilege level and in any mode.
   */
  readonly iret: ModuleFunction;
}

/** Fills in the bodies of declared hooks. */
export type HooksBuilder = (module: ModuleBuilder, memory: MemoryFunctions, hooks: Hooks) => void;

/** Bits of ST.holdHooks. */
export const Hold = {
  /** The platform has not said yet that its functions may be used, or wants to see every entry itself. */
  platform: 1,
  /** A single instruction is being executed: `enter` must not go on behind it. The other hooks may be called. */
  stepping: 2,
} as const;

/** Declares the hooks in a module, to be filled in once the functions they need exist. */
export function declareHooks(module: ModuleBuilder): Hooks {
  return {
    enter: module.function(['i32', 'i32'], ['i32']),
    mayStore: module.function(['i32', 'i64'], ['i32']),
    protectedStore: module.function(['i32', 'i64', 'i32', 'i64'], ['i32']),
    iret: module.function(['i32'], ['i32']),
  };
}
