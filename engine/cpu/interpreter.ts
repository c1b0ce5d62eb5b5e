// SPDX-License-Identifier: MIT
// Builds the interpreter's WebAssembly module: one br_table function over micro-op records, and one function per outlined handler.

import {
  add,
  and,
  eq,
  eqz,
  extendS,
  extendU,
  i32,
  i64,
  load,
  ltS,
  or,
  select,
  shl,
  shrU,
  sub,
  wrap,
  type Expr,
} from '../wasm/expr.ts';
import type { Callee, FunctionBuilder, Label, Local } from '../wasm/function.ts';
import { ModuleBuilder, type ModuleFunction } from '../wasm/module.ts';
import type { Kernel } from '../x86/kernel.ts';
import { buildClearBank, buildInheritBank } from './address-spaces.ts';
import { catalog, special, type Handler } from './catalog.ts';
import { Exit, RegionEnd, type ExitReason } from './exits.ts';
import { hostOpNames } from './host-op-names.ts';
import { declareHooks, type Hooks, type HooksBuilder } from './hooks.ts';
import { buildChain, regionTable } from './chain.ts';
import {
  buildFollow,
  buildSegment,
  findJump,
  followLink,
  narrowAddress,
  passHeader,
  spend,
} from './interpreter-functions.ts';
import { BlockHeader, Link, noRegion, ST, Stale, Tlb, Uop } from './layout.ts';
import { Access, buildMemoryFunctions, isHit, isMiss, tlbEntry } from './memory-functions.ts';
import type { Helpers } from './stage-base.ts';
import { InterpreterStage, type Surroundings } from './stage-interpreter.ts';

/** Number of the table of outlined handlers; the imported table of regions is number 0. */
const outlinedTable = 1;

/** What outlined functions answer. */
const Status = { next: 0, leaveAtStart: 1, jump: 2, leave: 3 } as const;

export interface InterpreterModule {
  readonly bytes: Uint8Array;
  /** Names of the host operations by number, to be matched with the host's table. */
  readonly hostOps: readonly string[];
}

/** Export name of a shared kernel, for translated regions. */
export const kernelExport = (name: string): string => `kernel.${name}`;

/** A way from translated code back into the interpreter costs about as much as so many entries of blocks that are interpreted anyway. */
const exitWeight = 16;

/** Where the link of a `special.jump` lies. */
export const jumpLink = 8;

/** Bytes of the outer header in front of an outlined record's body. */
export const outerHeader = 8;

export interface Main {
  readonly f: FunctionBuilder;
  readonly state: Local;
  readonly pc: Local;
  readonly code: Local;
  readonly count: Local;
  readonly carefulFunction: Local;
  next: Label;
  /** Where `followLink` leads, and what it takes along. */
  readonly link: Local;
  follow: Label;
  leaveAtStart: Label;
  leave: Label;
  dispatchRip: Label;
  careful: Label;
}

/** Builds the module. `hooks` makes the functions that spare leaving `run`; without them every kernel entry leaves it. */
export function buildInterpreter(options: { readonly hooks?: HooksBuilder } = {}): InterpreterModule {
  const module = new ModuleBuilder();
  module.importMemory({ module: 'env', name: 'memory', initialPages: 1, maximumPages: 65536, shared: true });
  module.importTable('env', 'regions');
  const host = module.importFunction('env', 'host', ['i32', 'i32'], ['i32']) as Callee & {
    params: readonly 'i32'[];
    results: readonly 'i32'[];
  };
  const hooks = options.hooks && declareHooks(module);
  const memory = buildMemoryFunctions(module, host, hooks);
  if (hooks) options.hooks!(module, memory, hooks);
  buildClearBank(module);
  buildInheritBank(module);
  const segment = buildSegment(module);
  const kernels = new Map<string, ModuleFunction>();
  const kernel = (k: Kernel): ModuleFunction => {
    const known = kernels.get(k.name);
    if (known) return known;
    const fn = module.function(k.params, k.results, kernelExport(k.name));
    kernels.set(k.name, fn);
    k.build(fn.body, kernel);
    return fn;
  };
  const helpers: Helpers = { ...memory, segment, host, kernel, ...(hooks && { iret: hooks.iret }) };
  module.setTable(catalog.outlined.map((h) => buildOutlined(module, h, helpers)));
  buildChain(module, hooks);
  buildMain(module, helpers, hooks);
  return { bytes: module.encode(), hostOps: hostOpNames };
}

