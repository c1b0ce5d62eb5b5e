// SPDX-License-Identifier: MIT
// MMX and SSE descriptions against results worked out by hand from the manuals: values, flags, faults, state.
import { beforeEach, describe, expect, it } from 'vitest';
import { ST } from '../cpu/layout.ts';
import { parseEncoding } from './encoding.ts';
import { buildMachine, dataAt, formsOf, stateAt } from './simd-test-stage.ts';
import { simdInstructions } from './simd.ts';

const forms = simdInstructions.flatMap((i) => formsOf(i));
const machine = buildMachine(forms);
const { view, bytes } = machine;

/** The form of an instruction by name; the first that is in registers or in memory, of an operation size when given. */
function form(name: string, memory = false, size?: number): string {
  const found = forms.find(
    (f) => f.insn.name === name && f.memory === memory && (size === undefined || f.size === size),
  );
  if (!found) throw new Error(`no form of ${name}`);
  return found.name;
}

const field = (offset: number): number => view.getUint32(stateAt + offset, true);
const setField = (offset: number, value: number): void => view.setUint32(stateAt + offset, value, true);
const gpr = (n: number): bigint => view.getBigUint64(stateAt + ST.gpr + 8 * n, true);
const setGpr = (n: number, value: bigint): void => view.setBigUint64(stateAt + ST.gpr + 8 * n, value, true);
const mm = (n: number): bigint => view.getBigUint64(stateAt + ST.fpr + 16 * n, true);
const setMm = (n: number, value: bigint): void => view.setBigUint64(stateAt + ST.fpr + 16 * n, value, true);
/** An XMM register as hexadecimal digits, most significant first. */
function xmm(n: number): string {
  const half = (at: number): string =>
    view
      .getBigUint64(stateAt + ST.xmm + 16 * n + at, true)
      .toString(16)
      .padStart(16, '0');
  return half(8) + half(0);
}
function put(at: number, hex: string): void {
  const value = BigInt(`0x${hex.replaceAll(/[ _]/g, '')}`);
  view.setBigUint64(at, value & 0xffff_ffff_ffff_ffffn, true);
  view.setBigUint64(at + 8, value >> 64n, true);
}
const setXmm = (n: number, hex: string): void => put(stateAt + ST.xmm + 16 * n, hex);
const immediate = (value: number): void => view.setUint8(stateAt + ST.t0, value);
const run = (name: string, memory = false, size?: number): number => machine.run(form(name, memory, size));
const flags = (): number => field(ST.fz) & 0x8d5;

beforeEach(() => {
  bytes.fill(0);
  setField(ST.mxcsr, 0x1f80);
  setField(ST.cr4, 0x600);
  setField(ST.ftag, 0xff);
  setGpr(6, BigInt(dataAt));
});

describe('descriptions', () => {
  it('have unique names and parse', () => {
    expect(new Set(simdInstructions.map((i) => i.name)).size).toBe(simdInstructions.length);
    for (const i of simdInstructions) for (const e of i.encodings) expect(() => parseEncoding(i, e)).not.toThrow();
  });
});

describe('availability', () => {
  it('SSE: #UD for CR0.EM and CR4.OSFXSR clear, #NM for CR0.TS', () => {
    setField(ST.cr0, 4);
    expect(run('addps')).toBe(6);
    setField(ST.cr0, 0xc);
    expect(run('addps')).toBe(6);
    setField(ST.cr0, 8);
    expect(run('addps')).toBe(7);
    setField(ST.cr0, 0);
    setField(ST.cr4, 0);
    expect(run('addps')).toBe(6);
    expect(run('movnti', true)).toBe(-1);
  });

  it('MMX: also #MF for a pending x87 exception', () => {
    setField(ST.fsw, 0x80);
    expect(run('paddb.mmx')).toBe(16);
    setField(ST.cr0, 8);
    expect(run('paddb.mmx')).toBe(7);
    setField(ST.cr0, 4);
    expect(run('paddb.mmx')).toBe(6);
  });

  it('aligned operands fault, unaligned and scalar ones do not', () => {
    setGpr(6, BigInt(dataAt + 8));
    for (const name of ['movaps', 'movdqa', 'addps', 'paddb', 'movntdq', 'pshufd', 'cvtdq2ps'])
      expect(run(name, true), name).toBe(13);
    for (const name of ['movups', 'movdqu', 'lddqu', 'addss', 'addsd', 'pmovzxbw', 'pcmpistri', 'cvtps2pd', 'movddup'])
      expect(run(name, true), name).toBe(-1);
  });
});

