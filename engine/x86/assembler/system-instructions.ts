// SPDX-License-Identifier: MIT
// System instructions of the assembler: kernel entry and exit, control and segment registers, MSRs, I/O (Intel SDM vol. 2).
import { ControlInstructions } from './control-instructions.ts';
import {
  AssemblerError,
  rax,
  type ControlRegister,
  type DebugRegister,
  type Memory,
  type Register,
  type SegmentRegister,
} from './operands.ts';

type Movable = Register | Memory;

export class SystemInstructions extends ControlInstructions {
  syscall(): this {
    return this.bytes([0x0f, 0x05]);
  }
  sysenter(): this {
    return this.bytes([0x0f, 0x34]);
  }
  /** SYSRET to 64-bit code. */
  sysret(): this {
    return this.bytes([0x48, 0x0f, 0x07]);
  }
  /** IRETQ, or IRETD in 32-bit code. */
  iret(): this {
    return this.bytes(this.bits === 64 ? [0x48, 0xcf] : [0xcf]);
  }
  int(vector: number): this {
    return this.encode({ opcode: [0xcd], immediate: { value: vector, size: 1 } });
  }
  int3(): this {
    return this.bytes([0xcc]);
  }
  /** The undocumented one-byte INT1, which raises #DB. */
  int1(): this {
    return this.bytes([0xf1]);
  }
  /** INTO: raises #OF when OF is set; exists in 32-bit code only. */
  into(): this {
    if (this.bits === 64) throw new AssemblerError('into does not exist in 64-bit code');
    return this.bytes([0xce]);
  }
  ud2(): this {
    return this.bytes([0x0f, 0x0b]);
  }
  hlt(): this {
    return this.bytes([0xf4]);
  }
  cli(): this {
    return this.bytes([0xfa]);
  }
  sti(): this {
    return this.bytes([0xfb]);
  }

  /** IN into al, ax or eax from an immediate port (0-255) or from DX when `port` is 'dx'. */
  in(accumulator: Register, port: number | 'dx'): this {
    return this.#io(0xe4, accumulator, port);
  }
  out(port: number | 'dx', accumulator: Register): this {
    return this.#io(0xe6, accumulator, port);
  }

