// SPDX-License-Identifier: MIT
// The notation in which the oracle lists instruction forms, and its parser (opcode-map letters of SDM vol. 2, appendix A.2).

/** Where an operand comes from. E/W/Q: register or memory; M: memory only; R/U/N: the same field as a register only. */
export type OperandPlace = 'E' | 'M' | 'R' | 'G' | 'V' | 'W' | 'U' | 'P' | 'Q' | 'N' | 'Z';

export type Family = 'integer' | 'string' | 'branch' | 'stack' | 'x87' | 'mmx' | 'sse' | 'privileged';

export interface Form {
  /** Unique within the table: `name encoding`. */
  key: string;
  name: string;
  family: Family;
  /** Encoding in the manual's notation, for people and for the coverage table. */
  encoding: string;
  /** Mandatory prefix 66, F2 or F3; 0 = none. */
  mandatory: number;
  /** Opcode bytes, a fixed ModRM byte such as D9 E0 included. */
  opcode: number[];
  /** `+r`: the last opcode byte's low bits are a general register; `+i`: an x87 stack register. */
  plus: '' | 'r' | 'i';
  /** -1: none; 0..7: digit in the reg field; 8: /r. */
  modrm: number;
  immediates: ('ib' | 'iw' | 'id' | 'iz' | 'iv' | 'moffs' | 'rel8' | 'relz')[];
  /** Kind of the r/m operand: register allowed, memory allowed. */
  rmRegister: boolean;
  rmMemory: boolean;
  rmClass: 'gpr' | 'xmm' | 'mmx' | 'none';
  regClass: 'gpr' | 'xmm' | 'mmx' | 'none';
  /** Which general register operands the instruction writes; an approximation that only guides the choice of later operands. */
  writes: 'rm' | 'reg' | 'both' | 'none';
  /** Bytes of the memory operand; 0 = the operand size. */
  memoryBytes: number;
  /** Letters of b w d q; '' = one fixed size. */
  sizes: string;
  modes: readonly (64 | 32)[];
  /** Words that say what the table's letters cannot; each is explained where the generator uses it. */
  traits: ReadonlySet<string>;
}

// prettier-ignore
const BYTES: Readonly<Record<string, number>> = {
  b: 1, w: 2, d: 4, q: 8, o: 16, v: 0, y: 0, t: 10, e: 28, s: 108, x: 512,
};

/**
 * Parses one table. Each line: `name | encoding | operands | sizes | traits`, sizes and traits optional.
 * Operands are a place letter and a width letter: b w d q o(16) v(operand size) y(d, or q with REX.W) t(80 bits)
 * e(x87 environment) s(FSAVE image) x(FXSAVE image).
 */
export function parseForms(family: Family, table: string): Form[] {
  return table
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.startsWith('#'))
    .map((line) => parseLine(family, line));
}

function parseLine(family: Family, line: string): Form {
  const [name = '', encoding = '', operands = '', sizes = '', words = ''] = line.split('|').map((s) => s.trim());
  if (!/^[bwdqn]*$/.test(sizes)) throw new Error(`form ${name} ${encoding}: sizes ${sizes}`);
  const form: Form = {
    key: `${name} ${encoding}`,
    name,
    family,
    encoding,
    mandatory: 0,
    opcode: [],
    plus: '',
    modrm: -1,
    immediates: [],
    rmRegister: false,
    rmMemory: false,
    rmClass: 'none',
    regClass: 'none',
    writes: destination(name, operands),
    memoryBytes: 0,
    sizes,
    modes: [64, 32],
    traits: new Set(words.split(' ').filter((w) => w !== '')),
  };
  if (form.traits.has('only32')) form.modes = [32];
  if (form.traits.has('only64')) form.modes = [64];
  parseEncoding(form);
  for (const operand of operands.split(' ').filter((w) => w !== '')) parseOperand(form, operand);
  return form;
}

function destination(name: string, operands: string): Form['writes'] {
  if (/^(cmp|test|bt|push|call|jmp|nop|bound|arpl|div|idiv)$/.test(name)) return 'none';
  if (/^(xchg|xadd)$/.test(name)) return 'both';
  return operands.startsWith('G') ? 'reg' : /^[ERZ]/.test(operands) ? 'rm' : 'none';
}

function parseEncoding(form: Form): void {
  const tokens = form.encoding.split(' ');
  if (/^(66|F2|F3)$/.test(tokens[0] ?? '') && tokens.length > 1)
    form.mandatory = parseInt(tokens.shift() as string, 16);
  for (const token of tokens) {
    const plus = /^([0-9A-F]{2})\+([ri])$/.exec(token);
    if (plus) {
      form.opcode.push(parseInt(plus[1] as string, 16));
      form.plus = plus[2] as 'r' | 'i';
    } else if (/^[0-9A-F]{2}$/.test(token)) form.opcode.push(parseInt(token, 16));
    else if (token === '/r') form.modrm = 8;
    else if (/^\/[0-7]$/.test(token)) form.modrm = Number(token[1]);
    else if (/^(ib|iw|id|iz|iv|moffs|rel8|relz)$/.test(token)) form.immediates.push(token as 'ib');
    else throw new Error(`form ${form.key}: unknown token ${token}`);
  }
}

function parseOperand(form: Form, operand: string): void {
  const place = operand[0] as OperandPlace;
  const bytes = BYTES[operand[1] as string];
  if (bytes === undefined) throw new Error(`form ${form.key}: unknown operand ${operand}`);
  switch (place) {
    case 'G':
      form.regClass = 'gpr';
      return;
    case 'V':
      form.regClass = 'xmm';
      return;
    case 'P':
      form.regClass = 'mmx';
      return;
    case 'Z':
      return;
  }
  form.rmRegister = 'EWQRUN'.includes(place);
  form.rmMemory = 'EWQM'.includes(place);
  form.rmClass = 'ER'.includes(place) ? 'gpr' : 'WU'.includes(place) ? 'xmm' : 'QN'.includes(place) ? 'mmx' : 'none';
  form.memoryBytes = bytes;
}
