// SPDX-License-Identifier: MIT
// Which flags each instruction reads, defines and leaves undefined (SDM vol. 1 appendix A; vol. 3 of the AMD64 manual).

import type { Form } from './forms/form.ts';

/** Bits of RFLAGS; the x87 condition codes C0-C3 are bits 8, 9, 10, 14 of the status word, kept here 16 places higher. */
export const FLAG = {
  c: 0x001,
  p: 0x004,
  a: 0x010,
  z: 0x040,
  s: 0x080,
  o: 0x800,
  C0: 1 << 24,
  C1: 1 << 25,
  C2: 1 << 26,
  C3: 1 << 30,
} as const;
export const STATUS_FLAGS = 0x8d5;
export const X87_CODES = FLAG.C0 | FLAG.C1 | FLAG.C2 | FLAG.C3;

export interface FlagEffect {
  reads: number;
  /** Certainly written with a value the manual gives. */
  defines: number;
  /** Possibly left undefined. */
  undefined: number;
}

const CONDITIONS: Readonly<Record<string, string>> = {
  o: 'o',
  no: 'o',
  b: 'c',
  ae: 'c',
  e: 'z',
  ne: 'z',
  be: 'cz',
  a: 'cz',
  s: 's',
  ns: 's',
  p: 'p',
  np: 'p',
  l: 'so',
  ge: 'so',
  le: 'zso',
  g: 'zso',
};

/** name -> reads / defines / leaves undefined. */
const EFFECTS: Readonly<Record<string, readonly [string, string, string]>> = {
  ...each('add sub cmp neg xadd cmpxchg', '', 'oszapc', ''),
  ...each('adc sbb', 'c', 'oszapc', ''),
  ...each('and or xor test', '', 'oszpc', 'a'),
  ...each('inc dec', '', 'oszap', ''),
  ...each('mul imul', '', 'oc', 'szap'),
  ...each('div idiv', '', '', 'oszapc'),
  daa: ['ac', 'szapc', 'o'],
  das: ['ac', 'szapc', 'o'],
  aaa: ['a', 'ac', 'oszp'],
  aas: ['a', 'ac', 'oszp'],
  aam: ['', 'szp', 'oac'],
  aad: ['', 'szp', 'oac'],
  salc: ['c', '', ''],
  clc: ['', 'c', ''],
  stc: ['', 'c', ''],
  cmc: ['c', 'c', ''],
  lahf: ['szapc', '', ''],
  sahf: ['', 'szapc', ''],
  ...each('bt bts btr btc', '', 'c', 'osap'),
  ...each('bsf bsr', '', 'z', 'osapc'),
  popcnt: ['', 'oszapc', ''],
  ...each('cmpxchg8b cmpxchg16b arpl', '', 'z', ''),
  pushf: ['oszapc', '', ''],
  popf: ['', 'oszapc', ''],
  into: ['o', '', ''],
  ...each('loope loopne', 'z', '', ''),
  ...each('comiss comisd ucomiss ucomisd ptest pcmpestrm pcmpestri pcmpistrm pcmpistri', '', 'oszapc', ''),
  ...each('fcomi fcomip fucomi fucomip', '', 'zpc', ''),
  ...each('fcmovb fcmovnb', 'c', '', ''),
  ...each('fcmove fcmovne', 'z', '', ''),
  ...each('fcmovbe fcmovnbe', 'cz', '', ''),
  ...each('fcmovu fcmovnu', 'p', '', ''),
};

function each(
  names: string,
  reads: string,
  defines: string,
  undef: string,
): Record<string, readonly [string, string, string]> {
  return Object.fromEntries(names.split(' ').map((n) => [n, [reads, defines, undef] as const]));
}

function bits(letters: string): number {
  let mask = 0;
  for (const letter of letters) mask |= FLAG[letter as 'c'];
  return mask;
}

const WIDTH: Readonly<Record<string, number>> = { b: 8, w: 16, d: 32, q: 64 };

/**
 * Effect of one instruction. `count` is the shift count when it is known before the case runs (immediate, or CL of the
 * first instruction), undefined when it is not.
 */
export function flagEffect(form: Form, size: string, count: number | undefined): FlagEffect {
  if (/^(rol|ror|rcl|rcr|shl|shr|sal|sar|shld|shrd)$/.test(form.name)) return shiftEffect(form.name, size, count);
  const condition = /^(?:j|set|cmov)(n?[a-z]{1,2})$/.exec(form.name);
  if (condition && CONDITIONS[condition[1]] && form.family !== 'x87') {
    return { reads: bits(CONDITIONS[condition[1]]), defines: 0, undefined: 0 };
  }
  if (form.name === 'cmps' || form.name === 'scas') return { reads: 0, defines: 0, undefined: 0 };
  const [reads, defines, undef] = EFFECTS[form.name] ?? ['', '', ''];
  const effect = { reads: bits(reads), defines: bits(defines), undefined: bits(undef) };
  if (form.traits.has('readsxcc')) effect.reads |= X87_CODES;
  if (form.traits.has('xcc')) effect.undefined |= FLAG.C0 | FLAG.C2 | FLAG.C3;
  // C2 says that the operand was out of range.
  if (/^f(ptan|sincos|sin|cos)$/.test(form.name)) effect.undefined &= ~FLAG.C2;
  // The SDM clears C1 where AMD leaves it, or says nothing.
  if (/^f(cmov|u?comip?$|free)/.test(form.name)) effect.undefined |= FLAG.C1;
  // With an empty source and a full stack either fault may be the one reported.
  if (form.key === 'fld D9 C0+i') effect.undefined |= FLAG.C1;
  // C1 says how the result was rounded, which an approximation need not share.
  if (form.traits.has('transcendental')) effect.undefined |= FLAG.C1;
  if (/^f(n?init|ldenv|rstor|xrstor)$/.test(form.name)) effect.defines |= X87_CODES;
  if (/^f(u?comp?p?|i?comp?|tst|xam|prem1?)$/.test(form.name)) effect.defines |= X87_CODES;
  return effect;
}

function shiftEffect(name: string, size: string, rawCount: number | undefined): FlagEffect {
  const width = WIDTH[size];
  const rotate = name.startsWith('r');
  const reads = name === 'rcl' || name === 'rcr' ? FLAG.c : 0;
  if (rawCount === undefined) {
    // Any count: what some count leaves undefined may be, and count 0 defines nothing.
    const undef = rotate ? FLAG.o : FLAG.o | FLAG.a | (width < 32 ? FLAG.c : 0);
    return { reads, defines: 0, undefined: undef };
  }
  const count = rawCount & (width === 64 ? 63 : 31);
  if (count === 0) return { reads, defines: 0, undefined: 0 };
  const o = count === 1 ? FLAG.o : 0;
  if (rotate) return { reads, defines: FLAG.c | o, undefined: o ^ FLAG.o };
  if (name === 'shld' || name === 'shrd') {
    if (count > width) return { reads, defines: 0, undefined: STATUS_FLAGS };
    return { reads, defines: bits('szpc') | o, undefined: FLAG.a | (o ^ FLAG.o) };
  }
  // CF after SHL/SHR by the width or more is undefined; SAR fills with the sign.
  const c = name !== 'sar' && count >= width ? FLAG.c : 0;
  return { reads, defines: bits('szp') | (c ^ FLAG.c) | o, undefined: FLAG.a | c | (o ^ FLAG.o) };
}
