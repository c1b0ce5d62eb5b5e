// SPDX-License-Identifier: MIT
// Random cases from the form table: which instructions, with which operands, and what is arranged so that they meet their interesting inputs.

import { CODE_BYTES, DATA_BASE, PAGE } from './case.ts';
import type { Batch, Case, Mode } from './case.ts';
import { CaseBuilder } from './builder.ts';
import { arrange } from './arrange.ts';
import { immediateBytes } from './encoder.ts';
import type { MemoryOperand, Operands } from './encoder.ts';
import { FORMS } from './forms/index.ts';
import type { Family, Form } from './forms/form.ts';
import { integer, Random } from './random.ts';
import { baseImage, fxImage, initialFlags, registers } from './state.ts';
import { flagEffect } from './undefined-bits.ts';

export interface GeneratorOptions {
  seed: number;
  /** Only these modes; both when absent. */
  mode?: Mode;
  /** Only forms of this family, or whose name or key is this. */
  only?: string;
  /** Leaves a form out, e.g. what an engine does not describe. */
  accept?: (form: Form, mode: Mode) => boolean;
  /** Instructions per case; 12 when absent. */
  maxInstructions?: number;
}

const WEIGHTS: Readonly<Record<Family, number>> = {
  integer: 38,
  string: 6,
  branch: 7,
  stack: 6,
  x87: 15,
  mmx: 7,
  sse: 19,
  privileged: 2,
};

/** True when the options leave at least one form to generate. */
export function selectsForms(options: GeneratorOptions): boolean {
  return ([64, 32] as const).some(
    (mode) => (options.mode ?? mode) === mode && FORMS.some((f) => f.modes.includes(mode) && wanted(options, f, mode)),
  );
}

function wanted({ only, accept }: GeneratorOptions, form: Form, mode: Mode): boolean {
  if (only !== undefined && form.family !== only && form.name !== only && form.key !== only) return false;
  return accept ? accept(form, mode) : !form.traits.has('alias');
}

/** Makes batches of cases. The same options give the same cases. */
export class Generator {
  private readonly r: Random;
  private readonly options: GeneratorOptions;
  private readonly byFamily = new Map<Mode, (readonly [weight: number, forms: Form[]])[]>();

  constructor(options: GeneratorOptions) {
    this.r = new Random(options.seed);
    this.options = options;
    for (const mode of [64, 32] as const) {
      const groups: [number, Form[]][] = [];
      for (const family of Object.keys(WEIGHTS) as Family[]) {
        const forms = FORMS.filter((f) => f.family === family && f.modes.includes(mode) && wanted(options, f, mode));
        if (forms.length > 0) groups.push([WEIGHTS[family], forms]);
      }
      this.byFamily.set(mode, groups);
    }
    if (this.modes().length === 0) throw new Error(`no instruction form matches --only ${options.only ?? ''}`);
  }

  private modes(): Mode[] {
    return ([64, 32] as const).filter((m) => (this.options.mode ?? m) === m && (this.byFamily.get(m) ?? []).length > 0);
  }

  batch(count: number): Batch {
    const base = baseImage(this.r);
    const cases: Case[] = [];
    while (cases.length < count) cases.push(this.one(base));
    return { base, cases };
  }

  private one(base: Uint8Array): Case {
    const { r } = this;
    const modes = this.modes();
    const mode = modes.length === 1 || r.chance(0.7) ? modes[0] : modes[1];
    const most = this.options.maxInstructions ?? 12;
    const count = Math.min(most, r.chance(0.55) ? 1 : r.chance(0.55) ? 2 + r.below(2) : 4 + r.below(9));
    const place = r.below(20);
    const codeOffset =
      place < 3
        ? PAGE - 1 - r.below(10 * count)
        : place < 5
          ? CODE_BYTES - 6 - r.below(8 * count)
          : 16 * r.below(200) + r.below(16);
    const builder = new CaseBuilder(r, mode, registers(r, mode), Math.max(0, codeOffset));
    const fx = fxImage(r);
    builder.x87Unmasked = (fx[0] & 3) !== 3;
    const rflags = initialFlags(r);
    for (let i = 0; i < count; i++) {
      if (!this.instruction(builder, i, count, base, fx)) break;
    }
    builder.finish();
    // A case near the end of the code pages is cut there: the last instruction's fetch faults.
    const room = CODE_BYTES - builder.codeOffset;
    const code = Uint8Array.from(builder.code.length > room ? builder.code.slice(0, room) : builder.code);
    return {
      mode,
      code,
      codeOffset: builder.codeOffset,
      gpr: builder.gpr,
      rflags,
      fx,
      patches: builder.patches,
      steps: builder.steps,
      ignoredMemory: builder.ignoredMemory,
      ...(builder.tolerance ? { tolerance: builder.tolerance } : {}),
    };
  }