/** (state, body) -> Status. Flags live in the state block. */
function buildOutlined(module: ModuleBuilder, handler: Handler, helpers: Helpers): ModuleFunction {
  const fn = module.function(['i32', 'i32'], ['i32']);
  const f = fn.body;
  const state = f.param(0);
  const pc = f.param(1);
  const around: Surroundings = {
    f,
    state,
    pc,
    leaveAtStart: () => f.return(i32(Status.leaveAtStart)),
    leave: (reason: ExitReason) => {
      f.store('i32.store', state, i32(reason), ST.exitCode);
      f.return(i32(Status.leave));
    },
    jumpToRip: () => f.return(i32(Status.jump)),
    follow: (h, taken) => {
      const next = add(load('i64.load', state, ST.ripPage), extendU(load('i32.load16_u', pc, h.linkAt + Link.next)));
      const distance = load('i64.load32_s', pc, h.linkAt + Link.rel);
      f.store('i64.store', state, add(next, taken === true ? distance : select(taken, distance, i64(0))), ST.rip);
      f.return(i32(Status.jump));
    },
    careful: () => {
      throw new Error(`${handler.key}: an outlined handler has no twin`);
    },
  };
  handler.insn.run(new InterpreterStage(around, handler, helpers));
  f.return(i32(Status.next));
  return fn;
}