describe('MMX state', () => {
  it('an MMX instruction sets TOP to 0, all tags valid and the exponent to ones; EMMS empties', () => {
    setField(ST.ftop, 5);
    setMm(1, 0x7fff_0001_8000_ffffn);
    setMm(2, 0x0001_0001_ffff_0001n);
    expect(run('paddsw.mmx')).toBe(-1);
    expect(mm(1)).toBe(0x7fff_0002_8000_0000n);
    expect(view.getUint16(stateAt + ST.fpr + 16 + 8, true)).toBe(0xffff);
    expect([field(ST.ftop), field(ST.ftag)]).toEqual([0, 0]);
    expect(run('emms')).toBe(-1);
    expect([field(ST.ftop), field(ST.ftag)]).toEqual([0, 0xff]);
  });

  it('CVTPI2PD touches it only with a register operand', () => {
    setField(ST.ftop, 3);
    run('cvtpi2pd', true);
    expect([field(ST.ftop), field(ST.ftag)]).toEqual([3, 0xff]);
    run('cvtpi2pd');
    expect([field(ST.ftop), field(ST.ftag)]).toEqual([0, 0]);
  });
});

describe('packed integers', () => {
  it('shifts by counts beyond the width', () => {
    setXmm(1, '80000000_80000000_00000001_ffffffff');
    setXmm(2, '80000000_80000000_00000001_ffffffff');
    immediate(200);
    run('psradi');
    expect(xmm(2)).toBe('ffffffffffffffff00000000ffffffff');
    setXmm(2, 'ffffffffffffffff_0000000100000000');
    run('pslld');
    expect(xmm(1)).toBe('0'.repeat(32));
  });

  it('PMADDUBSW and PMULHRSW at their extremes', () => {
    setXmm(1, 'ffff ff01 0000 0000 0000 0000 0000 0000');
    setXmm(2, '7f7f 8080 0000 0000 0000 0000 0000 0000');
    run('pmaddubsw');
    expect(xmm(1).slice(0, 8)).toBe('7fff8000');
    setXmm(1, '8000 8000 0000 0000 0000 0000 0000 0000');
    setXmm(2, '8000 7fff 0000 0000 0000 0000 0000 0000');
    run('pmulhrsw');
    expect(xmm(1).slice(0, 8)).toBe('80008001');
  });

  it('PHMINPOSUW takes the first of equals; PSADBW; PMOVMSKB', () => {
    setXmm(2, '0009 0003 0007 0003 8000 ffff 0005 0004');
    run('phminposuw');
    expect(xmm(1)).toBe('00000000000000000000000000040003');
    setXmm(1, '00000000000000ff_ff00000000000000');
    setXmm(2, '0100000000000000_00000000000000ff');
    run('psadbw');
    expect(xmm(1)).toBe('000000000000010000000000000001fe');
    setXmm(2, '80000000000000000000000000000080');
    run('pmovmskb');
    expect(gpr(1)).toBe(0x8001n);
  });

  it('PALIGNR and PSHUFB', () => {
    setXmm(1, '1f1e1d1c1b1a19181716151413121110');
    setXmm(2, '0f0e0d0c0b0a09080706050403020100');
    immediate(5);
    run('palignr');
    expect(xmm(1)).toBe('14131211100f0e0d0c0b0a0908070605');
    immediate(250);
    run('palignr');
    expect(xmm(1)).toBe('0'.repeat(32));
    setXmm(1, '0f0e0d0c0b0a09080706050403020100');
    setXmm(2, '8070605040302010ff0f7f008000010e');
    run('pshufb');
    expect(xmm(1)).toBe('0000000000000000000f0f000000010e');
  });

  it('CRC32 of "123456789" is E3069283', () => {
    setGpr(1, 0xffff_ffffn);
    setGpr(2, 0x3837_3635_3433_3231n);
    run('crc32', false, 64);
    setGpr(2, 0x39n);
    run('crc32b');
    expect(gpr(1) ^ 0xffff_ffffn).toBe(0xe306_9283n);
    setGpr(1, 0xffff_ffffn);
    setGpr(2, 0x3433_3231n);
    run('crc32', false, 32);
    setGpr(2, 0x3635n);
    run('crc32', false, 16);
    for (const c of [0x37n, 0x38n, 0x39n]) {
      setGpr(2, c);
      run('crc32b');
    }
    expect(gpr(1) ^ 0xffff_ffffn).toBe(0xe306_9283n);
  });
});

