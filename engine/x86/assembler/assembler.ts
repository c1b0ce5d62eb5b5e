// SPDX-License-Identifier: MIT
// The x86 assembler: all instruction families over sections and labels; SSE and x87 forms live here (Intel SDM vol. 2).
import { AssemblerError, type Memory, type Register, type XmmRegister } from './operands.ts';
import { SystemInstructions } from './system-instructions.ts';

type XmmOrMemory = XmmRegister | Memory;

/**
 * Assembles x86-64 code (or 32-bit code with `new Assembler(32)`) by method calls, one per instruction:
 *
 *     const asm = new Assembler();
 *     asm.label('start').mov(rax, 1).call('print').jmp('start');
 *     const image = asm.link(0xffffffff80100000n);
 */
export class Assembler extends SystemInstructions {
  /** Aligned or unaligned packed move, by name of the instruction. */
  movaps(destination: XmmOrMemory, source: XmmOrMemory): this {
    return this.#move(destination, source, 0x28, 0x29);
  }
  movups(destination: XmmOrMemory, source: XmmOrMemory): this {
    return this.#move(destination, source, 0x10, 0x11);
  }
  movdqa(destination: XmmOrMemory, source: XmmOrMemory): this {
    return this.#move(destination, source, 0x6f, 0x7f, 0x66);
  }
  movdqu(destination: XmmOrMemory, source: XmmOrMemory): this {
    return this.#move(destination, source, 0x6f, 0x7f, 0xf3);
  }
  movsd(destination: XmmOrMemory, source: XmmOrMemory): this {
    return this.#move(destination, source, 0x10, 0x11, 0xf2);
  }

  #move(destination: XmmOrMemory, source: XmmOrMemory, load: number, store: number, mandatoryPrefix?: number): this {
    if (destination.kind === 'xmm') {
      return this.encode({ opcode: [0x0f, load], mandatoryPrefix, reg: destination, rm: source });
    }
    if (source.kind === 'mem') throw new AssemblerError('an SSE move cannot have two memory operands');
    return this.encode({ opcode: [0x0f, store], mandatoryPrefix, reg: source, rm: destination });
  }

  /** MOVD or MOVQ between a general register and an XMM register, by the width of the general register. */
  movToXmm(destination: XmmRegister, source: Register): this {
    return this.encode({
      opcode: [0x0f, 0x6e],
      mandatoryPrefix: 0x66,
      size: source.size,
      reg: destination,
      rm: source,
    });
  }
  movFromXmm(destination: Register, source: XmmRegister): this {
    return this.encode({
      opcode: [0x0f, 0x7e],
      mandatoryPrefix: 0x66,
      size: destination.size,
      reg: source,
      rm: destination,
    });
  }

  addps(destination: XmmRegister, source: XmmOrMemory): this {
    return this.encode({ opcode: [0x0f, 0x58], reg: destination, rm: source });
  }
  xorps(destination: XmmRegister, source: XmmOrMemory): this {
    return this.encode({ opcode: [0x0f, 0x57], reg: destination, rm: source });
  }
  addsd(destination: XmmRegister, source: XmmOrMemory): this {
    return this.encode({ opcode: [0x0f, 0x58], mandatoryPrefix: 0xf2, reg: destination, rm: source });
  }
  subsd(destination: XmmRegister, source: XmmOrMemory): this {
    return this.encode({ opcode: [0x0f, 0x5c], mandatoryPrefix: 0xf2, reg: destination, rm: source });
  }
  mulsd(destination: XmmRegister, source: XmmOrMemory): this {
    return this.encode({ opcode: [0x0f, 0x59], mandatoryPrefix: 0xf2, reg: destination, rm: source });
  }
  divsd(destination: XmmRegister, source: XmmOrMemory): this {
    return this.encode({ opcode: [0x0f, 0x5e], mandatoryPrefix: 0xf2, reg: destination, rm: source });
  }
  sqrtsd(destination: XmmRegister, source: XmmOrMemory): this {
    return this.encode({ opcode: [0x0f, 0x51], mandatoryPrefix: 0xf2, reg: destination, rm: source });
  }
  cvtsi2sd(destination: XmmRegister, source: Register): this {
    return this.encode({
      opcode: [0x0f, 0x2a],
      mandatoryPrefix: 0xf2,
      size: source.size,
      reg: destination,
      rm: source,
    });
  }
  /** Truncating conversion of a double to a signed integer. */
  cvttsd2si(destination: Register, source: XmmOrMemory): this {
    return this.encode({
      opcode: [0x0f, 0x2c],
      mandatoryPrefix: 0xf2,
      size: destination.size,
      reg: destination,
      rm: source,
    });
  }
  pxor(destination: XmmRegister, source: XmmOrMemory): this {
    return this.encode({ opcode: [0x0f, 0xef], mandatoryPrefix: 0x66, reg: destination, rm: source });
  }
  paddq(destination: XmmRegister, source: XmmOrMemory): this {
    return this.encode({ opcode: [0x0f, 0xd4], mandatoryPrefix: 0x66, reg: destination, rm: source });
  }

  ldmxcsr(source: Memory): this {
    return this.encode({ opcode: [0x0f, 0xae], reg: 2, rm: source });
  }
  stmxcsr(destination: Memory): this {
    return this.encode({ opcode: [0x0f, 0xae], reg: 3, rm: destination });
  }
  fxsave(destination: Memory): this {
    return this.encode({ opcode: [0x0f, 0xae], reg: 0, rm: destination });
  }
  fxrstor(source: Memory): this {
    return this.encode({ opcode: [0x0f, 0xae], reg: 1, rm: source });
  }

  fninit(): this {
    return this.bytes([0xdb, 0xe3]);
  }
  fld1(): this {
    return this.bytes([0xd9, 0xe8]);
  }
  fldz(): this {
    return this.bytes([0xd9, 0xee]);
  }
  /** FADDP ST(1), ST(0). */
  faddp(): this {
    return this.bytes([0xde, 0xc1]);
  }
  /** FDIVP ST(1), ST(0). */
  fdivp(): this {
    return this.bytes([0xde, 0xf9]);
  }
  /** FISTP of a 64-bit integer. */
  fistp(destination: Memory): this {
    return this.encode({ opcode: [0xdf], reg: 7, rm: destination });
  }
  fldcw(source: Memory): this {
    return this.encode({ opcode: [0xd9], reg: 5, rm: source });
  }
  fnstcw(destination: Memory): this {
    return this.encode({ opcode: [0xd9], reg: 7, rm: destination });
  }
  fwait(): this {
    return this.bytes([0x9b]);
  }
}
