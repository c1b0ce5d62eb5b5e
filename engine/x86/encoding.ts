// SPDX-License-Identifier: MIT
// Parses the encoding notation of types.ts into table entries (Intel SDM volume 2, chapter 2 and appendix A).

import type { Instruction } from './types.ts';

/** Operand kinds after decoding decides register or memory: r general, m memory, i immediate, x XMM, p MMX, t x87 stack, j branch, s segment, c control/debug, l CL. */
export type Category = 'r' | 'm' | 'i' | 'x' | 'p' | 't' | 'j' | 's' | 'c' | 'l';

export interface OperandSpec {
  /** Letter of the notation, or 'A' accumulator, 'L' CL, '1'. */
  readonly kind: string;
  /** Size letter: b w d q t x v z y s n. */
  readonly size: string;
  /** Bits that the letter stands for, 0 = none; -1: those of the operation. */
  readonly bits: number;
}

export interface Entry {
  readonly insn: Instruction;
  /** 0 one-byte, 1 0F, 2 0F38, 3 0F3A. */
  readonly map: number;
  readonly opcode: number;
  /** Required mandatory prefix; undefined: any. */
  readonly prefix: 'NP' | '66' | 'F3' | 'F2' | undefined;
  /** ModRM.reg must be this; -1 any. */
  readonly reg: number;
  /** Whole ModRM byte must be in [first, last]; -1 when free. */
  readonly modrmFirst: number;
  readonly modrmLast: number;
  readonly plus: boolean;
  readonly hasModrm: boolean;
  readonly operands: readonly OperandSpec[];
  /** Size letter that governs the operation, '' when none. */
  readonly sizeLetter: string;
  readonly only: 'i64' | 'o64' | undefined;
  readonly stack64: 'd64' | 'f64' | undefined;
  readonly w: number;
  readonly rm: 'mem' | 'reg' | undefined;
  readonly text: string;
}

const flagWords = new Set(['i64', 'o64', 'd64', 'f64', 'w0', 'w1', 'mem', 'reg']);
const modrmKinds = new Set(['E', 'G', 'R', 'M', 'S', 'C', 'D', 'V', 'W', 'U', 'P', 'Q', 'N']);
const memoryOnly = new Set(['M']);
const registerOnly = new Set(['R', 'U', 'N']);

const operationBits = -1;

const operand = (kind: string, size: string): OperandSpec => ({ kind, size, bits: sizeBits(size, operationBits) });

function parseOperand(text: string): OperandSpec {
  switch (text) {
    case 'AL':
      return operand('A', 'b');
    case 'AX':
      return operand('A', 'w');
    case 'rAX':
      return operand('A', 'v');
    case 'CL':
      return operand('L', 'b');
    case '1':
      return operand('1', 'b');
    case 'Ibs':
      return operand('I', 's');
  }
  const match = /^([EGZRMIJOSCDVWUPQNT])([bwdqtxvzyn]?)$/.exec(text);
  if (!match) throw new Error(`bad operand ${text}`);
  return operand(match[1]!, match[2] || (match[1] === 'T' ? 't' : 'n'));
}

const isByte = (word: string) => /^[0-9A-F]{2}(\/[0-7]|\+)?$/.test(word) || /^[0-9A-F]{4}\+?$/.test(word);