describe('strings', () => {
  const text = (s: string): string => Buffer.from(s.padEnd(16, '\0'), 'latin1').reverse().toString('hex');

  it('PCMPISTRI finds a needle, a set member, a range and a difference', () => {
    setXmm(1, text('cde'));
    setXmm(2, text('abcdefgh'));
    immediate(0x0c);
    run('pcmpistri');
    expect([gpr(1), flags()]).toEqual([2n, 0x0c1 & 0x8d5]);
    immediate(0x00);
    run('pcmpistri');
    expect(gpr(1)).toBe(2n);
    setXmm(1, text('fz'));
    immediate(0x04);
    run('pcmpistri');
    expect(gpr(1)).toBe(5n);
    setXmm(1, text('abcdxfgh'));
    immediate(0x18);
    run('pcmpistri');
    expect(gpr(1)).toBe(4n);
  });

  it('PCMPESTRM: lengths from RAX and RDX, negative ones and too long ones', () => {
    setXmm(1, text('aaaa'));
    setXmm(2, text('abaa'));
    setGpr(0, 0xffff_fffcn);
    setGpr(2, 100n);
    immediate(0x40);
    run('pcmpestrm');
    expect(xmm(0)).toBe('000000000000000000000000ffff00ff');
    expect(flags()).toBe(0x881);
  });
});