  private form(mode: Mode): Form {
    const groups = this.byFamily.get(mode) ?? [];
    let total = 0;
    for (const [weight] of groups) total += weight;
    let at = this.r.below(total);
    for (const [weight, forms] of groups) {
      if (at < weight) return this.r.pick(forms);
      at -= weight;
    }
    return groups[0][1][0];
  }

  /** Appends one instruction (and helpers). False: the case ends here. */
  private instruction(b: CaseBuilder, index: number, count: number, base: Uint8Array, fx: Uint8Array): boolean {
    const { r } = this;
    const last = index === count - 1;
    if (this.options.only === undefined && r.chance(0.004)) selfModify(b);
    for (let tries = 0; tries < 12; tries++) {
      const form = this.form(b.mode);
      const t = form.traits;
      const final =
        ['fixed', 'partial', 'reciprocal', 'transcendental', 'nan'].some((trait) => t.has(trait)) ||
        (t.has('sreg') && b.mode === 32);
      if ((final || form.family === 'privileged') && !last && !r.chance(0.1)) continue;
      // How many bytes of an undefined instruction a CPU fetches before it says so differs: none lies before the hole.
      if (form.family === 'privileged' && b.codeOffset + b.code.length > CODE_BYTES - 16) continue;
      const size = this.size(form, b.mode);
      // SHLD/SHRD of words by more than 16 has an undefined result.
      if (/^sh[lr]d$/.test(form.name) && size === 'w' && (t.has('countcl') ? !b.first : false)) continue;
      // A tolerance covers the instruction's own result only, nothing computed from or before it.
      if ((t.has('reciprocal') || t.has('transcendental')) && !b.first) continue;
      const count1 = this.shiftCount(form, size, b);
      const effect = flagEffect(form, size, count1.known);
      if (effect.reads & b.undefinedFlags) continue;
      b.begin();
      const operands = this.operands(form, size, b, last || final);
      if (count1.immediate !== undefined) operands.immediates[0] = count1.immediate;
      arrange({ b, form, operands, index, count, last, base, fx });
      b.emit(form, operands, count1.known);
      this.branchTarget(b, form, index, count);
      if (t.has('reciprocal')) b.tolerance = 'reciprocal';
      if (t.has('transcendental')) b.tolerance = 'transcendental';
      if (t.has('nan')) b.tolerance = 'nan';
      return !final;
    }
    return true;
  }

  private size(form: Form, mode: Mode): string {
    if (form.sizes === '') return '';
    const usable = [...form.sizes].filter((s) => mode === 64 || s !== 'q');
    return this.r.pick(usable);
  }

  /** The count of a shift: drawn here when immediate, read from CL when nothing has run yet. */
  private shiftCount(form: Form, size: string, b: CaseBuilder): { known: number | undefined; immediate?: bigint } {
    const { r } = this;
    if (!/^(?:ro[lr]|rc[lr]|sh[lr]d?|sa[lr])$/.test(form.name)) return { known: undefined };
    const double = form.name.length === 4;
    if (form.immediates.length > 0) {
      let n = r.chance(0.5) ? r.below(10) : r.below(256);
      if (double && size === 'w') n = (n & 0xe0) | ((n & 31) % 17);
      return { known: n, immediate: BigInt(n) };
    }
    if (!form.traits.has('countcl')) return { known: 1 };
    if (!b.first) return { known: undefined };
    if (r.chance(0.5) || (double && size === 'w')) b.gpr[1] = (b.gpr[1] & ~0xffn) | BigInt(r.below(17));
    return { known: Number(b.gpr[1] & 0xffn) };
  }

