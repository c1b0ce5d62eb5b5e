// SPDX-License-Identifier: MIT
// LZMA decoder: the range-coded core (also used by xz for LZMA2 chunks) and the ".lzma" file format.
// Format: "LZMA specification" of the LZMA SDK (2015), https://www.7-zip.org/sdk.html.
import { pvError } from '../../errors.ts';
import { OutputBuffer } from './output-buffer.ts';
import type { DecompressLimits } from './output-buffer.ts';

// Probabilities live in one array. Offsets of the groups, with the sizes the specification gives them.
const POS_STATES = 16;
const STATES = 12;
const LENGTH_CODER_SIZE = 2 + POS_STATES * 8 * 2 + 256; // choice, choice2, low and mid trees per position state, high tree
const IS_MATCH = 0;
const IS_REP = IS_MATCH + STATES * POS_STATES;
const IS_REP_G0 = IS_REP + STATES;
const IS_REP_G1 = IS_REP_G0 + STATES;
const IS_REP_G2 = IS_REP_G1 + STATES;
const IS_REP0_LONG = IS_REP_G2 + STATES;
const POS_SLOT = IS_REP0_LONG + STATES * POS_STATES;
const POS_SPECIAL = POS_SLOT + 4 * 64;
const ALIGN = POS_SPECIAL + 128;
const MATCH_LENGTH = ALIGN + 16;
const REP_LENGTH = MATCH_LENGTH + LENGTH_CODER_SIZE;
const LITERAL = REP_LENGTH + LENGTH_CODER_SIZE;
const LITERAL_CODER_SIZE = 0x300;

const INITIAL_PROBABILITY = 1024;
const NORMALISE_BELOW = 0x01000000;
const MIN_MATCH = 2;

/** What `LzmaDecoder.decode` met. */
export type LzmaEnd = 'output-full' | 'end-marker';

/**
 * The LZMA state machine. Input is `input[inPos, inEnd)`; the output buffer is also the dictionary. Use: `setProperties`, then per
 * range-coded section `startSection` and `decode`.
 *
 * Range and code live in a typed array rather than in fields: they take all 32-bit values, which a field would box.
 */
export class LzmaDecoder {
  private readonly format: string;
  private readonly input: Uint8Array;
  private readonly output: OutputBuffer;
  private readonly coder = new Uint32Array(2); // [range, code]
  private probs = new Uint16Array(LITERAL);
  private literalContextBits = 0;
  private literalPositionMask = 0;
  private positionMask = 0;
  private state = 0;
  private readonly reps = new Uint32Array(4);
  /** Matches may not reach before this output position (start of the dictionary). */
  private dictionaryStart = 0;
  private inPos = 0;
  private inEnd = 0;

  constructor(format: string, input: Uint8Array, output: OutputBuffer) {
    this.format = format;
    this.input = input;
    this.output = output;
  }

  /** Position after the last byte that was consumed. */
  get position(): number {
    return this.inPos;
  }

  /** Sets lc, lp, pb from the properties byte and resets the state. Returns false when the byte is invalid. */
  setProperties(byte: number): boolean {
    if (byte >= 9 * 5 * 5) return false;
    const lc = byte % 9;
    const lp = Math.floor(byte / 9) % 5;
    const pb = Math.floor(byte / 45);
    this.literalContextBits = lc;
    this.literalPositionMask = (1 << lp) - 1;
    this.positionMask = (1 << pb) - 1;
    const size = LITERAL + (LITERAL_CODER_SIZE << (lc + lp));
    if (this.probs.length !== size) this.probs = new Uint16Array(size);
    this.resetState();
    return true;
  }

  /** Forgets probabilities and repeat distances, keeps the dictionary. */
  resetState(): void {
    this.probs.fill(INITIAL_PROBABILITY);
    this.reps.fill(0);
    this.state = 0;
  }

  /** From here on, matches may only reach what is written after this call. */
  resetDictionary(): void {
    this.dictionaryStart = this.output.length;
  }