describe('floating point', () => {
  it('invalid operations give the negative default NaN, NaN operands their quieted payload', () => {
    setXmm(1, '7f800000 7f812345 7fc54321 3f800000');
    setXmm(2, 'ff800000 7fc00001 ff800001 ff812345');
    expect(run('addps')).toBe(-1);
    expect(xmm(1)).toBe('ffc000007fc123457fc54321ffc12345');
    expect(field(ST.mxcsr)).toBe(0x1f81);
  });

  it('unmasked exceptions leave the destination alone', () => {
    setField(ST.mxcsr, 0x1d80);
    setXmm(1, '00000000_00000000_00000000_3f800000');
    expect(run('divps')).toBe(19);
    expect([xmm(1), field(ST.mxcsr)]).toEqual(['0000000000000000000000003f800000', 0x1d85]);
    setField(ST.cr4, 0x200);
    expect(run('divps')).toBe(6);
  });

  it('rounding modes, sticky precision flag, flush to zero', () => {
    const divide = (mxcsr: number): [string, number] => {
      setField(ST.mxcsr, mxcsr);
      setXmm(1, '0000000000000000_3ff0000000000000');
      setXmm(2, '0000000000000000_4008000000000000');
      run('divsd');
      return [xmm(1).slice(16), field(ST.mxcsr)];
    };
    expect(divide(0x1f80)).toEqual(['3fd5555555555555', 0x1fa0]);
    expect(divide(0x5f80)).toEqual(['3fd5555555555556', 0x5fa0]);
    expect(divide(0x7f80)).toEqual(['3fd5555555555555', 0x7fa0]);
    setField(ST.mxcsr, 0x9f80);
    setXmm(1, '00000000 00000000 00000000 80800000');
    setXmm(2, '00000000 00000000 00000000 3f000000');
    run('mulss');
    expect([xmm(1).slice(24), field(ST.mxcsr)]).toEqual(['80000000', 0x9fb0]);
  });

  it('the host is not asked for ordinary operands, inexact results with the flag set, or exact results', () => {
    const before = machine.hostCalls;
    const each = (names: string, a: string, b: string): void => {
      for (const name of names.split(' ')) {
        setXmm(1, a);
        setXmm(2, b);
        run(name);
      }
    };
    // (3, 1) and (9, 4); (9, 4) and (2, 2); then (3, 1) and (3, 7).
    each('addpd subpd mulpd sqrtpd cvtpd2ps', '4008000000000000_3ff0000000000000', '4022000000000000_4010000000000000');
    each('divpd divsd', '4022000000000000_4010000000000000', '4000000000000000_4000000000000000');
    setField(ST.mxcsr, 0x1fa0);
    each(
      'divpd sqrtpd divsd cvtpd2ps cvtsd2si minpd cmpsd ucomisd roundsd',
      '4008000000000000_3ff0000000000000',
      '4008000000000000_401c000000000000',
    );
    expect(machine.hostCalls).toBe(before);
    expect(field(ST.mxcsr)).toBe(0x1fa0);
  });

  it('MIN and MAX return the second operand for NaNs and zeros', () => {
    setXmm(1, '80000000 7fc00000 3f800000 40000000');
    setXmm(2, '00000000 3f800000 7f812345 40400000');
    run('minps');
    expect(xmm(1)).toBe('000000003f8000007f81234540000000');
    expect(field(ST.mxcsr)).toBe(0x1f81);
  });

  it('COMISD and UCOMISD set ZF, PF, CF', () => {
    const compare = (name: string, a: string, b: string): number => {
      setXmm(1, `0000000000000000${a}`);
      setXmm(2, `0000000000000000${b}`);
      setField(ST.fz, 0x8d5);
      run(name);
      return flags();
    };
    expect(compare('ucomisd', '3ff0000000000000', '4000000000000000')).toBe(0x01);
    expect(compare('ucomisd', '4000000000000000', '3ff0000000000000')).toBe(0x00);
    expect(compare('ucomisd', '8000000000000000', '0000000000000000')).toBe(0x40);
    expect(compare('ucomisd', '7ff8000000000000', '0000000000000000')).toBe(0x45);
    expect(field(ST.mxcsr)).toBe(0x1f80);
    expect(compare('comisd', '7ff8000000000000', '0000000000000000')).toBe(0x45);
    expect(field(ST.mxcsr)).toBe(0x1f81);
  });

  it('conversions to integers round, truncate and give the indefinite value', () => {
    const convert = (name: string, bits: string, size: number): bigint => {
      setXmm(2, `0000000000000000${bits}`);
      run(name, false, size);
      return gpr(1);
    };
    expect(convert('cvtsd2si', '4004000000000000', 64)).toBe(2n); // 2.5
    expect(convert('cvtsd2si', 'c00c000000000000', 32)).toBe(0xffff_fffcn); // -3.5
    expect(convert('cvttsd2si', 'c00c000000000000', 64)).toBe(0xffff_ffff_ffff_fffdn);
    expect(field(ST.mxcsr)).toBe(0x1fa0);
    expect(convert('cvttsd2si', '41e0000000000000', 32)).toBe(0x8000_0000n); // 2^31
    expect(convert('cvttsd2si', '41e0000000000000', 64)).toBe(0x8000_0000n);
    expect(convert('cvttsd2si', '7ff8000000000000', 64)).toBe(0x8000_0000_0000_0000n);
    expect(field(ST.mxcsr)).toBe(0x1fa1);
  });

  it('ROUNDSD and DPPS', () => {
    setXmm(2, '0000000000000000_bfe0000000000000'); // -0.5
    for (const [mode, result] of [
      [0, '8000000000000000'],
      [1, 'bff0000000000000'],
      [2, '8000000000000000'],
      [3, '8000000000000000'],
    ] as const) {
      immediate(mode | 8);
      run('roundsd');
      expect(xmm(1).slice(16)).toBe(result);
    }
    expect(field(ST.mxcsr)).toBe(0x1f80);
    setXmm(1, '40800000 40400000 40000000 3f800000');
    setXmm(2, '7fc00000 40000000 40000000 40000000');
    immediate(0x75);
    run('dpps');
    expect(xmm(1)).toBe('00000000414000000000000041400000');
  });

  it('RCPPS and RSQRTPS stay within 1.5 * 2^-12', () => {
    setXmm(2, '00000001 80000000 c0000000 42f60000');
    run('rsqrtps');
    expect(xmm(1).slice(0, 24)).toBe('7f800000ff800000ffc00000');
    const x = view.getFloat32(stateAt + ST.xmm + 16, true);
    expect(Math.abs(x * Math.sqrt(123) - 1)).toBeLessThan(1.5 * 2 ** -12);
  });
});

