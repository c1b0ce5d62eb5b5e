// SPDX-License-Identifier: MIT
// Generated entries into the guest kernel: the bounce frame, SYSCALL in user mode, page faults. The twin of exits.ts and traps.ts.

import type { AddressSpaceFunctions } from '../../cpu/address-spaces.ts';
import { ST, Seg } from '../../cpu/layout.ts';
import { Access, type MemoryFunctions } from '../../cpu/memory-functions.ts';
import {
  add,
  and,
  eq,
  eqz,
  extendU,
  gtU,
  i32,
  i64,
  load,
  ltS,
  ne,
  or,
  select,
  shl,
  shrU,
  sub,
  wrap,
} from '../../wasm/expr.ts';
import type { ModuleBuilder, ModuleFunction } from '../../wasm/module.ts';
import { Flag, Gpr, Vector } from '../guest-cpu.ts';
import { TrapFlag } from '../vcpu-state.ts';
import { Fields } from './fields.ts';
import { XS } from './layout.ts';
import type { SegmentFunctions } from './segments.ts';

/** Bits 43-63 of the addresses that are Xen's own. */
const XEN_AREA = 0x1ffff0;
const CLEARED_ON_ENTRY = Flag.ac | Flag.vm | Flag.rf | Flag.nt | Flag.tf;
const PAGE_BYTES = 4096;
const FAULT_USER = 4;
/** A write to a page that is present but not writable. */
const FAULT_PROTECTED_WRITE = 3;
/** Offset of CR2 in vcpu_info. */
const INFO_CR2 = 0x10;

/** Exchanges the GS bases; the mode flag and the root are the caller's. */
export function swapGs(fields: Fields): void {
  const live = ST.segBase + Seg.gs * 8;
  const base = fields.f.let(fields.get64(live));
  fields.set64(live, fields.get64(XS.gsInactive));
  fields.set64(XS.gsInactive, base);
}

/**
 * (state, entry point i64, error code, mask) -> 1: entered the kernel there with a bounce frame; 0: nothing changed, except
 * that the exception fields may hold the stack's fault. The error code is -1 when the frame has none; `mask` is not 0 to
 * mask events. The code segment must be a 64-bit one.
 */
function buildBounce(
  module: ModuleBuilder,
  memory: MemoryFunctions,
  spaces: AddressSpaceFunctions,
  segments: SegmentFunctions,
): ModuleFunction {
  const fn = module.function(['i32', 'i64', 'i32', 'i32'], ['i32']);
  const f = fn.body;
  const [s, target, error, mask] = [f.param(0), f.param(1), f.param(2), f.param(3)];
  const fields = new Fields(f, s);
  const info = f.let(fields.get(XS.info));
  fields.unless(eqz(info));
  const savedMask = f.let(load('i32.load8_u', info, 1));
  // An event would be delivered on top at once.
  fields.unless(and(ne(load('i32.load8_u', info), i32(0)), eqz(or(mask, savedMask))));
  const isKernel = f.let(fields.get(XS.kernelMode));
  const oldSp = f.let(fields.gpr(Gpr.rsp));
  const top = and(select(isKernel, oldSp, fields.get64(XS.kernelSp)), i64(-16));
  const withoutError = f.let(ltS(error, i32(0)));
  const bytes = f.let(select(withoutError, i32(56), i32(64)));
  const frame = f.let(sub(top, extendU(bytes)));
  fields.unless(
    or(
      gtU(and(wrap(frame), i32(PAGE_BYTES - 1)), sub(i32(PAGE_BYTES), bytes)),
      eq(shrU(frame, i64(43)), i64(XEN_AREA)),
    ),
  );
  const restoreRoot = fields.saveRoot();
  f.if(eqz(isKernel), () => fields.unless(eqz(f.callExpr(spaces.switchRoot, s, fields.get(XS.kernelRoot)))));
  const page = f.let(f.callExpr(memory.hostPage, s, frame, i32(Access.write)));
  const holdsCode = load('i32.load', add(fields.get(ST.codeMap), shl(shrU(page, i32(12)), i32(2))));
  const isUsable = f.local('i32');
  f.set(isUsable, i32(0));
  f.if(page, () => f.set(isUsable, eqz(holdsCode)));
  f.if(eqz(isUsable), () => {
    restoreRoot();
    f.return(i32(0));
  });

  const flags = f.let(fields.flags());
  const at = f.local('i32');
  f.set(at, add(page, and(wrap(frame), i32(PAGE_BYTES - 1))));
  f.store('i64.store', at, fields.gpr(Gpr.rcx));
  f.store('i64.store', at, fields.gpr(Gpr.r11), 8);
  f.if(eqz(withoutError), () => {
    f.store('i64.store', at, extendU(error), 16);
    f.set(at, add(at, i32(8)));
  });
  const cs = load('i32.load16_u', s, ST.selector + 2 * Seg.cs);
  f.store('i64.store', at, fields.get64(ST.rip), 16);
  f.store('i32.store', at, select(isKernel, and(cs, i32(0xfffc)), cs), 24);
  f.store('i32.store', at, savedMask, 28);
  const shownFlags = or(and(flags, i32(~(Flag.if | Flag.iopl))), select(savedMask, i32(0), i32(Flag.if)));
  f.store('i64.store', at, extendU(shownFlags), 32);
  f.store('i64.store', at, oldSp, 40);
  f.store('i64.store', at, load('i64.load16_u', s, ST.selector + 2 * Seg.ss), 48);

  f.if(eqz(isKernel), () => {
    fields.set(XS.kernelMode, i32(1));
    swapGs(fields);
  });
  f.if(mask, () => f.store('i32.store8', info, i32(1), 1));
  fields.setGpr(Gpr.rsp, frame);
  fields.set64(ST.rip, target);
  fields.set(ST.sysFlags, or(and(fields.get(ST.sysFlags), i32(~CLEARED_ON_ENTRY)), i32(Flag.if | Flag.fixed)));
  f.call(segments.flat, s);
  f.return(i32(1));
  return fn;
}

