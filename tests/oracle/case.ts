// SPDX-License-Identifier: MIT
// One differential-test case, its result, and their binary records (twin of native/harness.c, where the protocol is told).

/** Guest memory every case sees; the same addresses natively and in the engine. */
export const PAGE = 4096;
/** Data pages, relative to this address: 0 and 1 read-write, 2 read-only, 3 a hole, 4 read-write, 5 a hole. */
export const DATA_BASE = 0x10000000;
/** Code pages: 0 and 1 read-write-execute, 2 a hole. Bytes which belong to no case are int3 (0xCC). */
export const CODE_BASE = 0x10010000;
export const CODE_BYTES = 2 * PAGE;
export const CODE_FILL = 0xcc;
/** Where a case goes when it ends: the five bytes after its code are `jmp STUB`. */
export const STUB = { 64: 0x3f7a4000, 32: 0x3f7a4100 } as const;
export const TERMINATOR_BYTES = 5;
/** Bytes of a batch's base image: data pages 0, 1, 2 and 4 in that order. */
export const BASE_BYTES = 4 * PAGE;
/** Readable data pages as [page of the area, page of the base image]. */
export const DATA_PAGES: readonly (readonly [page: number, image: number, writable: boolean])[] = [
  [0, 0, true],
  [1, 1, true],
  [2, 2, false],
  [4, 3, true],
];

export type Mode = 64 | 32;

/** Bytes put into writable data memory before one case, taken back after it. At most 16 bytes. */
export interface Patch {
  /** Relative to DATA_BASE. */
  offset: number;
  data: Uint8Array;
}

/** What the generator knows about one instruction of a case; the comparison needs it. */
export interface Step {
  /** Offset of the first byte within the case's code. */
  offset: number;
  /** Key of the form in the table, such as `add 01 /r`, or the name of a helper sequence. */
  form: string;
  /** Operand size letter of the form, '' when the form has one size only. */
  size: string;
  /** Bits of FLAG_* (undefined-bits.ts) that are undefined once this instruction has completed, earlier ones included. */
  undefinedAfter: number;
  /** Address of its memory operand where the generator knew it: for printing. */
  address?: number;
}

export interface Case {
  mode: Mode;
  code: Uint8Array;
  /** Of the first code byte in the code pages. */
  codeOffset: number;
  /** rax rcx rdx rbx rsp rbp rsi rdi r8..r15. */
  gpr: BigUint64Array;
  rflags: number;
  /** FXSAVE64 image: x87, MMX, SSE, MXCSR (SDM vol. 1, 10.5.1). */
  fx: Uint8Array;
  patches: Patch[];
  steps: Step[];
  /** Data ranges [offset, length] whose final bytes depend on the CPU model (instruction pointers of FNSTENV and such). */
  ignoredMemory: [offset: number, length: number][];
  /** How results are compared that the architecture gives only approximately, or leaves a choice of. */
  tolerance?: 'reciprocal' | 'transcendental' | 'nan';
}

export interface Batch {
  base: Uint8Array;
  cases: Case[];
}

export const STATUS = { done: 0, exception: 1, timeout: 2 } as const;

export interface Result {
  status: number;
  /** Exception vector; 0 when status is `done`. */
  vector: number;
  error: number;
  /** Page-fault address; 0 for other vectors. */
  cr2: bigint;
  rip: bigint;
  gpr: BigUint64Array;
  rflags: number;
  fx: Uint8Array;
  /** 8-byte words of the data and code pages that differ from before the case, by ascending address. */
  changes: Map<number, bigint>;
}

const MAGIC = 0x4f565021;
export const HEADER_BYTES = 16;
const CASE_HEAD_BYTES = 24 + 128 + 8 + 512;
const PATCH_BYTES = 24;
const RESULT_HEAD_BYTES = 32 + 128 + 8 + 512 + 8;
const CHANGE_BYTES = 16;

function caseBytes(c: Case): number {
  return CASE_HEAD_BYTES + c.patches.length * PATCH_BYTES + ((c.code.length + 7) & ~7);
}