/** Parses one encoding of an instruction; throws on notation that it does not know. */
export function parseEncoding(insn: Instruction, text: string): Entry {
  const words = text.split(' ');
  let prefix: Entry['prefix'];
  if (
    words[0] === 'NP' ||
    ((words[0] === '66' || words[0] === 'F3' || words[0] === 'F2') && words[1] !== undefined && isByte(words[1]))
  )
    prefix = words.shift() as Entry['prefix'];
  const bytes: string[] = [];
  while (words[0] !== undefined && isByte(words[0])) bytes.push(words.shift()!);
  let map = 0;
  if (bytes[0] === '0F') {
    bytes.shift();
    const escape: string | undefined = bytes.at(0);
    map = escape === '38' ? 2 : escape === '3A' ? 3 : 1;
    if (map > 1) bytes.shift();
  }
  const main: string | undefined = bytes[0];
  if (!main) throw new Error(`no opcode in ${text}`);
  const plusWhole = main.endsWith('+');
  const digits = main.replace(/[/+].*$/, '');
  const opcode = parseInt(digits.slice(0, 2), 16);
  let modrmFirst = -1;
  if (digits.length === 4) modrmFirst = parseInt(digits.slice(2), 16);
  else if (bytes[1]) modrmFirst = parseInt(bytes[1].slice(0, 2), 16);
  const modrmPlus = (digits.length === 4 && plusWhole) || (bytes[1]?.endsWith('+') ?? false);
  const modrmLast = modrmFirst < 0 ? -1 : modrmFirst + (modrmPlus ? 7 : 0);
  const slash = /\/([0-7])$/.exec(main) ?? /^[0-9A-F]{2}\/([0-7])$/.exec(bytes[1] ?? '');
  const reg = slash ? Number(slash[1]) : -1;
  const flags = words.filter((w) => flagWords.has(w));
  const sizeWord = words.find((w) => w.startsWith('#'))?.slice(1);
  const list = words.find((w) => !flagWords.has(w) && !w.startsWith('#'));
  const operands = list ? list.split(',').map(parseOperand) : [];
  const x87 = map === 0 && opcode >= 0xd8 && opcode <= 0xdf;
  const hasModrm = modrmFirst >= 0 || reg >= 0 || x87 || operands.some((o) => modrmKinds.has(o.kind));
  const governing =
    sizeWord ??
    operands.map((o) => o.size).find((c) => c === 'v' || c === 'z' || c === 'y') ??
    (operands.some((o) => o.size === 's') ? 'v' : undefined) ??
    operands.map((o) => o.size).find((c) => 'bwdq'.includes(c)) ??
    '';
  let rm: Entry['rm'] = flags.includes('mem') ? 'mem' : flags.includes('reg') ? 'reg' : undefined;
  if (operands.some((o) => memoryOnly.has(o.kind))) rm = 'mem';
  if (operands.some((o) => registerOnly.has(o.kind))) rm = 'reg';
  return {
    insn,
    map,
    opcode,
    prefix,
    reg,
    modrmFirst,
    modrmLast,
    plus: plusWhole && digits.length === 2,
    hasModrm,
    operands,
    sizeLetter: governing,
    only: flags.includes('i64') ? 'i64' : flags.includes('o64') ? 'o64' : undefined,
    stack64: flags.includes('d64') ? 'd64' : flags.includes('f64') ? 'f64' : undefined,
    w: flags.includes('w0') ? 0 : flags.includes('w1') ? 1 : -1,
    rm,
    text,
  };
}

/** Categories that an operand can take when decoded: E can be a register or memory. */
export function categories(o: OperandSpec, rm: Entry['rm']): Category[] {
  const either = (register: Category): Category[] =>
    rm === 'mem' ? ['m'] : rm === 'reg' ? [register] : [register, 'm'];
  switch (o.kind) {
    case 'E':
      return either('r');
    case 'W':
      return either('x');
    case 'Q':
      return either('p');
    case 'G':
    case 'Z':
    case 'R':
    case 'A':
      return ['r'];
    case 'M':
    case 'O':
      return ['m'];
    case 'I':
    case '1':
      return ['i'];
    case 'J':
      return ['j'];
    case 'S':
      return ['s'];
    case 'C':
    case 'D':
      return ['c'];
    case 'V':
    case 'U':
      return ['x'];
    case 'P':
    case 'N':
      return ['p'];
    case 'T':
      return ['t'];
    case 'L':
      return ['l'];
    default:
      throw new Error(`operand kind ${o.kind}`);
  }
}

/** Bits of a size letter at an operation size; 0 for "no access". `s` (sign-extended byte) and `z` have the operation's size as values. */
export function sizeBits(letter: string, operationSize: number): number {
  switch (letter) {
    case 'b':
      return 8;
    case 'w':
      return 16;
    case 'd':
      return 32;
    case 'q':
      return 64;
    case 't':
      return 80;
    case 'x':
      return 128;
    case 'v':
    case 's':
    case 'z':
    case 'y':
      return operationSize;
    default:
      return 0;
  }
}

/** Operation sizes that an entry can have. */
export function operationSizes(e: Entry): (8 | 16 | 32 | 64)[] {
  switch (e.sizeLetter) {
    case 'v':
      if (e.stack64 === 'f64') return [64, 32, 16];
      return [16, 32, 64];
    case 'z':
      return e.stack64 ? [16, 32, 64] : [16, 32, 64];
    case 'y':
      return [32, 64];
    case 'b':
      return [8];
    case 'w':
      return [16];
    case 'q':
      return [64];
    default:
      return [32];
  }
}