/** What SYSCALL itself does to registers, selectors included. */
export function syscallRegisters(fields: Fields, segments: SegmentFunctions): void {
  fields.setGpr(Gpr.rcx, fields.get64(ST.rip));
  fields.setGpr(Gpr.r11, extendU(or(fields.flags(), i32(Flag.if))));
  fields.f.call(segments.flat, fields.s);
}

export interface EntryFunctions {
  /** (state) -> 1 or 0: SYSCALL in user mode. */
  readonly syscall: ModuleFunction;
  /** (state) -> 1 or 0: the exception recorded in the state block, if it is a page fault. */
  readonly pageFault: ModuleFunction;
}

export function buildEntryFunctions(
  module: ModuleBuilder,
  memory: MemoryFunctions,
  spaces: AddressSpaceFunctions,
  segments: SegmentFunctions,
): EntryFunctions {
  const bounce = buildBounce(module, memory, spaces, segments);

  const syscall = module.function(['i32'], ['i32']);
  {
    const f = syscall.body;
    const fields = new Fields(f, f.param(0));
    const target = f.let(fields.get64(XS.syscallCallback));
    fields.unless(or(eqz(target), ne(fields.get(ST.mode), i32(64))));
    syscallRegisters(fields, segments);
    fields.unless(eqz(f.callExpr(bounce, fields.s, target, i32(-1), fields.get(XS.syscallCallback + 8))));
    fields.set(ST.sysFlags, and(fields.get(ST.sysFlags), i32(~Flag.df)));
    f.return(i32(1));
  }

  const pageFault = module.function(['i32'], ['i32']);
  {
    const f = pageFault.body;
    const fields = new Fields(f, f.param(0));
    const target = f.let(fields.get64(XS.trapAddress + 8 * Vector.pageFault));
    const error = f.let(fields.get(ST.errorCode));
    const isKernel = f.let(fields.get(XS.kernelMode));
    const isProtectedWrite = eq(and(error, i32(FAULT_PROTECTED_WRITE)), i32(FAULT_PROTECTED_WRITE));
    fields.unless(ne(fields.get(ST.vector), i32(Vector.pageFault)));
    fields.unless(or(eqz(target), ne(fields.get(ST.mode), i32(64))));
    // In the kernel that may be a store to a page table.
    fields.unless(and(isKernel, isProtectedWrite));
    const cr2 = f.let(fields.get64(ST.cr2));
    const shownError = select(isKernel, and(error, i32(~FAULT_USER)), or(error, i32(FAULT_USER)));
    const mask = and(load('i32.load8_u', fields.s, XS.trapFlags + Vector.pageFault), i32(TrapFlag.maskEvents));
    const giveUp = fields.keepException();
    f.if(eqz(f.callExpr(bounce, fields.s, target, shownError, mask)), giveUp);
    f.store('i64.store', fields.get(XS.info), cr2, INFO_CR2);
    fields.count(XS.trapCounts, i32(Vector.pageFault));
    f.return(i32(1));
  }
  return { syscall, pageFault };
}
