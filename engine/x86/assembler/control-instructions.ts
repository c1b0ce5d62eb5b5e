// SPDX-License-Identifier: MIT
// Control flow and flag instructions of the assembler: jumps, calls, returns, loops (Intel SDM vol. 2).
import { conditionCode, GeneralInstructions, type Condition } from './general-instructions.ts';
import { AssemblerError, type Memory, type Register } from './operands.ts';

export type Target = string | Register | Memory;

/** `near` always takes four bytes; `short` insists on one; left out: one for a label that is near and already placed. */
export type Distance = 'short' | 'near';

export class ControlInstructions extends GeneralInstructions {
  jmp(target: Target, distance?: Distance): this {
    if (typeof target === 'object') return this.#indirect(4, target);
    return this.#relative(target, [0xeb], [0xe9], distance);
  }

  j(condition: Condition, target: string, distance?: Distance): this {
    const code = conditionCode(condition);
    return this.#relative(target, [0x70 | code], [0x0f, 0x80 | code], distance);
  }

  call(target: Target): this {
    if (typeof target === 'object') return this.#indirect(2, target);
    this.bytes([0xe8]);
    this.fixup('rel32', target, 0);
    return this;
  }

  /** Near return; `popBytes` more are taken off the stack. */
  ret(popBytes = 0): this {
    if (popBytes === 0) return this.bytes([0xc3]);
    return this.encode({ opcode: [0xc2], immediate: { value: popBytes, size: 2 } });
  }

  loop(target: string): this {
    return this.#relative(target, [0xe2], undefined, 'short');
  }
  jrcxz(target: string): this {
    return this.#relative(target, [0xe3], undefined, 'short');
  }

  #indirect(operation: number, target: Register | Memory): this {
    const size = target.size ?? this.bits / 8;
    if (size * 8 !== this.bits) throw new AssemblerError('an indirect branch takes the width of the mode');
    return this.encode({ opcode: [0xff], reg: operation, rm: target });
  }

  #relative(label: string, short: number[], near: number[] | undefined, distance: Distance | undefined): this {
    const placed = this.placedOffset(label);
    const reaches = placed !== undefined && placed - (this.offset + short.length + 1) >= -128;
    if (near === undefined || distance === 'short' || (distance === undefined && reaches)) {
      this.bytes(short);
      this.fixup('rel8', label, 0);
    } else {
      this.bytes(near);
      this.fixup('rel32', label, 0);
    }
    return this;
  }

  /** Calls far through memory (selector after offset), for descriptor and call-gate tests. */
  callFar(target: Memory): this {
    return this.encode({ opcode: [0xff], size: target.size, reg: 3, rm: target });
  }
  jmpFar(target: Memory): this {
    return this.encode({ opcode: [0xff], size: target.size, reg: 5, rm: target });
  }
  /** Far return with operands of the mode's width. */
  lret(): this {
    return this.bytes(this.bits === 64 ? [0x48, 0xcb] : [0xcb]);
  }

  leave(): this {
    return this.bytes([0xc9]);
  }
  nop(): this {
    return this.bytes([0x90]);
  }
  pause(): this {
    return this.bytes([0xf3, 0x90]);
  }

  clc(): this {
    return this.bytes([0xf8]);
  }
  stc(): this {
    return this.bytes([0xf9]);
  }
  cmc(): this {
    return this.bytes([0xf5]);
  }
  cld(): this {
    return this.bytes([0xfc]);
  }
  std(): this {
    return this.bytes([0xfd]);
  }
  lahf(): this {
    return this.bytes([0x9f]);
  }
  sahf(): this {
    return this.bytes([0x9e]);
  }
  /** PUSHFQ, or PUSHFD in 32-bit code. */
  pushf(): this {
    return this.bytes([0x9c]);
  }
  /** POPFQ, or POPFD in 32-bit code. */
  popf(): this {
    return this.bytes([0x9d]);
  }
}