/** run(state, record, budget) -> exit reason. The remaining budget is in state.budget. */
function buildMain(module: ModuleBuilder, helpers: Helpers, hooks: Hooks | undefined): void {
  const fn = module.function(['i32', 'i32', 'i32'], ['i32'], 'run');
  const f = fn.body;
  const state = f.param(0);
  const pc = f.param(1);
  const outlinedType = module.typeOf(['i32', 'i32'], ['i32']);
  const code = f.local('i32');
  const count = f.local('i32');
  const target = f.local('i64');
  const carefulFunction = f.local('i32');
  const carefulLength = f.local('i32');
  const entry = f.local('i32');
  const host = f.local('i32');
  const status = f.local('i32');
  const setPage = (value: Expr) => f.store('i64.store', state, value, ST.ripPage);
  const budget = load('i32.load', state, ST.budget);

  // Registers, flags and budget are in memory: what V8 has to keep in registers across a dispatch it moves about, for the sake of calls in other handlers.
  f.store('i32.store', state, f.param(2), ST.budget);
  setPage(and(load('i64.load', state, ST.rip), i64(-4096)));
  const main: Main = {
    f,
    state,
    pc,
    code,
    count,
    carefulFunction,
    next: { depth: 0 },
    link: f.local('i32'),
    follow: { depth: 0 },
    leaveAtStart: { depth: 0 },
    leave: { depth: 0 },
    dispatchRip: { depth: 0 },
    careful: { depth: 0 },
  };

  /** Sets `pc` to the record of the code at `address`; `unknown` is emitted for the case that there is none, with `code` set. */
  const findRecord = (address: Expr, unknown: () => void) => {
    f.set(entry, tlbEntry(load('i32.load', state, ST.tlb), address));
    f.ifUnlikely(isMiss(load('i64.load', entry, Tlb.exec), address), () =>
      // A fault is recorded again, and reported, by the look-up that follows.
      f.if(eqz(f.callExpr(helpers.hostPage, state, address, i32(Access.execute))), () => {
        f.set(code, i32(Exit.Lookup));
        unknown();
      }),
    );
    f.set(host, add(wrap(address), load('i32.load', entry, Tlb.exec + 8)));
    findJump(f, entry, state, host, () => {
      f.set(code, i32(Exit.Lookup));
      unknown();
    });
    setPage(and(address, i64(-4096)));
    f.set(pc, load('i32.load', entry, 4));
  };

  const again = hooks && f.openLoop();
  /** Sets `pc` to the record at state.rip, or leaves. */
  const findNext = () => {
    f.set(target, load('i64.load', state, ST.rip));
    f.ifUnlikely(ltS(budget, i32(0)), () => {
      f.set(code, i32(Exit.Budget));
      f.br(main.leave);
    });
    findRecord(target, () => f.br(main.leave));
  };
  f.block((leave) => {
    main.leave = leave;
    f.block((leaveAtStart) => {
      main.leaveAtStart = leaveAtStart;
      f.loop((next) => {
        main.next = next;
        f.block((dispatchRip) => {
          main.dispatchRip = dispatchRip;
          f.block((careful) => {
            main.careful = careful;
            f.block((follow) => {
              main.follow = follow;
              buildTable(helpers, main, outlinedType, status, findNext);
            });
            buildFollow(main);
          });
          // careful: run the outlined twin on this record, then go on behind it.
          f.set(carefulLength, and(carefulFunction, i32(0xff)));
          f.set(status, f.callIndirect(outlinedTable, outlinedType, shrU(carefulFunction, i32(8)), state, pc));
          f.brIfUnlikely(leaveAtStart, status);
          f.set(pc, add(pc, carefulLength));
          f.br(next);
        });
        // dispatchRip: state.rip is the next address; `count` instructions have retired.
        spend(main, count);
        findNext();
        passHeader(main);
        f.br(next);
      });
    });
    // leaveAtStart: the instruction at `pc` did not happen.
    f.set(code, load('i32.load', state, ST.exitCode));
    stopAt(main);
  });
  if (hooks && again) {
    f.block((end) => {
      const isEntry = or(eq(code, i32(Exit.Syscall)), eq(code, i32(Exit.Exception)));
      f.brIf(end, eqz(and(isEntry, eqz(load('i32.load', state, ST.holdHooks)))));
      f.brIf(end, eqz(f.callExpr(hooks.enter, state, code)));
      f.set(code, i32(Exit.Budget));
      f.brIf(end, ltS(budget, i32(0)));
      f.set(target, load('i64.load', state, ST.rip));
      findRecord(target, () => f.br(end));
      f.br(again);
    });
    f.endBlock();
  }
  f.store('i32.store', state, pc, ST.exitPc);
  f.return(code);
}

/** Sets rip to the start of the instruction at `pc`. */
function stopAt({ f, state, pc }: Main): void {
  const start = add(load('i64.load', state, ST.ripPage), extendU(load('i32.load16_u', pc, Uop.off)));
  f.store('i64.store', state, start, ST.rip);
}