describe('state', () => {
  it('LDMXCSR rejects reserved bits, STMXCSR stores', () => {
    view.setUint32(dataAt, 0x1_0000, true);
    expect(run('ldmxcsr', true)).toBe(13);
    view.setUint32(dataAt, 0xbf9f, true);
    expect(run('ldmxcsr', true)).toBe(-1);
    view.setUint32(dataAt, 0, true);
    expect(run('stmxcsr', true)).toBe(-1);
    expect(view.getUint32(dataAt, true)).toBe(0xbf9f);
  });

  it('FXSAVE and FXRSTOR carry everything across, the stack in its own order', () => {
    setField(ST.fcw, 0x37f);
    setField(ST.fsw, 0x4100);
    setField(ST.ftop, 6);
    setField(ST.ftag, 0x3f);
    view.setBigUint64(stateAt + ST.fip, 0x1234_5678_9abcn, true);
    setMm(6, 0xc000_0000_0000_0000n);
    view.setUint16(stateAt + ST.fpr + 16 * 6 + 8, 0x4001, true);
    for (let i = 0; i < 16; i++) setXmm(i, `${(i + 1).toString(16).padStart(2, '0')}`.repeat(16));
    expect(run('fxsave64', true)).toBe(-1);
    expect(view.getUint16(dataAt, true)).toBe(0x37f);
    expect(view.getUint16(dataAt + 2, true)).toBe(0x7100);
    expect(view.getUint8(dataAt + 4)).toBe(0xc0);
    expect(view.getBigUint64(dataAt + 8, true)).toBe(0x1234_5678_9abcn);
    expect(view.getUint32(dataAt + 28, true)).toBe(0xffff);
    expect(view.getUint16(dataAt + 40, true)).toBe(0x4001);
    const saved = bytes.slice(stateAt, stateAt + 0x400);
    const image = bytes.slice(dataAt, dataAt + 512);
    bytes.fill(0x55, stateAt + ST.xmm, stateAt + 0x400);
    expect(run('fxrstor64', true)).toBe(-1);
    expect(bytes.slice(stateAt + ST.xmm, stateAt + ST.xmm + 256)).toEqual(saved.slice(ST.xmm, ST.xmm + 256));
    for (const at of [ST.fcw, ST.fsw, ST.ftag, ST.ftop, ST.mxcsr])
      expect(field(at)).toBe(new DataView(saved.buffer).getUint32(at, true));
    expect(mm(6)).toBe(0xc000_0000_0000_0000n);
    run('fxsave64', true);
    expect(bytes.slice(dataAt, dataAt + 512)).toEqual(image);
    setGpr(6, BigInt(dataAt + 8));
    expect(run('fxsave', true)).toBe(13);
  });

  it('MASKMOVDQU stores only the selected bytes', () => {
    setGpr(7, BigInt(dataAt + 3));
    bytes.fill(0xee, dataAt, dataAt + 32);
    setXmm(1, '0f0e0d0c0b0a09080706050403020100');
    setXmm(2, '00800000000000000000000080ff7f00');
    run('maskmovdqu');
    expect([...bytes.slice(dataAt, dataAt + 20)]).toEqual([
      ...Array<number>(5).fill(0xee),
      2,
      3,
      ...Array<number>(10).fill(0xee),
      14,
      0xee,
      0xee,
    ]);
  });
});
