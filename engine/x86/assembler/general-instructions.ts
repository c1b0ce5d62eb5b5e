// SPDX-License-Identifier: MIT
// General-purpose instructions of the assembler: moves, arithmetic, logic, shifts, bits (Intel SDM vol. 2).
import { commonSize, Encoder, fitsSigned } from './encoder.ts';
import {
  AssemblerError,
  rax,
  type Immediate,
  type LabelAddress,
  type Memory,
  type OperandSize,
  type Register,
} from './operands.ts';

type RegisterOrMemory = Register | Memory;
export type Source = RegisterOrMemory | Immediate;

/** Condition codes as they appear in Jcc, SETcc and CMOVcc. */
// prettier-ignore
const CONDITIONS = {
  o: 0, no: 1, b: 2, c: 2, nae: 2, ae: 3, nc: 3, nb: 3, e: 4, z: 4, ne: 5, nz: 5, be: 6, na: 6, a: 7, nbe: 7,
  s: 8, ns: 9, p: 10, pe: 10, np: 11, po: 11, l: 12, nge: 12, ge: 13, nl: 13, le: 14, ng: 14, g: 15, nle: 15,
} as const;
export type Condition = keyof typeof CONDITIONS;

/** Number 0-15 of a condition, as it is added to the opcode. */
export function conditionCode(condition: Condition): number {
  return CONDITIONS[condition];
}

/** Whether an opcode's low bit selects "not a byte": most one- and two-operand forms. */
function wide(size: OperandSize): number {
  return size === 1 ? 0 : 1;
}

/** Immediates are at most 32 bits and sign-extended, except in MOV to a 64-bit register. */
function immediateSize(size: OperandSize): number {
  return Math.min(size, 4);
}

/** The same bits as a signed number, so that 0xffffffff is a legal 32-bit immediate. */
function signed(value: Immediate, size: OperandSize): bigint {
  const wideValue = BigInt(value);
  const folded = BigInt.asIntN(size * 8, wideValue);
  if (folded !== wideValue && BigInt.asUintN(size * 8, wideValue) !== wideValue) {
    throw new AssemblerError(`${value.toString()} does not fit ${size.toString()} bytes`);
  }
  return folded;
}

function isImmediate(source: Source | LabelAddress): source is Immediate {
  return typeof source === 'number' || typeof source === 'bigint';
}

export class GeneralInstructions extends Encoder {
  /**
   * MOV. An unsigned 32-bit immediate into a 64-bit register uses the 32-bit form (same result, shorter); a label
   * address becomes a 64-bit immediate, or a 32-bit one for 32-bit destinations.
   */
  mov(destination: RegisterOrMemory, source: Source | LabelAddress): this {
    if (isImmediate(source)) return this.#movImmediate(destination, source);
    if (source.kind === 'address') return this.#movAddress(destination, source);
    const size = commonSize(destination, source);
    if (source.kind === 'reg') return this.encode({ opcode: [0x88 | wide(size)], size, reg: source, rm: destination });
    if (destination.kind === 'mem') throw new AssemblerError('mov cannot have two memory operands');
    return this.encode({ opcode: [0x8a | wide(size)], size, reg: destination, rm: source });
  }