function buildTable(helpers: Helpers, main: Main, outlinedType: number, status: Local, findNext: () => void): void {
  const { f } = main;
  const { state, pc, code, count } = main;
  const total = catalog.inline.length + catalog.pairs.length;
  const labels: Label[] = [];
  for (let i = 0; i < total; i++) labels.unshift(f.openBlock());
  // The innermost block was opened last: labels[0] is handler 0.
  f.brTable(load('i32.load16_u', pc), labels, labels[special.raise]!);
  const around = surroundings(main);
  const leaveHere = (reason: ExitReason) => {
    stopAt(main);
    f.set(code, i32(reason));
    f.br(main.leave);
  };
  const bodies: Record<number, () => void> = {
    [special.outlined]: () => {
      f.set(
        status,
        f.callIndirect(outlinedTable, outlinedType, load('i32.load16_u', pc, 4), state, add(pc, i32(outerHeader))),
      );
      f.if(eqz(status), () => {
        f.set(pc, add(pc, load('i32.load16_u', pc, 6)));
        f.br(main.next);
      });
      f.brIfUnlikely(main.leaveAtStart, eq(status, i32(Status.leaveAtStart)));
      // Enders keep the block's count at the start of the link part, which is the last one of the record.
      f.set(count, load('i32.load16_u', sub(add(pc, load('i32.load16_u', pc, 6)), i32(Link.bytes)), Link.count));
      f.brIf(main.dispatchRip, eq(status, i32(Status.jump)));
      spend(main, count);
      f.set(code, load('i32.load', state, ST.exitCode));
      f.br(main.leave);
    },
    [special.jump]: () => followLink(main, jumpLink, false),
    [special.crossing]: () => {
      // At 12: the host address that the second page had when the instruction was decoded.
      const second = f.let(add(load('i64.load', state, ST.ripPage), i64(0x1000)));
      const slot = f.let(tlbEntry(load('i32.load', state, ST.tlb), second));
      const mapped = and(
        isHit(load('i64.load', slot, Tlb.exec), second),
        eq(add(wrap(second), load('i32.load', slot, Tlb.exec + 8)), load('i32.load', pc, 12)),
      );
      f.if(mapped, () => {
        f.set(pc, add(pc, i32(16)));
        f.br(main.next);
      });
      leaveHere(Exit.Lookup);
    },
    [special.stale]: () => {
      const next = f.let(load('i32.load', pc, Stale.next));
      f.if(and(next, i32(Stale.isUnknown)), () => leaveHere(Exit.Stale));
      // Forgotten in its turn.
      f.if(eq(load('i32.load16_u', next), i32(special.stale)), () => leaveHere(Exit.Stale));
      f.set(pc, next);
      f.br(main.next);
    },
    [special.enterRegion]: () => {
      // At 4: number of the region. Its code returns the remaining budget, perhaps after having gone on to other regions.
      f.store('i32.store', state, load('i32.load', pc, 4), ST.region);
      f.store('i32.store', state, add(load('i32.load', state, ST.regionEntries), i32(1)), ST.regionEntries);
      const before = f.let(load('i32.load', state, ST.budget));
      const after = f.let(f.callIndirect(regionTable, outlinedType, load('i32.load', pc, 4), state, before));
      f.store('i32.store', state, after, ST.budget);
      const retired = add(load('i64.load', state, ST.regionInstructions), extendS(sub(before, after)));
      f.store('i64.store', state, retired, ST.regionInstructions);
      const slot = f.let(shl(load('i32.load', state, ST.region), i32(2)));
      f.store('i32.store', state, i32(noRegion | 0), ST.region);
      f.set(status, load('i32.load', state, ST.regionEnd));
      f.if(eq(status, i32(RegionEnd.Missed)), () => {
        const misses = f.let(add(load('i32.load', state, ST.regionMisses), slot));
        f.set(count, add(load('i32.load', misses), i32(1)));
        f.store('i32.store', misses, count);
        f.if(eq(count, load('i32.load', state, ST.missLimit)), () => {
          f.store('i32.store', state, shrU(slot, i32(2)), ST.exitArg);
          f.set(code, i32(Exit.Misses));
          f.br(main.leave);
        });
        // From here on the same as the other.
        f.set(status, i32(RegionEnd.Careful));
      });
      f.if(eq(status, i32(RegionEnd.Careful)), () => {
        findNext();
        f.if(eq(load('i32.load16_u', pc), i32(special.enterRegion)), () => f.set(pc, add(pc, i32(BlockHeader.bytes))));
        f.br(main.next);
      });
      f.if(eqz(status), () => {
        findNext();
        f.if(eq(load('i32.load16_u', pc), i32(special.entry)), () =>
          f.store(
            'i32.store',
            pc,
            sub(load('i32.load', pc, BlockHeader.entriesLeft), i32(exitWeight - 1)),
            BlockHeader.entriesLeft,
          ),
        );
        f.br(main.next);
      });
      f.if(eq(status, i32(RegionEnd.Leave)), () => {
        f.set(code, load('i32.load', state, ST.exitCode));
        f.br(main.leave);
      });
      f.set(pc, load('i32.load', add(load('i32.load', state, ST.regionFallback), slot)));
      f.br(main.next);
    },
    [special.entry]: () => {
      const left = f.let(sub(load('i32.load', pc, BlockHeader.entriesLeft), i32(1)));
      f.store('i32.store', pc, left, BlockHeader.entriesLeft);
      f.ifUnlikely(ltS(left, i32(0)), () => leaveHere(Exit.Busy));
      f.set(pc, add(pc, i32(BlockHeader.bytes)));
      f.br(main.next);
    },
    [special.ea16]: () => narrowAddress(main, helpers, 0xffffn),
    [special.ea32]: () => narrowAddress(main, helpers, 0xffffffffn),
    [special.ea67]: () => {
      const slot = (field: number) => load('i64.load', add(state, load('i32.load8_u', pc, field)));
      const sum = add(
        add(slot(Uop.base), shl(slot(Uop.index), extendU(load('i32.load8_u', pc, Uop.scale)))),
        load('i64.load32_s', pc, Uop.disp),
      );
      f.store('i64.store', state, add(and(sum, i64(0xffffffffn)), slot(Uop.seg)), ST.ea);
      f.set(pc, add(pc, i32(16)));
      f.br(main.next);
    },
    [special.eaImmediate]: () => {
      // base: slot to add (page base or zero); seg: segment base slot; 64-bit displacement behind the memory part.
      const slot = (field: number) => load('i64.load', add(state, load('i32.load8_u', pc, field)));
      f.store('i64.store', state, add(add(slot(Uop.base), slot(Uop.seg)), load('i64.load', pc, 16)), ST.ea);
      f.set(pc, add(pc, i32(24)));
      f.br(main.next);
    },
    [special.raise]: () => {
      f.store('i32.store', state, load('i32.load16_u', pc, Uop.r0), ST.vector);
      f.store('i32.store', state, load('i32.load16_u', pc, Uop.r1), ST.errorCode);
      f.store('i32.store', state, i32(0), ST.segmentFault);
      f.store('i32.store', state, i32(Exit.Exception), ST.exitCode);
      f.br(main.leaveAtStart);
    },
  };
  /** Does what a record says, with `pc` behind it afterwards, or goes elsewhere. */
  const perform = (handler: Handler): void => {
    const stage = new InterpreterStage(around, handler, helpers);
    handler.insn.run(stage);
    if (handler.fusedCondition >= 0) followLink(main, handler.linkAt, stage.fusedCondition(handler.fusedCondition));
    else f.set(pc, add(pc, i32(handler.length)));
  };
  for (let i = 0; i < total; i++) {
    f.endBlock();
    const handler = catalog.inline[i];
    const pair = catalog.pairs[i - catalog.inline.length];
    f.scope(() => {
      if (pair) {
        f.scope(() => perform(pair.first));
        perform(pair.second);
      } else if (handler) perform(handler);
      else bodies[i]!();
      f.br(main.next);
    });
  }
}

function surroundings(main: Main): Surroundings {
  const f = main.f;
  return {
    f,
    state: main.state,
    pc: main.pc,
    leaveAtStart: () => f.br(main.leaveAtStart),
    leave: (reason) => {
      f.set(main.code, i32(reason));
      f.br(main.leave);
    },
    jumpToRip: (handler) => {
      f.set(main.count, load('i32.load16_u', main.pc, handler.linkAt + Link.count));
      f.br(main.dispatchRip);
    },
    follow: (handler, taken) => followLink(main, handler.linkAt, taken),
    careful: (handler) => {
      const twin = catalog.careful.get(handler);
      if (!twin) throw new Error(`${handler.key}: no twin`);
      f.set(main.carefulFunction, i32((twin.id << 8) | handler.length));
      f.br(main.careful);
    },
  };
}