  /** Starts a range-coded section over `input[from, to)`: reads its five initial bytes. */
  startSection(from: number, to: number): void {
    if (to - from < 5) throw pvError('compressed-truncated', { format: this.format });
    const input = this.input;
    if (input[from] !== 0) throw this.corrupt('the range coder does not start with zero');
    this.coder[0] = 0xffffffff;
    this.coder[1] = (input[from + 1]! << 24) | (input[from + 2]! << 16) | (input[from + 3]! << 8) | input[from + 4]!;
    this.inPos = from + 5;
    this.inEnd = to;
  }

  /** True when the section ended the way an encoder ends it: the code is zero. */
  isCleanEnd(): boolean {
    return this.coder[1] === 0;
  }

  /**
   * Decodes until `outputEnd` bytes are in the output buffer or an end marker is met. A match that crosses `outputEnd` is corrupt data
   * (no encoder writes one).
   */
  decode(outputEnd: number): LzmaEnd {
    const output = this.output;
    const probs = this.probs;
    const reps = this.reps;
    const { positionMask, literalContextBits, literalPositionMask, dictionaryStart } = this;
    let state = this.state;
    while (output.length < outputEnd) {
      if (this.inPos > this.inEnd) throw pvError('compressed-truncated', { format: this.format });
      const written = output.length - dictionaryStart;
      const posState = written & positionMask;
      if (this.bit(probs, IS_MATCH + state * POS_STATES + posState) === 0) {
        const previous = written === 0 ? 0 : output.bytes[output.length - 1]!;
        const context =
          ((written & literalPositionMask) << literalContextBits) + (previous >>> (8 - literalContextBits));
        const base = LITERAL + LITERAL_CODER_SIZE * context;
        let symbol: number;
        if (state < 7) {
          symbol = this.tree(probs, base, 8) & 0xff;
        } else {
          const distance = reps[0]! + 1;
          if (distance > written) throw this.corrupt('a match reaches before the start of the data');
          symbol = this.matchedLiteral(probs, base, output.bytes[output.length - distance]!);
        }
        if (output.length >= output.bytes.length) output.grow(1);
        output.bytes[output.length++] = symbol;
        state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
        continue;
      }
      let length: number;
      if (this.bit(probs, IS_REP + state) === 0) {
        reps[3] = reps[2]!;
        reps[2] = reps[1]!;
        reps[1] = reps[0]!;
        length = this.matchLength(probs, MATCH_LENGTH, posState);
        state = state < 7 ? 7 : 10;
        const distance = this.matchDistance(probs, length);
        reps[0] = distance;
        if (distance === 0xffffffff) {
          if (length !== MIN_MATCH) throw this.corrupt('the end marker has a wrong length');
          this.state = state;
          this.normalise();
          if (this.inPos > this.inEnd) throw pvError('compressed-truncated', { format: this.format });
          return 'end-marker';
        }
      } else {
        if (written === 0) throw this.corrupt('it starts with a repeated match');
        if (this.bit(probs, IS_REP_G0 + state) === 0) {
          if (this.bit(probs, IS_REP0_LONG + state * POS_STATES + posState) === 0) {
            state = state < 7 ? 9 : 11;
            if (reps[0]! + 1 > written) throw this.corrupt('a match reaches before the start of the data');
            output.copyMatch(reps[0]! + 1, 1);
            continue;
          }
        } else {
          let distance: number;
          if (this.bit(probs, IS_REP_G1 + state) === 0) {
            distance = reps[1]!;
          } else {
            if (this.bit(probs, IS_REP_G2 + state) === 0) {
              distance = reps[2]!;
            } else {
              distance = reps[3]!;
              reps[3] = reps[2]!;
            }
            reps[2] = reps[1]!;
          }
          reps[1] = reps[0]!;
          reps[0] = distance;
        }
        length = this.matchLength(probs, REP_LENGTH, posState);
        state = state < 7 ? 8 : 11;
      }
      if (reps[0]! + 1 > written) throw this.corrupt('a match reaches before the start of the data');
      if (length > outputEnd - output.length) throw this.corrupt('a match passes the end of the data');
      output.copyMatch(reps[0]! + 1, length);
    }
    this.state = state;
    this.normalise();
    if (this.inPos > this.inEnd) throw pvError('compressed-truncated', { format: this.format });
    return 'output-full';
  }

