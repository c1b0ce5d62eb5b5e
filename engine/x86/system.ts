// SPDX-License-Identifier: MIT
// System instructions: flags image, segments, far transfers, control registers, CPUID, random numbers, port I/O (Intel SDM volumes 2 and 3).

import { Seg, ST } from '../cpu/layout.ts';
import { Exit } from '../cpu/exits.ts';
import { and, eqz, extendU, gtS, i32, i64, leU, or, shrU, wrap, add, type Expr } from '../wasm/expr.ts';
import { truncate } from './flags.ts';
import { peek, push, setStack, stackAt } from './integer-data.ts';
import type { Stage } from './stage.ts';
import { insn, type Instruction } from './types.ts';

const stackSize = (s: Stage): 16 | 32 | 64 => s.size as 16 | 32 | 64;
const invalidOpcode = 6;
const generalProtection = 13;

/** RFLAGS bits of the status flags. */
const statusFlags = 0x8d5;
/** RFLAGS bits that POPF writes at any privilege: status flags, TF, DF, NT, AC, ID. */
const userFlags = 0x244dd5;

/** IOPL (bits 12-13) as a number. */
const iopl = (s: Stage): Expr => and(shrU(s.get('i32.load', ST.sysFlags), i32(12)), i32(3));
const cpl = (s: Stage): Expr => s.get('i32.load', ST.cpl);

/** CLI and STI: IF changes when CPL <= IOPL, else #GP(0). */
function interruptFlag(value: number): (s: Stage) => void {
  return (s) => {
    s.f.if(gtS(cpl(s), iopl(s)), () => s.fault(generalProtection, i32(0)));
    const cleared = and(s.get('i32.load', ST.sysFlags), i32(~0x200));
    s.put('i32.store', ST.sysFlags, value ? or(cleared, i32(0x200)) : cleared);
  };
}

function popFlags(s: Stage): void {
  const value = peek(s, stackSize(s));
  setStack(s, stackAt(s, s.size / 8));
  const image = s.let(wrap(value));
  const base = s.size === 16 ? userFlags & 0xffff : userFlags;
  s.setFlagsImage(image, base);
  // IF with CPL <= IOPL, IOPL itself at CPL 0 only.
  s.f.if(leU(cpl(s), iopl(s)), () => s.setFlagsImage(image, 0x200));
  s.f.if(eqz(cpl(s)), () => s.setFlagsImage(image, 0x3000));
}

/** Instructions that only a hypervisor's guest kernel at CPL 0 may execute; at other levels #GP(0). The host does the rest. */
function privilegedHost(name: string, encoding: string | string[], operands: string, hostName = name): Instruction {
  return insn(name, encoding, operands, { ends: true, faults: true }, (s) => {
    s.privileged();
    s.host(hostName, true);
  });
}

/** Memory operands that the descriptions address themselves: a selector stored, a far pointer read, nothing. */
const storedSelector = { bytes: () => 2, write: true } as const;
const farPointerRead = { bytes: (size: number) => size / 8 + 2, write: false } as const;
const notAccessed = { bytes: () => 0, write: false } as const;
/** Base and limit of a descriptor table, outside 64-bit mode. */
const tableRegister = (write: boolean) => ({ bytes: () => 6, write }) as const;

/** Passes the effective address (linear) of memory operand 0 to the host in the work area. */
function withAddress(name: string, encoding: string, privileged: boolean): Instruction {
  const memory = name === 'invlpg' ? undefined : tableRegister(!privileged);
  return insn(name, encoding, '-', { ends: true, faults: true, ownMemory: true, memory }, (s) => {
    if (privileged) s.privileged();
    s.put('i64.store', ST.work, s.address(0));
    s.host(name, true);
  });
}

/** Far pointer in memory: offset at the work area, selector behind it. */
function farPointer(s: Stage): void {
  const bytes = s.size / 8;
  const at = s.let(s.address(s.operands - 1));
  const offset = s.load(s.size as 16 | 32 | 64, at);
  const selector = s.load(16, s.let(add(at, i64(bytes))));
  s.put('i64.store', ST.work, extendU(offset));
  s.put('i32.store', ST.work + 8, selector);
}

/** Loads a segment register through the host: the selector is checked against the descriptor tables there. */
function loadSegment(s: Stage, selector: Expr, segment: Expr): void {
  s.put('i32.store', ST.work + 8, selector);
  s.put('i32.store', ST.work + 12, segment);
  s.host('loadSegment');
}

