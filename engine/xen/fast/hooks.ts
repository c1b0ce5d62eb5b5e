// SPDX-License-Identifier: MIT
// The interpreter's hooks for PV guests: kernel entries, exits and frequent hypercalls without leaving generated code.

import { buildAddressSpaceFunctions } from '../../cpu/address-spaces.ts';
import { Exit } from '../../cpu/exits.ts';
import type { HooksBuilder } from '../../cpu/hooks.ts';
import { ST } from '../../cpu/layout.ts';
import { eq, eqz, i32, i64, ne } from '../../wasm/expr.ts';
import { Gpr } from '../guest-cpu.ts';
import { buildEntryFunctions } from './entry.ts';
import { Fields } from './fields.ts';
import { buildCallFunctions, Call } from './hypercalls.ts';
import { buildIret, fillNativeIret } from './iret.ts';
import { XS } from './layout.ts';
import { buildPortIo } from './port-io.ts';
import { buildPageTableFunctions, fillStoreHooks } from './page-tables.ts';
import { buildSegmentFunctions } from './segments.ts';

/**
 * Fills in the hooks. They work on the same state as exits.ts and what it calls, do the same in the frequent cases, and
 * leave all others - faults, refusals, events to deliver, 32-bit code, anything unusual - to it.
 */
export const buildFastPaths: HooksBuilder = (module, memory, hooks) => {
  const spaces = buildAddressSpaceFunctions(module);
  const segments = buildSegmentFunctions(module);
  const entry = buildEntryFunctions(module, memory, spaces, segments);
  const iret = buildIret(module, memory, spaces, segments);
  const tables = buildPageTableFunctions(module, spaces);
  const ports = buildPortIo(module, memory);
  const calls = buildCallFunctions(module, memory, spaces, segments, tables);
  fillStoreHooks(module, tables, hooks);
  fillNativeIret(hooks.iret, memory);

  const f = hooks.enter.body;
  const s = f.param(0);
  const fields = new Fields(f, s);
  f.if(ne(f.param(1), i32(Exit.Syscall)), () => {
    f.if(f.callExpr(entry.pageFault, s), () => f.return(i32(1)));
    f.return(f.callExpr(ports, s));
  });
  f.if(eqz(fields.get(XS.kernelMode)), () => f.return(f.callExpr(entry.syscall, s)));
  fields.unless(ne(fields.get(ST.mode), i32(64)));
  f.if(eq(fields.gpr(Gpr.rax), i64(Call.iret)), () => {
    fields.unless(eqz(f.callExpr(iret, s)));
    fields.count(XS.hypercallCounts, i32(Call.iret));
    f.return(i32(1));
  });
  f.return(f.callExpr(calls.call, s));
};
