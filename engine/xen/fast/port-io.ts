// SPDX-License-Identifier: MIT
// Generated port I/O of a guest kernel that owns no ports, and what else IOPL allows (the twin of ../privileged.ts): reads give ones, the rest does nothing.

import { ST } from '../../cpu/layout.ts';
import { Access, type MemoryFunctions } from '../../cpu/memory-functions.ts';
import { add, and, eqz, extendU, i32, i64, load, ltU, ne, or, sub, wrap } from '../../wasm/expr.ts';
import type { ModuleBuilder, ModuleFunction } from '../../wasm/module.ts';
import { Gpr, Vector } from '../guest-cpu.ts';
import { Fields } from './fields.ts';
import { XS } from './layout.ts';

const LAST_OF_PAGE = 0xfff;
/** IN and OUT are E4 to E7, with the port behind the opcode, and EC to EF; CLI and STI are FA and FB (Intel SDM volume 2). */
const PORT_IO = { mask: 0xf4, value: 0xe4 } as const;
const INTERRUPT_FLAG = { mask: 0xfe, value: 0xfa } as const;
/** Bits of an opcode; CLI and STI have those that mean "one byte" and "reads nothing". */
const OPCODE = { isWide: 1, readsNothing: 2, isOneByte: 8 } as const;

/**
 * (state) -> 1: the exception recorded in the state block came from IN, OUT, CLI or STI without prefixes, which was carried out; 0: it is another
 * one. A kernel that measures time by a timer which is not there reads its port 100,000 times.
 */
export function buildPortIo(module: ModuleBuilder, memory: MemoryFunctions): ModuleFunction {
  const fn = module.function(['i32'], ['i32']);
  const f = fn.body;
  const s = f.param(0);
  const fields = new Fields(f, s);
  fields.unless(or(ne(fields.get(ST.vector), i32(Vector.protection)), ne(fields.get(ST.errorCode), i32(0))));
  fields.unless(or(eqz(fields.get(XS.kernelMode)), ne(fields.get(ST.mode), i32(64))));
  // The kernel counts as CPL 1.
  fields.unless(ltU(fields.get(XS.iopl), i32(1)));
  const rip = f.let(fields.get64(ST.rip));
  const giveUp = fields.keepException();
  const page = f.let(f.callExpr(memory.hostPage, s, rip, i32(Access.execute)));
  // Not the fault of this fetch is to be delivered.
  f.if(eqz(page), giveUp);
  const offset = f.let(and(wrap(rip), i32(LAST_OF_PAGE)));
  const opcode = f.let(load('i32.load8_u', add(page, offset)));
  const isNot = ({ mask, value }: typeof PORT_IO | typeof INTERRUPT_FLAG) => ne(and(opcode, i32(mask)), i32(value));
  fields.unless(and(isNot(PORT_IO), isNot(INTERRUPT_FLAG)));
  const length = f.let(sub(i32(2), ne(and(opcode, i32(OPCODE.isOneByte)), i32(0))));
  fields.unless(ltU(i32(LAST_OF_PAGE + 1), add(offset, length)));
  f.if(eqz(and(opcode, i32(OPCODE.readsNothing))), () =>
    f.if(
      and(opcode, i32(OPCODE.isWide)),
      () => fields.setGpr(Gpr.rax, i64(0xffffffff)),
      () => f.store('i32.store8', s, i32(0xff), ST.gpr + 8 * Gpr.rax),
    ),
  );
  fields.set64(ST.rip, add(rip, extendU(length)));
  f.return(i32(1));
  return fn;
}