function loadFarPointer(name: string, encoding: string, segment: number): Instruction {
  return insn(name, encoding, 'w-', { ends: true, faults: true, ownMemory: true, memory: farPointerRead }, (s) => {
    farPointer(s);
    const offset = s.let(s.get('i64.load', ST.work));
    s.put('i32.store', ST.work + 12, i32(segment));
    s.host('loadSegment');
    s.write(0, s.size === 64 ? offset : wrap(offset));
    s.jump(s.nextRip());
  });
}

function pushSegment(name: string, encoding: string, segment: number): Instruction {
  return insn(name, encoding, '', { perMode: true }, (s) => {
    const selector = s.let(s.get('i32.load16_u', ST.selector + 2 * segment));
    push(s, stackSize(s), s.size === 64 ? extendU(selector) : selector);
  });
}

function popSegment(name: string, encoding: string, segment: number): Instruction {
  return insn(name, encoding, '', { perMode: true, ends: true, faults: true }, (s) => {
    const value = peek(s, stackSize(s));
    loadSegment(s, and(wrap(value), i32(0xffff)), i32(segment));
    setStack(s, stackAt(s, s.size / 8));
    s.jump(s.nextRip());
  });
}

function readTimeStamp(s: Stage): void {
  const ticks = s.timeStamp();
  s.setGpr(0, 32, wrap(ticks));
  s.setGpr(2, 32, wrap(shrU(ticks, i64(32))));
}

/** The host answers in the place of the question: EAX, EBX, ECX, EDX. */
function cpuid(s: Stage): void {
  s.put('i32.store', ST.work, s.gpr(0, 32));
  s.put('i32.store', ST.work + 4, s.gpr(1, 32));
  s.host('cpuid');
  [0, 3, 1, 2].forEach((register, n) => s.setGpr(register, 32, s.let(s.get('i32.load', ST.work + 4 * n))));
}

/** A random number of the operand's size. CF says that there was one, and there always is; the other flags are clear. */
function random(s: Stage): void {
  s.host('random');
  const value = s.let(s.get('i64.load', ST.work));
  s.write(0, truncate(s.size, s.size === 64 ? value : wrap(value)));
  s.setFlagsImage(i32(1), statusFlags);
}