  private operands(form: Form, size: string, b: CaseBuilder, last: boolean): Operands {
    const { r } = this;
    const o: Operands = { size, reg: 0, rm: 0, immediates: [], prefixes: [], rexNoise: -1 };
    const wideRegisters = b.mode === 64;
    if (form.regClass === 'gpr') o.reg = b.register(size === 'b');
    else if (form.regClass !== 'none') o.reg = r.below(form.regClass === 'xmm' && wideRegisters ? 16 : 8);
    if (b.mode === 64 && r.chance(0.04) && !form.traits.has('target')) o.prefixes.push(0x67);
    if (
      b.mode === 32 &&
      r.chance(form.name === 'lea' ? 0.2 : 0.01) &&
      !form.traits.has('target') &&
      !form.traits.has('fixed')
    )
      o.prefixes.push(0x67);
    const addressPrefix = o.prefixes.length > 0;
    const memory = form.rmMemory && (!form.rmRegister || r.chance(0.55));
    if (memory)
      o.rm =
        addressPrefix && b.mode === 32
          ? b.memory16()
          : this.memory(form, size, b, last, addressPrefix || b.mode === 32);
    else if (form.plus === 'i') o.rm = r.below(8);
    else if (form.plus === 'r') o.rm = b.register(size === 'b');
    else if (form.rmRegister) {
      o.rm =
        form.rmClass === 'gpr'
          ? b.register(form.memoryBytes === 1)
          : r.below(form.rmClass === 'xmm' && wideRegisters ? 16 : 8);
    }
    if (form.traits.has('notnop') && o.rm === 0) o.rm = 1 + r.below(7);
    for (const token of form.immediates) o.immediates.push(this.immediate(form, token, size, b, addressPrefix, last));
    if (form.family !== 'privileged') this.prefixes(form, o, b, memory);
    return o;
  }

  private memory(form: Form, size: string, b: CaseBuilder, last: boolean, address32: boolean): MemoryOperand {
    const { r } = this;
    const bits = address32 ? 32 : 64;
    if (form.traits.has('nofetch')) return b.memoryAnywhere();
    if (!form.traits.has('fixed') && last && r.chance(0.03)) return b.memoryAnywhere();
    const bytes = form.memoryBytes || { b: 1, w: 2, d: 4, q: 8, n: b.mode / 8 }[size] || 4;
    let address = b.address(bytes, last);
    if (form.traits.has('aligned') && r.chance(0.9)) address &= ~15;
    if (form.traits.has('fixed')) {
      b.ignoredMemory.push(...modelBytes(form, address - DATA_BASE));
      return { base: -1, index: -1, scale: 0, disp: address, wide: false, rip: b.mode === 64 && r.chance(0.5) };
    }
    if (form.traits.has('bitoffset') && r.chance(0.7)) address = DATA_BASE + r.below(2 * PAGE - 8);
    return b.memoryAt(address, bits);
  }

  private immediate(
    form: Form,
    token: string,
    size: string,
    b: CaseBuilder,
    addressPrefix: boolean,
    last: boolean,
  ): bigint {
    const { r } = this;
    if (token === 'moffs') return BigInt(b.address({ b: 1, w: 2, d: 4 }[size] ?? 8, last));
    if (token === 'rel8' || token === 'relz') return 0n;
    if (form.traits.has('enter'))
      return BigInt(
        token === 'iw' ? r.below(r.chance(0.8) ? 64 : 65536) : r.chance(0.6) ? 0 : r.below(r.chance(0.8) ? 4 : 256),
      );
    if (form.name === 'ret') return BigInt(r.chance(0.8) ? 8 * r.below(8) : r.below(65536));
    // Bits that the manual reserves in these immediates stay zero.
    if (form.traits.has('cmpimm')) return BigInt(r.below(8));
    if (form.name.startsWith('round')) return BigInt(r.below(16));
    if (form.traits.has('strings')) return BigInt(r.below(128));
    if (form.traits.has('shift')) return BigInt(r.chance(0.8) ? r.below(72) : r.below(256));
    if (form.name === 'palignr') return BigInt(r.chance(0.9) ? r.below(34) : r.below(256));
    return BigInt.asUintN(8 * immediateBytes(token, size, b.mode, addressPrefix), integer(r));
  }

