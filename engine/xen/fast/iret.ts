// SPDX-License-Identifier: MIT
// Generated returns: HYPERVISOR_iret from a bounce frame to guest kernel or user code (the twin of ../iret.ts), and a kernel's own IRETQ.

import type { AddressSpaceFunctions } from '../../cpu/address-spaces.ts';
import { Hold } from '../../cpu/hooks.ts';
import { Seg, ST } from '../../cpu/layout.ts';
import { Access, type MemoryFunctions } from '../../cpu/memory-functions.ts';
import { add, and, eq, eqz, extendU, gtU, i32, i64, load, ne, or, shrS, wrap, type Expr } from '../../wasm/expr.ts';
import type { ModuleBuilder, ModuleFunction } from '../../wasm/module.ts';
import { Flag, Gpr } from '../guest-cpu.ts';
import { Selector } from '../vcpu-state.ts';
import { swapGs } from './entry.ts';
import { Fields } from './fields.ts';
import { XS } from './layout.ts';
import type { SegmentFunctions } from './segments.ts';

const FRAME_BYTES = 72;
/** Byte offsets in the frame. */
const Frame = { rax: 0, r11: 8, rcx: 16, control: 24, rip: 32, cs: 40, flags: 48, rsp: 56, ss: 64 } as const;
const VGCF_IN_SYSCALL = 0x100;
const PAGE_BYTES = 4096;

/** (state) -> 1: returned; 0: something is unusual. Nothing that matters to the other path has changed then. */
export function buildIret(
  module: ModuleBuilder,
  memory: MemoryFunctions,
  spaces: AddressSpaceFunctions,
  segments: SegmentFunctions,
): ModuleFunction {
  const fn = module.function(['i32'], ['i32']);
  const f = fn.body;
  const s = f.param(0);
  const fields = new Fields(f, s);
  const sp = f.let(fields.gpr(Gpr.rsp));
  const low = f.let(wrap(sp));
  fields.unless(or(and(low, i32(7)), gtU(and(low, i32(PAGE_BYTES - 1)), i32(PAGE_BYTES - FRAME_BYTES))));
  const page = f.let(f.callExpr(memory.hostPage, s, sp, i32(Access.read)));
  fields.unless(eqz(page));
  const frame = f.let(add(page, and(low, i32(PAGE_BYTES - 1))));
  const info = f.let(fields.get(XS.info));
  const frameFlags = f.let(load('i32.load', frame, Frame.flags));
  const enabled = f.let(and(frameFlags, i32(Flag.if)));
  const isPending = f.local('i32');
  f.set(isPending, i32(1));
  f.if(info, () => f.set(isPending, and(ne(enabled, i32(0)), ne(load('i32.load8_u', info), i32(0)))));
  fields.unless(isPending);
  // Single steps are seen to outside.
  fields.unless(and(frameFlags, i32(Flag.tf)));
  const rip = f.let(load('i64.load', frame, Frame.rip));
  fields.unless(gtU(add(shrS(rip, i64(47)), i64(1)), i64(1)));
  const cs = f.local('i32');
  const ss = f.local('i32');
  f.set(cs, load('i32.load16_u', frame, Frame.cs));
  const toUser = f.let(eq(and(cs, i32(3)), i32(3)));
  f.set(cs, or(cs, i32(3)));
  const isSysret = f.let(and(load('i32.load', frame, Frame.control), i32(VGCF_IN_SYSCALL)));
  f.if(
    isSysret,
    () => {
      fields.unless(eq(cs, i32(Selector.userCode32)));
      f.set(cs, i32(Selector.flatCode64));
      f.set(ss, i32(Selector.flatData));
    },
    () => f.set(ss, or(load('i32.load16_u', frame, Frame.ss), i32(3))),
  );
  const userRoot = f.let(fields.get(XS.userRoot));
  // Whatever fails from here on: the flat segments are what the instruction that made the call loads anyway.
  f.call(segments.flat, s);
  const restoreRoot = fields.saveRoot();
  f.if(toUser, () => {
    fields.unless(eqz(userRoot));
    fields.unless(eqz(f.callExpr(spaces.switchRoot, s, userRoot)));
  });
  f.if(or(ne(cs, i32(Selector.flatCode64)), ne(ss, i32(Selector.flatData))), () =>
    f.if(eqz(f.callExpr(segments.load, s, cs, ss)), () => {
      restoreRoot();
      f.return(i32(0));
    }),
  );
  f.if(toUser, () => {
    fields.set(XS.kernelMode, i32(0));
    swapGs(fields);
  });
  f.store('i32.store8', info, eqz(enabled), 1);
  fields.set(XS.nmiMasked, i32(0));
  const flags = f.let(or(and(frameFlags, i32(~(Flag.iopl | Flag.vm))), i32(Flag.if | Flag.fixed)));
  const fromFrame = (offset: number) => load('i64.load', frame, offset);
  fields.setGpr(Gpr.rax, fromFrame(Frame.rax));
  f.if(
    isSysret,
    () => {
      fields.setGpr(Gpr.rcx, rip);
      fields.setGpr(Gpr.r11, extendU(flags));
    },
    () => {
      fields.setGpr(Gpr.rcx, fromFrame(Frame.rcx));
      fields.setGpr(Gpr.r11, fromFrame(Frame.r11));
    },
  );
  fields.setGpr(Gpr.rsp, fromFrame(Frame.rsp));
  fields.set64(ST.rip, rip);
  fields.setFlags(flags);
  f.return(i32(1));
  return fn;
}