export const systemInstructions: readonly Instruction[] = [
  insn('pushf', '9C #v d64', '', { perMode: true, reads: 'oszapc' }, (s) => {
    // RF and VM read as zero.
    const image = and(s.flagsImage(), i32(0xfcffff & ~0x10000));
    push(s, stackSize(s), s.size === 64 ? extendU(image) : image);
  }),
  insn('popf', '9D #v d64', '', { perMode: true, writes: 'oszapc', ends: true }, (s) => {
    popFlags(s);
    // With TF set the next instruction traps: whoever runs us has to see that.
    s.f.if(and(s.get('i32.load', ST.sysFlags), i32(0x100)), () => s.exit(Exit.Lookup));
    s.jump(s.nextRip());
  }),
  insn('cli', 'FA', '', { faults: true }, interruptFlag(0)),
  insn('sti', 'FB', '', { faults: true, ends: true }, (s) => {
    interruptFlag(1)(s);
    s.jump(s.nextRip());
  }),
  insn('mov-from-segment', '8C Ev,Sw', 'wr', { ownMemory: true, memory: storedSelector }, (s) => {
    const selector = s.let(s.read(1));
    if (s.isMemory(0)) s.store(16, s.let(s.address(0)), selector);
    else s.write(0, s.size === 64 ? extendU(selector) : selector);
  }),
  insn('mov-to-segment', '8E Sw,Ew', 'wr', { faults: true }, (s) => {
    const selector = s.read(1);
    loadSegment(s, selector, s.imm(0));
  }),
  pushSegment('push-es', '06 #v i64', Seg.es),
  pushSegment('push-cs', '0E #v i64', Seg.cs),
  pushSegment('push-ss', '16 #v i64', Seg.ss),
  pushSegment('push-ds', '1E #v i64', Seg.ds),
  pushSegment('push-fs', '0F A0 #v d64', Seg.fs),
  pushSegment('push-gs', '0F A8 #v d64', Seg.gs),
  popSegment('pop-es', '07 #v i64', Seg.es),
  popSegment('pop-ss', '17 #v i64', Seg.ss),
  popSegment('pop-ds', '1F #v i64', Seg.ds),
  popSegment('pop-fs', '0F A1 #v d64', Seg.fs),
  popSegment('pop-gs', '0F A9 #v d64', Seg.gs),
  loadFarPointer('les', 'C4 Gv,Mn i64', Seg.es),
  loadFarPointer('lds', 'C5 Gv,Mn i64', Seg.ds),
  loadFarPointer('lss', '0F B2 Gv,Mn', Seg.ss),
  loadFarPointer('lfs', '0F B4 Gv,Mn', Seg.fs),
  loadFarPointer('lgs', '0F B5 Gv,Mn', Seg.gs),
  insn(
    'jmp-far-memory',
    'FF/5 Mn #v',
    '-',
    { ends: true, faults: true, ownMemory: true, memory: farPointerRead },
    (s) => {
      farPointer(s);
      s.host(`farJump${s.size}`, true);
    },
  ),
  insn(
    'call-far-memory',
    'FF/3 Mn #v',
    '-',
    { ends: true, faults: true, ownMemory: true, memory: farPointerRead },
    (s) => {
      farPointer(s);
      s.put('i64.store', ST.work + 16, s.nextRip());
      s.host(`farCall${s.size}`, true);
    },
  ),
  insn('ret-far', 'CB #v', '', { ends: true, faults: true }, (s) => {
    s.put('i32.store', ST.work, i32(0));
    s.host(`farReturn${s.size}`, true);
  }),
  insn('ret-far-release', 'CA Iw #v', 'r', { ends: true, faults: true }, (s) => {
    s.put('i32.store', ST.work, and(wrap(s.read(0)), i32(0xffff)));
    s.host(`farReturn${s.size}`, true);
  }),
  insn('iret', 'CF #v', '', { ends: true, faults: true, writes: 'oszapc' }, (s) => s.host(`iret${s.size}`, true)),
  insn('cpuid', '0F A2', '', { faults: true }, cpuid),
  insn('rdtsc', '0F 31', '', { faults: true }, (s) => readTimeStamp(s)),
  insn('rdtscp', '0F 01 F9', '', { faults: true }, (s) => {
    readTimeStamp(s);
    s.setGpr(1, 32, s.get('i32.load', ST.tscAux));
  }),
  insn('rdrand', '0F C7/6 Rv', 'w', { writes: 'oszapc' }, random),
  insn('rdseed', '0F C7/7 Rv', 'w', { writes: 'oszapc' }, random),
  insn('xgetbv', '0F 01 D0', '', { faults: true }, (s) => s.fault(invalidOpcode)),
  insn('pause', 'F3 90', '', {}, () => undefined),
  insn(
    'nop',
    ['90', '0F 1F/0 En', '0F 19 En', '0F 1A En', '0F 1B En', '0F 1C En', '0F 1D En', '0F 1E En'],
    '-',
    { ownMemory: true, memory: notAccessed },
    () => undefined,
  ),
  insn('ud2', '0F 0B', '', { ends: true, faults: true }, (s) => s.fault(invalidOpcode)),
  insn('hlt', 'F4', '', { ends: true, faults: true }, (s) => {
    s.privileged();
    s.exit(Exit.Halt);
  }),
  privilegedHost('clts', '0F 06', ''),
  privilegedHost('wbinvd', ['0F 08', '0F 09'], ''),
  privilegedHost('rdmsr', '0F 32', ''),
  privilegedHost('wrmsr', '0F 30', ''),
  privilegedHost('rdpmc', '0F 33', ''),
  privilegedHost('sysret', '0F 07 #v', ''),
  privilegedHost('sysexit', '0F 35 #v', ''),
  privilegedHost('swapgs', '0F 01 F8', ''),
  privilegedHost('xsetbv', '0F 01 D1', ''),
  withAddress('invlpg', '0F 01/7 Mn', true),
  withAddress('lgdt', '0F 01/2 Mn', true),
  withAddress('lidt', '0F 01/3 Mn', true),
  withAddress('sgdt', '0F 01/0 Mn', false),
  withAddress('sidt', '0F 01/1 Mn', false),
  ...(['lldt', 'ltr'] as const).map((name, i) =>
    insn(name, `0F 00/${2 + i} Ew`, 'r', { ends: true, faults: true }, (s) => {
      s.privileged();
      s.put('i32.store', ST.work + 8, s.read(0));
      s.host(name, true);
    }),
  ),
  ...(['sldt', 'str'] as const).map((name, i) =>
    insn(name, `0F 00/${i} Ev`, 'w', { ownMemory: true, memory: storedSelector }, (s) => {
      const selector = s.let(s.get('i32.load16_u', name === 'sldt' ? ST.ldtSelector : ST.trSelector));
      if (s.isMemory(0)) s.store(16, s.let(s.address(0)), selector);
      else s.write(0, s.size === 64 ? extendU(selector) : selector);
    }),
  ),
  insn('smsw', '0F 01/4 Ev', 'w', { ownMemory: true, memory: storedSelector }, (s) => {
    const word = s.let(s.get('i32.load', ST.cr0));
    if (s.isMemory(0)) s.store(16, s.let(s.address(0)), word);
    else s.write(0, s.size === 64 ? extendU(word) : word);
  }),
  insn('lmsw', '0F 01/6 Ew', 'r', { ends: true, faults: true }, (s) => {
    s.privileged();
    s.put('i32.store', ST.work, s.read(0));
    s.host('lmsw', true);
  }),
  ...(['verr', 'verw', 'lar', 'lsl'] as const).map((name, i) =>
    insn(
      name,
      i < 2 ? `0F 00/${4 + i} Ew` : `0F 0${i} Gv,Ew`,
      i < 2 ? 'r' : 'xr',
      { writes: 'z', faults: true },
      (s) => {
        s.put('i32.store', ST.work + 8, s.read(i < 2 ? 0 : 1));
        s.host(name);
        const found = s.let(s.get('i32.load', ST.work));
        if (i >= 2) {
          const value = s.let(s.get('i32.load', ST.work + 4));
          s.f.if(found, () => s.write(0, s.size === 64 ? extendU(value) : value));
        }
        s.setZfValue(extendU(eqz(found)));
      },
    ),
  ),
  ...(['mov-from-cr', 'mov-from-dr'] as const).map((name, i) =>
    insn(name, i === 0 ? '0F 20 Ry,Cd' : '0F 21 Ry,Dd', 'w-', { ends: true, faults: true }, (s) => {
      s.privileged();
      s.put('i32.store', ST.work + 8, s.imm(1));
      s.host(name);
      const value = s.let(s.get('i64.load', ST.work));
      s.write(0, s.size === 64 ? value : wrap(value));
      s.jump(s.nextRip());
    }),
  ),
  ...(['mov-to-cr', 'mov-to-dr'] as const).map((name, i) =>
    insn(name, i === 0 ? '0F 22 Cd,Ry' : '0F 23 Dd,Ry', '-r', { ends: true, faults: true }, (s) => {
      s.privileged();
      s.put('i32.store', ST.work + 8, s.imm(0));
      s.put('i64.store', ST.work, extendU(s.read(1)));
      s.host(name, true);
    }),
  ),
  ...(['in', 'out'] as const).flatMap((name, i) => [
    insn(`${name}-immediate`, i ? ['E6 Ib,AL', 'E7 Ib,rAX'] : ['E4 AL,Ib', 'E5 rAX,Ib'], '--', { faults: true }, (s) =>
      portAccess(s, name, and(wrap(s.imm(i ? 0 : 1)), i32(0xff))),
    ),
    insn(name, i ? ['EE #b', 'EF #z'] : ['EC #b', 'ED #z'], '', { faults: true }, (s) =>
      portAccess(s, name, s.gpr(2, 16)),
    ),
  ]),
  insn('ins', ['6C #b', '6D #z', 'F3 6C #b', 'F3 6D #z', 'F2 6C #b', 'F2 6D #z'], '', { faults: true }, (s) =>
    portString(s),
  ),
  insn('outs', ['6E #b', '6F #z', 'F3 6E #b', 'F3 6F #z', 'F2 6E #b', 'F2 6F #z'], '', { faults: true }, (s) =>
    portString(s),
  ),
];

/** Port access: allowed with CPL <= IOPL (the I/O bitmap is the host's), else #GP(0). */
function portAccess(s: Stage, name: 'in' | 'out', port: Expr): void {
  s.f.if(gtS(cpl(s), iopl(s)), () => s.fault(generalProtection, i32(0)));
  s.put('i32.store', ST.work, port);
  s.host(`${name}${s.size === 64 ? 32 : s.size}`);
}

/** INS and OUTS are the PC platform's; a guest without ports gets what the processor gives it without I/O privilege. */
function portString(s: Stage): void {
  s.fault(generalProtection, i32(0));
}