  #io(opcode: number, accumulator: Register, port: number | 'dx'): this {
    if (accumulator.code !== 0 || accumulator.size === 8) throw new AssemblerError('in and out take al, ax or eax');
    const size = accumulator.size;
    const wide = size === 1 ? 0 : 1;
    if (port === 'dx') return this.encodeInOpcode([opcode | 8 | wide], { ...rax, size }, size);
    return this.encodeInOpcode([opcode | wide], { ...rax, size }, size, { value: port, size: 1 });
  }

  /** Reads a control or debug register. */
  movFrom(destination: Register, source: ControlRegister | DebugRegister): this {
    return this.encode({ opcode: [0x0f, source.kind === 'cr' ? 0x20 : 0x21], reg: source, rm: destination });
  }
  /** Writes a control or debug register. */
  movTo(destination: ControlRegister | DebugRegister, source: Register): this {
    return this.encode({ opcode: [0x0f, destination.kind === 'cr' ? 0x22 : 0x23], reg: destination, rm: source });
  }
  movFromSegment(destination: Movable, source: SegmentRegister): this {
    const size = destination.kind === 'reg' ? destination.size : undefined;
    return this.encode({ opcode: [0x8c], size, reg: source, rm: destination });
  }
  movToSegment(destination: SegmentRegister, source: Movable): this {
    return this.encode({ opcode: [0x8e], reg: destination, rm: source });
  }
  pushSegment(segment: SegmentRegister): this {
    if (segment.code < 4) throw new AssemblerError('only fs and gs can be pushed in 64-bit code');
    return this.bytes([0x0f, segment.code === 4 ? 0xa0 : 0xa8]);
  }
  popSegment(segment: SegmentRegister): this {
    if (segment.code < 4) throw new AssemblerError('only fs and gs can be popped in 64-bit code');
    return this.bytes([0x0f, segment.code === 4 ? 0xa1 : 0xa9]);
  }

  clts(): this {
    return this.bytes([0x0f, 0x06]);
  }
  smsw(destination: Register): this {
    return this.encode({ opcode: [0x0f, 0x01], size: destination.size, reg: 4, rm: destination });
  }
  lmsw(source: Register): this {
    return this.encode({ opcode: [0x0f, 0x01], reg: 6, rm: source });
  }
  rdmsr(): this {
    return this.bytes([0x0f, 0x32]);
  }
  wrmsr(): this {
    return this.bytes([0x0f, 0x30]);
  }
  rdrand(register: Register): this {
    return this.encode({ opcode: [0x0f, 0xc7], size: register.size, reg: 6, rm: register });
  }
  rdseed(register: Register): this {
    return this.encode({ opcode: [0x0f, 0xc7], size: register.size, reg: 7, rm: register });
  }
  rdtsc(): this {
    return this.bytes([0x0f, 0x31]);
  }
  rdtscp(): this {
    return this.bytes([0x0f, 0x01, 0xf9]);
  }
  rdpmc(): this {
    return this.bytes([0x0f, 0x33]);
  }
  cpuid(): this {
    return this.bytes([0x0f, 0xa2]);
  }
  swapgs(): this {
    return this.bytes([0x0f, 0x01, 0xf8]);
  }
  xgetbv(): this {
    return this.bytes([0x0f, 0x01, 0xd0]);
  }
  xsetbv(): this {
    return this.bytes([0x0f, 0x01, 0xd1]);
  }
  invlpg(address: Memory): this {
    return this.encode({ opcode: [0x0f, 0x01], reg: 7, rm: address });
  }
  wbinvd(): this {
    return this.bytes([0x0f, 0x09]);
  }
  invd(): this {
    return this.bytes([0x0f, 0x08]);
  }

  lgdt(source: Memory): this {
    return this.encode({ opcode: [0x0f, 0x01], reg: 2, rm: source });
  }
  lidt(source: Memory): this {
    return this.encode({ opcode: [0x0f, 0x01], reg: 3, rm: source });
  }
  sgdt(destination: Memory): this {
    return this.encode({ opcode: [0x0f, 0x01], reg: 0, rm: destination });
  }
  sidt(destination: Memory): this {
    return this.encode({ opcode: [0x0f, 0x01], reg: 1, rm: destination });
  }
  lldt(source: Movable): this {
    return this.encode({ opcode: [0x0f, 0x00], reg: 2, rm: source });
  }
  ltr(source: Movable): this {
    return this.encode({ opcode: [0x0f, 0x00], reg: 3, rm: source });
  }
  rdfsbase(destination: Register): this {
    return this.encode({
      opcode: [0x0f, 0xae],
      mandatoryPrefix: 0xf3,
      size: destination.size,
      reg: 0,
      rm: destination,
    });
  }
  rdgsbase(destination: Register): this {
    return this.encode({
      opcode: [0x0f, 0xae],
      mandatoryPrefix: 0xf3,
      size: destination.size,
      reg: 1,
      rm: destination,
    });
  }
  wrfsbase(source: Register): this {
    return this.encode({ opcode: [0x0f, 0xae], mandatoryPrefix: 0xf3, size: source.size, reg: 2, rm: source });
  }
  wrgsbase(source: Register): this {
    return this.encode({ opcode: [0x0f, 0xae], mandatoryPrefix: 0xf3, size: source.size, reg: 3, rm: source });
  }
  lfence(): this {
    return this.bytes([0x0f, 0xae, 0xe8]);
  }
  mfence(): this {
    return this.bytes([0x0f, 0xae, 0xf0]);
  }
  sfence(): this {
    return this.bytes([0x0f, 0xae, 0xf8]);
  }
}