/** Offsets in the frame of IRETQ (Intel SDM volume 3, section 6.14.4). */
const NativeFrame = { rip: 0, cs: 8, flags: 16, rsp: 24, ss: 32, bytes: 40 } as const;
/** RFLAGS that IRET takes from its frame at CPL 3 when IOPL is 0: status, TF, DF, NT, RF, AC, ID. */
const NATIVE_FLAGS = 0x254dd5;

/** Body of (state) -> 1: IRETQ within Xen's flat segments was done; 0: anything else, nothing changed. Kernels use it to serialise. */
export function fillNativeIret(fn: ModuleFunction, memory: MemoryFunctions): void {
  const f = fn.body;
  const s = f.param(0);
  const fields = new Fields(f, s);
  const current = (segment: number): Expr => load('i32.load16_u', s, ST.selector + 2 * segment);
  const isFlat = and(eq(current(Seg.cs), i32(Selector.flatCode64)), eq(current(Seg.ss), i32(Selector.flatData)));
  fields.unless(or(eqz(isFlat), ne(fields.get(ST.cpl), i32(3))));
  fields.unless(and(fields.get(ST.holdHooks), i32(Hold.platform)));
  const sp = f.let(fields.gpr(Gpr.rsp));
  const offset = f.let(and(wrap(sp), i32(PAGE_BYTES - 1)));
  fields.unless(gtU(offset, i32(PAGE_BYTES - NativeFrame.bytes)));
  const page = f.let(f.callExpr(memory.hostPage, s, sp, i32(Access.read)));
  fields.unless(eqz(page));
  const frame = f.let(add(page, offset));
  const cs = load('i32.load16_u', frame, NativeFrame.cs);
  const ss = load('i32.load16_u', frame, NativeFrame.ss);
  fields.unless(or(ne(cs, i32(Selector.flatCode64)), ne(ss, i32(Selector.flatData))));
  const old = f.let(fields.flags());
  const given = f.let(load('i32.load', frame, NativeFrame.flags));
  fields.unless(or(and(old, i32(Flag.iopl)), and(given, i32(Flag.tf))));
  fields.setFlags(f.let(or(and(old, i32(~NATIVE_FLAGS)), and(given, i32(NATIVE_FLAGS)))));
  fields.setGpr(Gpr.rsp, load('i64.load', frame, NativeFrame.rsp));
  fields.set64(ST.rip, load('i64.load', frame, NativeFrame.rip));
  f.return(i32(1));
}