  /** Reads an end marker, if the section continues with one after all output was produced. */
  atEndMarker(): boolean {
    const posState = (this.output.length - this.dictionaryStart) & this.positionMask;
    const probs = this.probs;
    if (this.bit(probs, IS_MATCH + this.state * POS_STATES + posState) === 0) return false;
    if (this.bit(probs, IS_REP + this.state) !== 0) return false;
    const length = this.matchLength(probs, MATCH_LENGTH, posState);
    const isMarker = length === MIN_MATCH && this.matchDistance(probs, length) === 0xffffffff;
    this.normalise();
    return isMarker;
  }

  private corrupt(detail: string): Error {
    return pvError('compressed-corrupt', { format: this.format, detail });
  }

  private normalise(): void {
    const coder = this.coder;
    if (coder[0]! < NORMALISE_BELOW) {
      coder[0] = coder[0]! << 8;
      coder[1] = (coder[1]! << 8) | this.input[this.inPos++]!;
    }
  }

  /** Decodes one bit with the probability at `index` and adapts it. */
  private bit(probs: Uint16Array, index: number): number {
    const coder = this.coder;
    let range = coder[0]!;
    let code = coder[1]!;
    if (range < NORMALISE_BELOW) {
      range = (range << 8) >>> 0;
      code = ((code << 8) | this.input[this.inPos++]!) >>> 0;
    }
    const p = probs[index]!;
    const bound = Math.imul(range >>> 11, p) >>> 0;
    if (code < bound) {
      coder[0] = bound;
      coder[1] = code;
      probs[index] = p + ((2048 - p) >>> 5);
      return 0;
    }
    coder[0] = range - bound;
    coder[1] = code - bound;
    probs[index] = p - (p >>> 5);
    return 1;
  }

  /** Decodes `bits` bits through a bit tree, most significant first. The result has the leading 1 of the tree walk on top. */
  private tree(probs: Uint16Array, base: number, bits: number): number {
    const coder = this.coder;
    const input = this.input;
    let range = coder[0]!;
    let code = coder[1]!;
    let inPos = this.inPos;
    let symbol = 1;
    for (let i = 0; i < bits; i++) {
      if (range < NORMALISE_BELOW) {
        range = (range << 8) >>> 0;
        code = ((code << 8) | input[inPos++]!) >>> 0;
      }
      const p = probs[base + symbol]!;
      const bound = Math.imul(range >>> 11, p) >>> 0;
      if (code < bound) {
        range = bound;
        probs[base + symbol] = p + ((2048 - p) >>> 5);
        symbol <<= 1;
      } else {
        range -= bound;
        code -= bound;
        probs[base + symbol] = p - (p >>> 5);
        symbol = (symbol << 1) | 1;
      }
    }
    coder[0] = range;
    coder[1] = code;
    this.inPos = inPos;
    return symbol;
  }

  /** A literal after a match: the byte at the last distance selects the probabilities until the first differing bit. */
  private matchedLiteral(probs: Uint16Array, base: number, matchByte: number): number {
    let symbol = 1;
    let match = matchByte;
    do {
      const matchBit = (match >>> 7) & 1;
      match <<= 1;
      const bit = this.bit(probs, base + ((1 + matchBit) << 8) + symbol);
      symbol = (symbol << 1) | bit;
      if (bit !== matchBit) break;
    } while (symbol < 0x100);
    while (symbol < 0x100) symbol = (symbol << 1) | this.bit(probs, base + symbol);
    return symbol & 0xff;
  }

  private matchLength(probs: Uint16Array, base: number, posState: number): number {
    if (this.bit(probs, base) === 0) return MIN_MATCH + this.tree(probs, base + 2 + posState * 8, 3) - 8;
    if (this.bit(probs, base + 1) === 0)
      return MIN_MATCH + 8 + this.tree(probs, base + 2 + (POS_STATES + posState) * 8, 3) - 8;
    return MIN_MATCH + 16 + this.tree(probs, base + 2 + POS_STATES * 16, 8) - 256;
  }

  /** The distance minus one of a simple match, as an unsigned number; 0xffffffff is the end marker. */
  private matchDistance(probs: Uint16Array, length: number): number {
    const lengthState = Math.min(length - MIN_MATCH, 3);
    const slot = this.tree(probs, POS_SLOT + lengthState * 64, 6) - 64;
    if (slot < 4) return slot;
    const directBits = (slot >>> 1) - 1;
    const distance = ((2 | (slot & 1)) << directBits) >>> 0;
    if (slot < 14) return distance + this.reverseTree(probs, POS_SPECIAL + distance - slot, directBits);
    return (distance + this.directBits(directBits - 4) * 16 + this.reverseTree(probs, ALIGN, 4)) >>> 0;
  }