/** The batch as the harness reads it: header, base image, case records. */
export function encodeBatch(batch: Batch): Uint8Array {
  let total = 0;
  for (const c of batch.cases) total += caseBytes(c);
  const bytes = new Uint8Array(HEADER_BYTES + BASE_BYTES + total);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, batch.cases.length, true);
  view.setUint32(8, total, true);
  bytes.set(batch.base, HEADER_BYTES);
  let at = HEADER_BYTES + BASE_BYTES;
  for (const c of batch.cases) {
    const size = caseBytes(c);
    view.setUint32(at, size, true);
    view.setUint32(at + 4, c.mode, true);
    view.setUint32(at + 8, c.codeOffset, true);
    view.setUint32(at + 12, c.code.length, true);
    view.setUint32(at + 16, c.patches.length, true);
    bytes.set(new Uint8Array(c.gpr.buffer, c.gpr.byteOffset, 128), at + 24);
    view.setUint32(at + 152, c.rflags, true);
    bytes.set(c.fx, at + 160);
    let p = at + CASE_HEAD_BYTES;
    for (const patch of c.patches) {
      view.setUint32(p, patch.offset, true);
      view.setUint32(p + 4, patch.data.length, true);
      bytes.set(patch.data, p + 8);
      p += PATCH_BYTES;
    }
    bytes.set(c.code, p);
    at += size;
  }
  return bytes;
}

/** Reads the header of an answer: how many results follow, in how many bytes. Throws when it is none. */
export function decodeHeader(bytes: Uint8Array): { count: number; bytes: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  if (view.getUint32(0, true) !== MAGIC)
    throw new Error('the oracle harness answered with something that is no answer');
  return { count: view.getUint32(4, true), bytes: view.getUint32(8, true) };
}

/** Decodes the records after the header. `bytes` must start at a multiple of 8 in its buffer; results refer into it. */
export function decodeResults(bytes: Uint8Array, count: number): Result[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const results: Result[] = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    const changes = new Map<number, bigint>();
    const n = view.getUint32(at + 680, true);
    for (let k = 0; k < n; k++) {
      const p = at + RESULT_HEAD_BYTES + k * CHANGE_BYTES;
      changes.set(view.getUint32(p, true), view.getBigUint64(p + 8, true));
    }
    results.push({
      status: view.getUint32(at + 4, true),
      vector: view.getUint32(at + 8, true),
      error: view.getUint32(at + 12, true),
      cr2: view.getBigUint64(at + 16, true),
      rip: view.getBigUint64(at + 24, true),
      gpr: new BigUint64Array(bytes.buffer, bytes.byteOffset + at + 32, 16),
      rflags: view.getUint32(at + 160, true),
      fx: bytes.subarray(at + 168, at + 680),
      changes,
    });
    at += view.getUint32(at, true);
  }
  return results;
}

/** The five bytes after a case's code: `jmp rel32` to the mode's stub; fewer where the code pages end. */
export function terminator(c: Case): Uint8Array {
  const end = c.codeOffset + c.code.length;
  const jump = new Uint8Array(TERMINATOR_BYTES);
  jump[0] = 0xe9;
  new DataView(jump.buffer).setInt32(1, STUB[c.mode] - (CODE_BASE + end + TERMINATOR_BYTES), true);
  return jump.subarray(0, Math.min(TERMINATOR_BYTES, CODE_BYTES - end));
}

/** Bytes of the data or code pages as a case finds them; fewer where the pages end, none outside. */
export function memoryBefore(c: Case, base: Uint8Array, address: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) {
    const inCode = address + i - CODE_BASE;
    const offset = address + i - DATA_BASE;
    const page = DATA_PAGES.find(([p]) => p === Math.floor(offset / PAGE));
    if (inCode >= 0 && inCode < CODE_BYTES) bytes[i] = codeByte(c, inCode - c.codeOffset);
    else if (page) {
      bytes[i] = base[page[1] * PAGE + (offset % PAGE)];
      for (const p of c.patches)
        if (offset >= p.offset && offset < p.offset + p.data.length) bytes[i] = p.data[offset - p.offset];
    } else return bytes.subarray(0, i);
  }
  return bytes;
}

function codeByte(c: Case, at: number): number {
  if (at < 0) return CODE_FILL;
  return at < c.code.length ? c.code[at] : (terminator(c)[at - c.code.length] ?? CODE_FILL);
}
