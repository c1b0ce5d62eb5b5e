// SPDX-License-Identifier: MIT
// A machine's linear memory: one shared WebAssembly.Memory holding vCPU blocks, per-frame tables, decoded code, Xen's frames and guest RAM.

import { pvError } from '../errors.ts';
import { vcpuBlockBytes, writeMapOffset } from './layout.ts';

const pageBytes = 4096;
const wasmPageBytes = 65536;
const align = (value: number, to: number) => Math.ceil(value / to) * to;

export interface MemoryOptions {
  readonly vcpus: number;
  /** Guest RAM, in bytes; a multiple of 4096. */
  readonly guestBytes: number;
  /** Frames that belong to the hypervisor: shared info, grant tables, M2P, page tables of its own. */
  readonly xenFrames: number;
  /** Highest machine frame number + 1. */
  readonly mfnLimit: number;
  /** Bytes per MFN for the platform's own tables; default none. */
  readonly bytesPerFrame?: number;
}

/** Byte addresses ("host addresses") of the areas, all inside the WebAssembly memory. */
export interface MemoryLayout {
  readonly vcpus: number;
  /** u32 per MFN: host address of the frame, 0 = none. */
  readonly frameTable: number;
  /** u32 per MFN: which addresses an L1 table maps (page walk). */
  readonly l1Tags: number;
  /** What the platform keeps per MFN (`MemoryOptions.bytesPerFrame`), 4-byte aligned. */
  readonly frameStates: number;
  /** u32 per host page: one bit per 128 bytes that hold decoded code. */
  readonly codeMap: number;
  /** u32 per host page, `writeMapOffset` behind the code map: host address of the only TLB entry that may allow writes to it, perhaps with `inAnyBank`; 0 = none; or `severalEntries`. */
  readonly writeMap: number;
  /** Micro-op records, one arena per vCPU. */
  readonly arenas: number;
  readonly arenaBytes: number;
  readonly xen: number;
  readonly guest: number;
  readonly end: number;
}

/** 24 MiB of records: about 1.5 million instructions; untouched parts cost no memory. */
const arenaBytes = 24 << 20;

export class MachineMemory {
  readonly wasm: WebAssembly.Memory;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly f64: Float64Array;
  readonly u64: BigUint64Array;
  readonly view: DataView;
  readonly layout: MemoryLayout;
  readonly options: MemoryOptions;

  /** Throws `memory-size-invalid` beyond 4 GiB in all, `memory-unavailable` when the host cannot give that much address space. */
  constructor(options: MemoryOptions) {
    this.options = options;
    let at = wasmPageBytes;
    const area = (bytes: number) => {
      const start = at;
      at = align(at + bytes, pageBytes);
      return start;
    };
    const vcpus = area(options.vcpus * vcpuBlockBytes);
    const frameTable = area(options.mfnLimit * 4);
    const l1Tags = area(options.mfnLimit * 4);
    const frameStates = area(options.mfnLimit * (options.bytesPerFrame ?? 0));
    const codeMap = area(writeMapOffset);
    const writeMap = area(writeMapOffset);
    const arenas = area(options.vcpus * arenaBytes);
    const xen = area(options.xenFrames * pageBytes);
    const guest = area(options.guestBytes);
    const pages = Math.ceil(at / wasmPageBytes);
    if (pages > 65536)
      throw pvError('memory-size-invalid', {
        size: options.guestBytes,
        detail: `the limit is ${Math.floor((2 ** 32 - (at - options.guestBytes)) / 2 ** 20)} MiB`,
      });
    try {
      this.wasm = new WebAssembly.Memory({ initial: pages, maximum: 65536, shared: true });
    } catch (cause) {
      throw pvError('memory-unavailable', { memoryMiB: Math.floor(options.guestBytes / 2 ** 20) }, cause);
    }
    const { buffer } = this.wasm;
    this.u8 = new Uint8Array(buffer);
    this.u16 = new Uint16Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.f64 = new Float64Array(buffer);
    this.u64 = new BigUint64Array(buffer);
    this.view = new DataView(buffer);
    this.layout = {
      vcpus,
      frameTable,
      l1Tags,
      frameStates,
      codeMap,
      writeMap,
      arenas,
      arenaBytes,
      xen,
      guest,
      end: at,
    };
  }

  /** Host address of a machine frame's first byte, 0 when there is no such frame. */
  hostOf(mfn: number): number {
    return mfn >= 0 && mfn < this.options.mfnLimit ? this.u32[(this.layout.frameTable >>> 2) + mfn]! : 0;
  }

  /** Puts a frame at a host address (0 removes it). */
  setFrame(mfn: number, host: number): void {
    this.u32[(this.layout.frameTable >>> 2) + mfn] = host;
  }
}
