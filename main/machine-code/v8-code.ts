// SPDX-License-Identifier: MIT
// Machine code of WebAssembly modules as bytes and back, where the addon for the V8 at hand has been built.
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';

/** Made by `npm run build` where there is a C++ compiler. */
export const v8CodeFile = new URL('../../build/v8-code.node', import.meta.url);

/** The V8 that v8-code.cc's declarations hold for: any other is left alone, whatever it may have kept. */
const v8Version = '14.6.202.34-node.34';

export interface V8Code {
  /** What a module was made from. */
  wireBytes(module: WebAssembly.Module): ArrayBuffer;
  /** What V8's optimising compiler has made of a module so far; empty when that is nothing. */
  serialize(module: WebAssembly.Module): ArrayBuffer;
  /**
   * The module of `wasm`; undefined when V8 has no use for the code, because it comes of another version, CPU or set of options. It must be what
   * `serialize` made of a module of just these bytes: anything else may end the process.
   */
  deserialize(wasm: Uint8Array, code: Uint8Array): WebAssembly.Module | undefined;
}

/** Compiled by V8's optimising compiler at once, instead of function by function once they are hot; as flags it has for tests of its own. */
const optimising = ['--no-liftoff', '--no-wasm-lazy-compilation', '--no-wasm-native-module-cache'];
const usual = ['--liftoff', '--wasm-lazy-compilation', '--wasm-native-module-cache'];

/** A module with all of its functions optimised: half a millisecond each. V8's flags are the process's: nobody else may compile WebAssembly meanwhile. */
export function compileOptimised(wasm: ArrayBuffer): WebAssembly.Module {
  for (const flag of optimising) setFlagsFromString(flag);
  try {
    return new WebAssembly.Module(wasm);
  } finally {
    for (const flag of usual) setFlagsFromString(flag);
  }
}

/** Undefined where there is none: another platform, another V8 (Electron's is one, and has another C++ library), or no compiler when it was to be built. */
export function loadV8Code(file: URL = v8CodeFile): V8Code | undefined {
  if (process.platform !== 'linux' || process.versions.v8 !== v8Version) return undefined;
  try {
    return createRequire(import.meta.url)(fileURLToPath(file)) as V8Code;
  } catch {
    return undefined;
  }
}