  /** LOCK, REP, segment overrides, and REX prefixes that change nothing. */
  private prefixes(form: Form, o: Operands, b: CaseBuilder, memory: boolean): void {
    const { r } = this;
    const t = form.traits;
    if (t.has('lock') && memory && r.chance(0.2)) o.prefixes.push(0xf0);
    else if (form.family === 'integer' && form.mandatory === 0 && r.chance(0.004)) o.prefixes.push(0xf0);
    if ((t.has('rep') || t.has('repcc')) && r.chance(0.7))
      o.prefixes.push(r.chance(t.has('repcc') ? 0.5 : 0.15) ? 0xf2 : 0xf3);
    if ((memory || form.family === 'string') && r.chance(0.06)) o.prefixes.push(r.pick([0x26, 0x2e, 0x36, 0x3e]));
    if (b.mode === 64 && r.chance(0.05)) {
      const fixedVector =
        (form.family === 'sse' || form.family === 'mmx' || form.family === 'x87') && form.sizes === '';
      o.rexNoise = (fixedVector || o.size === 'b') && r.chance(0.5) ? 8 : 0;
    }
    // Prefixes of different groups may come in any order.
    if (o.prefixes.length > 1 && r.chance(0.5)) o.prefixes.reverse();
  }

  /** Direct branches go forward to another unit or the end; a few leave for where nothing may run. */
  private branchTarget(b: CaseBuilder, form: Form, index: number, count: number): void {
    const token = form.immediates[0];
    if (token !== 'rel8' && token !== 'relz') return;
    const { r } = this;
    const end = b.code.length;
    if (token === 'relz' && index === count - 1 && r.chance(0.05)) {
      const target = r.pick([DATA_BASE + r.below(PAGE), DATA_BASE + 3 * PAGE, DATA_BASE - PAGE]);
      setRelative(b.code, end, 4, target - b.here);
      return;
    }
    const bytes = token === 'rel8' ? 1 : 4;
    const origin = b.here;
    const near = Math.min(count, index + 1 + r.below(4));
    b.whenPlaced(near, (address) => {
      const distance = address - origin;
      setRelative(b.code, end, bytes, bytes === 1 && distance > 127 ? 0 : distance);
    });
  }
}

/** A store into the instruction right after it: `mov byte [immediate of the next], n` and `mov r32, imm32`. */
function selfModify(b: CaseBuilder): void {
  const { r } = b;
  const register = r.pick([0, 1, 2, 3]);
  const target = b.here + 7 + 1 + r.below(4);
  const disp = b.mode === 64 ? target - (b.here + 7) : target;
  b.prepend(
    [0xc6, 0x05, disp & 0xff, (disp >> 8) & 0xff, (disp >> 16) & 0xff, (disp >> 24) & 0xff, r.u32() & 0xff],
    'mov C6 /0 ib',
  );
  b.prepend([0xb8 | register, r.u32() & 0xff, 0, 0, 0], 'mov B8+r iv');
  b.known[register] = false;
}

function setRelative(code: number[], end: number, bytes: number, distance: number): void {
  for (let i = 0; i < bytes; i++) code[end - bytes + i] = (distance >> (8 * i)) & 0xff;
}

/** Where an image in memory holds the last x87 instruction's addresses and opcode: AMD and Intel fill them under different conditions. */
function modelBytes(form: Form, offset: number): [number, number][] {
  if (form.traits.has('fxsave'))
    return [
      [offset + 6, 18],
      [offset + 28, 4],
      [offset + 288, 224],
    ];
  return [[offset + 12, 16]];
}