  private reverseTree(probs: Uint16Array, base: number, bits: number): number {
    let symbol = 1;
    let value = 0;
    for (let i = 0; i < bits; i++) {
      const bit = this.bit(probs, base + symbol);
      symbol = (symbol << 1) | bit;
      value |= bit << i;
    }
    return value;
  }

  /** Bits with fixed probability one half, most significant first. */
  private directBits(count: number): number {
    const coder = this.coder;
    let range = coder[0]!;
    let code = coder[1]!;
    let value = 0;
    for (let i = 0; i < count; i++) {
      if (range < NORMALISE_BELOW) {
        range = (range << 8) >>> 0;
        code = ((code << 8) | this.input[this.inPos++]!) >>> 0;
      }
      range >>>= 1;
      value <<= 1;
      if (code >= range) {
        code -= range;
        value |= 1;
      }
    }
    coder[0] = range;
    coder[1] = code;
    return value;
  }
}

const FORMAT = 'LZMA';
const HEADER_SIZE = 13;

/** True when `data` looks like a ".lzma" file: valid properties, a dictionary size tools produce, and a plausible uncompressed size. */
export function looksLikeLzma(data: Uint8Array): boolean {
  if (data.length < HEADER_SIZE + 5 || data[0]! >= 225 || data[HEADER_SIZE] !== 0) return false;
  const dictionary = (data[1]! | (data[2]! << 8) | (data[3]! << 16) | (data[4]! << 24)) >>> 0;
  // Encoders write 2^n or 2^n + 2^(n-1); the format has no magic number, so this is what tells it from noise.
  const isPowerOfTwo = (n: number): boolean => n !== 0 && (n & (n - 1)) === 0;
  if (dictionary < 4096 || !(isPowerOfTwo(dictionary) || (dictionary % 3 === 0 && isPowerOfTwo(dictionary / 3))))
    return false;
  const sizeHigh = (data[9]! | (data[10]! << 8) | (data[11]! << 16) | (data[12]! << 24)) >>> 0;
  return sizeHigh === 0xffffffff || sizeHigh < 256;
}

/**
 * Unpacks a ".lzma" file. Bytes after the end of the stream are ignored.
 * Throws `compressed-corrupt`, `compressed-truncated` or `compressed-too-large`.
 */
export function decompressLzma(data: Uint8Array, limits: DecompressLimits): Uint8Array {
  if (data.length < HEADER_SIZE) throw pvError('compressed-truncated', { format: FORMAT });
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const sizeLow = view.getUint32(5, true);
  const sizeHigh = view.getUint32(9, true);
  const sizeKnown = sizeLow !== 0xffffffff || sizeHigh !== 0xffffffff;
  const size = sizeKnown ? sizeHigh * 2 ** 32 + sizeLow : Infinity;
  if (sizeKnown && size > limits.maxOutput)
    throw pvError('compressed-too-large', { format: FORMAT, limit: limits.maxOutput });
  const output = new OutputBuffer(FORMAT, sizeKnown ? { maxOutput: limits.maxOutput, sizeHint: size } : limits);
  const decoder = new LzmaDecoder(FORMAT, data, output);
  if (!decoder.setProperties(data[0]!)) throw corrupt('its properties are invalid');
  decoder.startSection(HEADER_SIZE, data.length);
  const end = decoder.decode(size);
  if (end === 'end-marker') {
    if (!decoder.isCleanEnd()) throw corrupt('its end marker is damaged');
    if (sizeKnown && output.length !== size) throw corrupt('it ends before the size its header gives');
  } else if (!decoder.isCleanEnd() && !decoder.atEndMarker()) {
    // With a known size the end marker is optional, but nothing else may follow.
    throw corrupt('there is more data than its header says');
  }
  return output.result();
}

function corrupt(detail: string): Error {
  return pvError('compressed-corrupt', { format: FORMAT, detail });
}