  #movImmediate(destination: RegisterOrMemory, value: Immediate): this {
    const size = commonSize(destination);
    if (destination.kind === 'mem' || (size === 8 && BigInt(value) < 0n && fitsSigned(value, 32))) {
      const immediate = { value: signed(value, size), size: immediateSize(size) };
      return this.encode({ opcode: [0xc6 | wide(size)], size, reg: 0, rm: destination, immediate });
    }
    const isUnsigned32 = BigInt.asUintN(32, BigInt(value)) === BigInt(value);
    const width = size === 8 && isUnsigned32 ? 4 : size;
    const immediate = { value: signed(value, width), size: width };
    const register: Register = { ...destination, size: width };
    return this.encodeInOpcode([width === 1 ? 0xb0 : 0xb8], register, width, immediate);
  }

  #movAddress(destination: RegisterOrMemory, { label, addend }: LabelAddress): this {
    const size = commonSize(destination);
    if (destination.kind === 'mem') {
      this.encode({ opcode: [0xc7], size, reg: 0, rm: destination });
      this.fixup('abs32', label, addend);
      return this;
    }
    this.encodeInOpcode([0xb8], destination, size);
    this.fixup(size === 8 ? 'abs64' : 'abs32', label, addend);
    return this;
  }

  movzx(destination: Register, source: RegisterOrMemory): this {
    return this.#extend(0xb6, destination, source);
  }

  /** MOVSX, and MOVSXD when the source is 32 bits wide. */
  movsx(destination: Register, source: RegisterOrMemory): this {
    if (commonSize(source) === 4) {
      return this.encode({ opcode: [0x63], size: destination.size, reg: destination, rm: source });
    }
    return this.#extend(0xbe, destination, source);
  }

  #extend(opcode: number, destination: Register, source: RegisterOrMemory): this {
    const from = commonSize(source);
    if (from > 2 || from >= destination.size) throw new AssemblerError('extension must widen 8 or 16 bits');
    return this.encode({ opcode: [0x0f, opcode | (from - 1)], size: destination.size, reg: destination, rm: source });
  }

  lea(destination: Register, source: Memory): this {
    return this.encode({ opcode: [0x8d], size: destination.size, reg: destination, rm: source });
  }

  /** PUSH of a native-width register or memory, a sign-extended immediate, or a label address (32 bits). */
  push(source: Source | LabelAddress): this {
    if (isImmediate(source)) {
      const short = fitsSigned(source, 8);
      const immediate = { value: signed(source, 4), size: short ? 1 : 4 };
      return this.encode({ opcode: [short ? 0x6a : 0x68], immediate });
    }
    if (source.kind === 'address') {
      this.encode({ opcode: [0x68] });
      this.fixup('abs32', source.label, source.addend);
      return this;
    }
    const size = this.#stackWidth(source);
    if (source.kind === 'reg') return this.encodeInOpcode([0x50], source, size);
    return this.encode({ opcode: [0xff], size, reg: 6, rm: source });
  }

  pop(destination: RegisterOrMemory): this {
    const size = this.#stackWidth(destination);
    if (destination.kind === 'reg') return this.encodeInOpcode([0x58], destination, size);
    return this.encode({ opcode: [0x8f], size, reg: 0, rm: destination });
  }

  /** Stack operations default to the mode's width and need no REX.W; only 16 bits is another choice. */
  #stackWidth(operand: RegisterOrMemory): 2 | undefined {
    const size = operand.size ?? this.bits / 8;
    if (size === 2) return 2;
    if (size * 8 !== this.bits) throw new AssemblerError('push and pop take the width of the mode, or 16 bits');
    return undefined;
  }

  add(destination: RegisterOrMemory, source: Source): this {
    return this.#arithmetic(0, destination, source);
  }
  or(destination: RegisterOrMemory, source: Source): this {
    return this.#arithmetic(1, destination, source);
  }
  adc(destination: RegisterOrMemory, source: Source): this {
    return this.#arithmetic(2, destination, source);
  }
  sbb(destination: RegisterOrMemory, source: Source): this {
    return this.#arithmetic(3, destination, source);
  }
  and(destination: RegisterOrMemory, source: Source): this {
    return this.#arithmetic(4, destination, source);
  }
  sub(destination: RegisterOrMemory, source: Source): this {
    return this.#arithmetic(5, destination, source);
  }
  xor(destination: RegisterOrMemory, source: Source): this {
    return this.#arithmetic(6, destination, source);
  }
  cmp(destination: RegisterOrMemory, source: Source): this {
    return this.#arithmetic(7, destination, source);
  }

  #arithmetic(operation: number, destination: RegisterOrMemory, source: Source): this {
    if (isImmediate(source)) {
      const size = commonSize(destination);
      const value = signed(source, size);
      const short = size > 1 && fitsSigned(value, 8);
      const opcode = size === 1 ? 0x80 : short ? 0x83 : 0x81;
      const immediate = { value, size: short ? 1 : immediateSize(size) };
      return this.encode({ opcode: [opcode], size, reg: operation, rm: destination, immediate });
    }
    const size = commonSize(destination, source);
    const base = operation * 8 + wide(size);
    if (source.kind === 'reg') return this.encode({ opcode: [base], size, reg: source, rm: destination });
    if (destination.kind === 'mem') throw new AssemblerError('arithmetic cannot have two memory operands');
    return this.encode({ opcode: [base + 2], size, reg: destination, rm: source });
  }

  test(destination: RegisterOrMemory, source: Register | Immediate): this {
    if (isImmediate(source)) {
      const size = commonSize(destination);
      const immediate = { value: signed(source, size), size: immediateSize(size) };
      return this.encode({ opcode: [0xf6 | wide(size)], size, reg: 0, rm: destination, immediate });
    }
    const size = commonSize(destination, source);
    return this.encode({ opcode: [0x84 | wide(size)], size, reg: source, rm: destination });
  }

  inc(operand: RegisterOrMemory): this {
    return this.#unary(0xfe, 0, operand);
  }
  dec(operand: RegisterOrMemory): this {
    return this.#unary(0xfe, 1, operand);
  }
  not(operand: RegisterOrMemory): this {
    return this.#unary(0xf6, 2, operand);
  }
  neg(operand: RegisterOrMemory): this {
    return this.#unary(0xf6, 3, operand);
  }
  /** Unsigned multiply of the accumulator. */
  mul(operand: RegisterOrMemory): this {
    return this.#unary(0xf6, 4, operand);
  }
  div(operand: RegisterOrMemory): this {
    return this.#unary(0xf6, 6, operand);
  }
  idiv(operand: RegisterOrMemory): this {
    return this.#unary(0xf6, 7, operand);
  }

  #unary(opcode: number, operation: number, operand: RegisterOrMemory): this {
    const size = commonSize(operand);
    return this.encode({ opcode: [opcode | wide(size)], size, reg: operation, rm: operand });
  }

  /** IMUL in its one-, two- and three-operand forms. */
  imul(destination: RegisterOrMemory, source?: RegisterOrMemory, factor?: Immediate): this {
    if (source === undefined) return this.#unary(0xf6, 5, destination);
    if (destination.kind === 'mem') throw new AssemblerError('imul needs a register as destination');
    const size = commonSize(destination, source);
    if (factor === undefined) return this.encode({ opcode: [0x0f, 0xaf], size, reg: destination, rm: source });
    const value = signed(factor, size);
    const short = fitsSigned(value, 8);
    const immediate = { value, size: short ? 1 : immediateSize(size) };
    return this.encode({ opcode: [short ? 0x6b : 0x69], size, reg: destination, rm: source, immediate });
  }

  rol(operand: RegisterOrMemory, count: number | Register): this {
    return this.#shift(0, operand, count);
  }
  ror(operand: RegisterOrMemory, count: number | Register): this {
    return this.#shift(1, operand, count);
  }
  rcl(operand: RegisterOrMemory, count: number | Register): this {
    return this.#shift(2, operand, count);
  }
  rcr(operand: RegisterOrMemory, count: number | Register): this {
    return this.#shift(3, operand, count);
  }
  shl(operand: RegisterOrMemory, count: number | Register): this {
    return this.#shift(4, operand, count);
  }
  shr(operand: RegisterOrMemory, count: number | Register): this {
    return this.#shift(5, operand, count);
  }
  sar(operand: RegisterOrMemory, count: number | Register): this {
    return this.#shift(7, operand, count);
  }

  #shift(operation: number, operand: RegisterOrMemory, count: number | Register): this {
    const size = commonSize(operand);
    if (typeof count === 'object') {
      requireCl(count);
      return this.encode({ opcode: [0xd2 | wide(size)], size, reg: operation, rm: operand });
    }
    if (count === 1) return this.encode({ opcode: [0xd0 | wide(size)], size, reg: operation, rm: operand });
    const immediate = { value: count, size: 1 };
    return this.encode({ opcode: [0xc0 | wide(size)], size, reg: operation, rm: operand, immediate });
  }

  shld(operand: RegisterOrMemory, source: Register, count: number | Register): this {
    return this.#doubleShift(0xa4, operand, source, count);
  }
  shrd(operand: RegisterOrMemory, source: Register, count: number | Register): this {
    return this.#doubleShift(0xac, operand, source, count);
  }

  #doubleShift(opcode: number, operand: RegisterOrMemory, source: Register, count: number | Register): this {
    const form = { size: commonSize(operand, source), reg: source, rm: operand };
    if (typeof count === 'number') {
      return this.encode({ ...form, opcode: [0x0f, opcode], immediate: { value: count, size: 1 } });
    }
    requireCl(count);
    return this.encode({ ...form, opcode: [0x0f, opcode + 1] });
  }

  bt(operand: RegisterOrMemory, bit: Register | number): this {
    return this.#bit(4, operand, bit);
  }
  bts(operand: RegisterOrMemory, bit: Register | number): this {
    return this.#bit(5, operand, bit);
  }
  btr(operand: RegisterOrMemory, bit: Register | number): this {
    return this.#bit(6, operand, bit);
  }
  btc(operand: RegisterOrMemory, bit: Register | number): this {
    return this.#bit(7, operand, bit);
  }

  #bit(operation: number, operand: RegisterOrMemory, bit: Register | number): this {
    if (typeof bit === 'number') {
      const immediate = { value: bit, size: 1 };
      return this.encode({ opcode: [0x0f, 0xba], size: commonSize(operand), reg: operation, rm: operand, immediate });
    }
    const opcode = [0x0f, 0x83 + operation * 8];
    return this.encode({ opcode, size: commonSize(operand, bit), reg: bit, rm: operand });
  }

  bsf(destination: Register, source: RegisterOrMemory): this {
    return this.encode({ opcode: [0x0f, 0xbc], size: destination.size, reg: destination, rm: source });
  }
  bsr(destination: Register, source: RegisterOrMemory): this {
    return this.encode({ opcode: [0x0f, 0xbd], size: destination.size, reg: destination, rm: source });
  }
  popcnt(destination: Register, source: RegisterOrMemory): this {
    const size = destination.size;
    return this.encode({ opcode: [0x0f, 0xb8], mandatoryPrefix: 0xf3, size, reg: destination, rm: source });
  }
  bswap(register: Register): this {
    return this.encodeInOpcode([0x0f, 0xc8], register, register.size);
  }

  /** XCHG; with a memory operand it is locked whether or not a prefix says so. */
  xchg(operand: RegisterOrMemory, register: Register): this {
    const size = commonSize(operand, register);
    return this.encode({ opcode: [0x86 | wide(size)], size, reg: register, rm: operand });
  }
  xadd(operand: RegisterOrMemory, register: Register): this {
    const size = commonSize(operand, register);
    return this.encode({ opcode: [0x0f, 0xc0 | wide(size)], size, reg: register, rm: operand });
  }
  /** Compares the accumulator with `operand`; equal: stores `register`, else loads the accumulator. */
  cmpxchg(operand: RegisterOrMemory, register: Register): this {
    const size = commonSize(operand, register);
    return this.encode({ opcode: [0x0f, 0xb0 | wide(size)], size, reg: register, rm: operand });
  }
  cmpxchg8b(operand: Memory): this {
    return this.encode({ opcode: [0x0f, 0xc7], reg: 1, rm: operand });
  }
  cmpxchg16b(operand: Memory): this {
    return this.encode({ opcode: [0x0f, 0xc7], size: 8, reg: 1, rm: operand });
  }

  set(condition: Condition, operand: RegisterOrMemory): this {
    return this.encode({ opcode: [0x0f, 0x90 | conditionCode(condition)], reg: 0, rm: operand });
  }
  cmov(condition: Condition, destination: Register, source: RegisterOrMemory): this {
    const size = commonSize(destination, source);
    return this.encode({ opcode: [0x0f, 0x40 | conditionCode(condition)], size, reg: destination, rm: source });
  }

  /** Sign-extends the accumulator's lower half into itself: CBW, CWDE, CDQE for a result of 2, 4, 8 bytes. */
  signExtendAccumulator(size: 2 | 4 | 8): this {
    return this.encodeInOpcode([0x98], { ...rax, size }, size);
  }
  /** Sign-extends the accumulator into (r/e)dx: CWD, CDQ, CQO for operands of 2, 4, 8 bytes. */
  signExtendToDx(size: 2 | 4 | 8): this {
    return this.encodeInOpcode([0x99], { ...rax, size }, size);
  }

  lock(): this {
    return this.bytes([0xf0]);
  }
  rep(): this {
    return this.bytes([0xf3]);
  }
  repne(): this {
    return this.bytes([0xf2]);
  }

  movs(size: OperandSize): this {
    return this.#string(0xa4, size);
  }
  cmps(size: OperandSize): this {
    return this.#string(0xa6, size);
  }
  stos(size: OperandSize): this {
    return this.#string(0xaa, size);
  }
  lods(size: OperandSize): this {
    return this.#string(0xac, size);
  }
  scas(size: OperandSize): this {
    return this.#string(0xae, size);
  }
  ins(size: 1 | 2 | 4): this {
    return this.#string(0x6c, size);
  }
  outs(size: 1 | 2 | 4): this {
    return this.#string(0x6e, size);
  }

  #string(opcode: number, size: OperandSize): this {
    return this.encodeInOpcode([opcode | wide(size)], { ...rax, size }, size);
  }
}

function requireCl(count: Register): void {
  if (count.code !== 1 || count.size !== 1) throw new AssemblerError('a shift count is a number or cl');
}
