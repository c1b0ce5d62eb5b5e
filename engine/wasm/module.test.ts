// SPDX-License-Identifier: MIT
// Tests of module.ts.
import { describe, expect, it } from 'vitest';
import { add, eq, eqz, f32, f64, i32, i64, load, ltU, mul, op, select, sub, v128, wrap, extractLane } from './expr.ts';
import type { FunctionBuilder, Local } from './function.ts';
import { ModuleBuilder } from './module.ts';
import { lanes, loads, opInfo, replaceLanes, stores, type ValType } from './opcodes.ts';

const asBuffer = (bytes: Uint8Array) => bytes as Uint8Array<ArrayBuffer>;

function instantiate(
  module: ModuleBuilder,
  imports: Record<string, Record<string, unknown>> = {},
): Record<string, (...args: number[]) => number> {
  const bytes = asBuffer(module.encode());
  expect(WebAssembly.validate(bytes)).toBe(true);
  return new WebAssembly.Instance(new WebAssembly.Module(bytes), imports).exports as Record<
    string,
    (...args: number[]) => number
  >;
}

/** One exported function of i32 parameters. */
function compiled(params: number, body: (f: FunctionBuilder) => void): (...args: number[]) => number {
  const module = new ModuleBuilder();
  const fn = module.function(
    Array.from({ length: params }, () => 'i32' as const),
    ['i32'],
    'run',
  );
  body(fn.body);
  return instantiate(module)['run'] as (...args: number[]) => number;
}

describe('expressions', () => {
  it('keep constants exact', () => {
    for (const value of [0, 63, 64, -64, -65, 0x7fffffff, -0x80000000, 0xffffffff])
      expect(compiled(0, (f) => f.return(i32(value)))()).toBe(value | 0);
    const module = new ModuleBuilder();
    const wide = [0n, 63n, -65n, 0x7fffffffffffffffn, -0x8000000000000000n, 0xffffffffffffffffn];
    wide.forEach((v, n) => module.function([], ['i64'], `l${n}`).body.return(i64(v)));
    const floats = [0, -0, 1.5, Infinity, NaN, Number.MIN_VALUE];
    floats.forEach((v, n) => module.function([], ['f64'], `d${n}`).body.return(f64(v)));
    module.function([], ['f32'], 's').body.return(f32(0.1));
    const exports = instantiate(module);
    wide.forEach((v, n) => expect(exports[`l${n}`]!()).toBe(BigInt.asIntN(64, v)));
    floats.forEach((v, n) => expect(exports[`d${n}`]!()).toBe(v));
    expect(exports['s']!()).toBe(Math.fround(0.1));
  });

  it('check operand types', () => {
    expect(() => op('i32.add', i32(1), i64(1))).toThrow('operand is i64, needs i32');
    expect(() => op('i32.add', i32(1))).toThrow('1 operands');
    expect(() => op('i32.frob', i32(1))).toThrow('unknown');
    expect(() => load('i32.load', i64(0))).toThrow('needs i32');
    expect(() => select(i64(0), i32(0), i32(0))).toThrow('select');
    expect(() => v128([1])).toThrow('16 bytes');
  });

  it('fold only what changes nothing', () => {
    const x = { type: 'i64', emit: () => {} } as const;
    expect(add(x, i64(0))).toBe(x);
    expect(mul(x, i64(1))).toBe(x);
    expect(mul(x, i64(0))).not.toBe(x);
    expect(sub(i64(0), x)).not.toBe(x);
    expect(wrap(i64(0x1_8000_0000n)).constant).toBe(-0x80000000n);
  });

  it('have the opcodes of the specification: every one validates', () => {
    const zero: Record<ValType, () => ReturnType<typeof i32>> = {
      i32: () => i32(0),
      i64: () => i64(0),
      f32: () => f32(0),
      f64: () => f64(0),
      v128: () => v128(new Array<number>(16).fill(0)),
    };
    const module = new ModuleBuilder();
    module.importMemory({ module: 'env', name: 'memory', initialPages: 1, maximumPages: 1, shared: true });
    const names = [
      'i32.eqz i64.rotr f32.copysign f64.sqrt i32.wrap_i64 i64.extend32_s i64.trunc_sat_f64_u f64.reinterpret_i64',
      'i8x16.swizzle i64x2.splat f64x2.ge v128.bitselect v128.any_true i8x16.bitmask f64x2.nearest i64x2.ge_s',
      'i32x4.dot_i16x8_s i64x2.extmul_high_i32x4_u f64x2.pmax f64x2.convert_low_i32x4_u',
    ].flatMap((list) => list.split(' '));
    for (const name of names) {
      const info = opInfo(name);
      module.function([], [info.result]).body.return(op(name, ...info.params.map((t) => zero[t]())));
    }
    for (const name of Object.keys(loads)) module.function([], [loads[name]![2]]).body.return(load(name, i32(0), 3));
    for (const name of Object.keys(stores)) {
      const f = module.function([], []).body;
      f.store(name, i32(0), zero[stores[name]![2]](), 0xffffffff);
    }
    for (const name of Object.keys(lanes))
      module.function([], [lanes[name]![1]]).body.return(extractLane(name, zero.v128(), 0));
    expect(Object.keys(replaceLanes).length).toBe(6);
    expect(WebAssembly.validate(asBuffer(module.encode()))).toBe(true);
  });
});

describe('locals', () => {
  it('are taken again after their scope and never shared within it', () => {
    const module = new ModuleBuilder();
    const f = module.function([], []).body;
    let first: Local | undefined;
    f.scope(() => {
      first = f.local('i32');
      const other = f.local('i32');
      expect(other.index).not.toBe(first.index);
      f.scope(() => expect([first!.index, other.index]).not.toContain(f.local('i32').index));
    });
    const later = new Set([f.local('i32').index, f.local('i32').index, f.local('i32').index]);
    expect(later.size).toBe(3);
    expect(later.has(first!.index)).toBe(true);
    expect(f.local('i64').index).toBe(3);
  });

  it('that are permanent are not', () => {
    const f = new ModuleBuilder().function(['i32'], []).body;
    let permanent: Local | undefined;
    f.scope(() => (permanent = f.permanentLocal('i64')));
    expect(f.local('i64').index).not.toBe(permanent!.index);
  });

  it('bind a value once', () => {
    let calls = 0;
    const module = new ModuleBuilder();
    const count = module.importFunction('env', 'count', [], ['i32']);
    const fn = module.function([], ['i32'], 'run');
    const bound = fn.body.let(fn.body.callExpr(count));
    fn.body.return(add(bound, bound));
    const exports = instantiate(module, { env: { count: () => ++calls * 10 } });
    expect(exports['run']!()).toBe(20);
    expect(calls).toBe(1);
    const f = new ModuleBuilder().function([], []).body;
    expect(() => f.set(f.local('i32'), i64(1))).toThrow('i32 local, i64 value');
  });
});

describe('control flow', () => {
  it('loops, leaves blocks and returns', () => {
    const sum = compiled(1, (f) => {
      const n = f.param(0);
      const total = f.local('i32');
      f.block((done) =>
        f.loop((again) => {
          f.brIf(done, eqz(n));
          f.if(
            op('i32.and', n, i32(1)),
            () => f.increment(total, n),
            () => f.increment(total, i32(1)),
          );
          f.set(n, sub(n, i32(1)));
          f.br(again);
        }),
      );
      f.return(total);
    });
    expect(sum(10)).toBe(1 + 3 + 5 + 7 + 9 + 5);
  });

  it('switches with br_table', () => {
    const pick = compiled(1, (f) => {
      const labels = [f.openBlock(), f.openBlock(), f.openBlock()];
      f.brTable(f.param(0), [labels[2]!, labels[1]!], labels[0]!);
      f.endBlock();
      f.return(i32(100));
      f.endBlock();
      f.return(i32(200));
      f.endBlock();
      f.return(i32(300));
    });
    expect([0, 1, 2, -1].map((n) => pick(n))).toEqual([100, 200, 300, 300]);
  });

  it('calls in tail position without growing the stack, directly and through a table', () => {
    const module = new ModuleBuilder();
    const even = module.function(['i32', 'i32'], ['i32'], 'even');
    const odd = module.function(['i32', 'i32'], ['i32']);
    const type = module.typeOf(['i32', 'i32'], ['i32']);
    for (const [self, index, whenZero] of [
      [even, 1, 1],
      [odd, 0, 0],
    ] as const) {
      const f = self.body;
      f.if(eqz(f.param(0)), () => f.return(i32(whenZero)));
      const rest = sub(f.param(0), i32(1));
      f.if(f.param(1), () => f.returnCallIndirect(0, type, i32(index), rest, f.param(1)));
      f.returnCall(index ? odd : even, rest, f.param(1));
    }
    module.setTable([even, odd]);
    const exports = instantiate(module);
    for (const indirect of [0, 1])
      expect([exports['even']!(1_000_000, indirect), exports['even']!(1_000_001, indirect)]).toEqual([1, 0]);
  });

  it('calls through an imported table next to its own', () => {
    const other = new ModuleBuilder();
    other.function(['i32'], ['i32'], 'twice').body.return(i32(0));
    const twice = new ModuleBuilder();
    const fn = twice.function(['i32'], ['i32'], 'twice');
    fn.body.return(add(fn.body.param(0), fn.body.param(0)));
    const table = new WebAssembly.Table({ element: 'anyfunc', initial: 4 });
    table.set(3, instantiate(twice)['twice'] as never);

    const module = new ModuleBuilder();
    module.importTable('env', 'table');
    const negate = module.function(['i32'], ['i32']);
    negate.body.return(sub(i32(0), negate.body.param(0)));
    const run = module.function(['i32', 'i32', 'i32'], ['i32'], 'run');
    const f = run.body;
    const type = module.typeOf(['i32'], ['i32']);
    f.if(f.param(0), () => f.return(f.callIndirect(1, type, f.param(1), f.param(2))));
    f.return(f.callIndirect(0, type, f.param(1), f.param(2)));
    module.setTable([negate]);
    const exports = instantiate(module, { env: { table } });
    expect(exports['run']!(1, 0, 5)).toBe(-5);
    expect(exports['run']!(0, 3, 5)).toBe(10);
    expect(() => exports['run']!(0, 2, 5) as number).toThrow();
  });

  it('imports memory, a table and functions together', () => {
    const module = new ModuleBuilder();
    module.importMemory({ module: 'env', name: 'memory', initialPages: 1, maximumPages: 2, shared: true });
    module.importTable('env', 'table');
    const hundred = module.importFunction('env', 'hundred', [], ['i32']);
    const fn = module.function([], ['i32'], 'run');
    fn.body.store('i32.store', fn.body.callExpr(hundred), i32(77), 4);
    fn.body.memoryCopy(i32(200), i32(100), i32(16));
    fn.body.memoryFill(i32(300), i32(9), i32(3));
    fn.body.return(add(load('i32.load', i32(204)), load('i32.load8_u', i32(302))));
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 2, shared: true });
    const exports = instantiate(module, {
      env: {
        memory,
        table: new WebAssembly.Table({ element: 'anyfunc', initial: 0 }),
        hundred: () => 100,
      },
    });
    expect(exports['run']!()).toBe(77 + 9);
  });

  it('refuses imports behind functions and wrong arguments', () => {
    const module = new ModuleBuilder();
    const fn = module.function(['i32'], []);
    expect(() => module.importFunction('env', 'late', [], [])).toThrow('precede');
    expect(() => fn.body.call(fn)).toThrow('0 arguments');
    expect(() => fn.body.call(fn, i64(0))).toThrow('argument 0 is i64');
    expect(() => fn.body.if(i64(0), () => {})).toThrow('must be i32');
  });
});

describe('branch hints', () => {
  /** The hint section, decoded: function index -> offsets of unlikely branches; and the code bodies. */
  function sections(bytes: Uint8Array) {
    let at = 8;
    const u32 = () => {
      let value = 0;
      for (let shift = 0; ; shift += 7) {
        const b = bytes[at++]!;
        value |= (b & 0x7f) << shift;
        if (b < 0x80) return value;
      }
    };
    const hints = new Map<number, number[]>();
    const bodies: number[] = [];
    const order: number[] = [];
    while (at < bytes.length) {
      const id = bytes[at++]!;
      const size = u32();
      const end = at + size;
      order.push(id);
      if (id === 0) {
        const length = u32();
        const name = String.fromCharCode(...bytes.subarray(at, at + length));
        at += length;
        expect(name).toBe('metadata.code.branch_hint');
        for (let n = u32(); n > 0; n--) {
          const index = u32();
          const offsets: number[] = [];
          for (let k = u32(); k > 0; k--) {
            offsets.push(u32());
            expect([bytes[at++], bytes[at++]]).toEqual([1, 0]);
          }
          hints.set(index, offsets);
        }
      } else if (id === 10) {
        for (let n = u32(); n > 0; n--) {
          const length = u32();
          bodies.push(at);
          at += length;
        }
      }
      at = end;
    }
    return { hints, bodies, order };
  }

  it('point at their ifs, in the prologue too, in ascending order, in front of the code section', () => {
    const module = new ModuleBuilder();
    module.importFunction('env', 'f', [], []);
    module.function([], []);
    const fn = module.function(['i32'], ['i32'], 'run');
    const f = fn.body;
    // Enough locals and code that offsets need two bytes.
    for (let i = 0; i < 3; i++) f.local(i % 2 ? 'i64' : 'i32');
    const x = f.param(0);
    for (let i = 0; i < 60; i++) f.ifUnlikely(eq(x, i32(1000 + i)), () => f.return(i32(i)));
    f.return(i32(-1));
    f.prologue(() => f.ifUnlikely(ltU(x, i32(10)), () => f.set(x, i32(1005))));
    const bytes = module.encode();
    const { hints, bodies, order } = sections(bytes);
    expect(order.indexOf(0)).toBe(order.indexOf(10) - 1);
    expect([...hints.keys()]).toEqual([2]);
    const offsets = hints.get(2)!;
    expect(offsets.length).toBe(61);
    expect([...offsets].sort((a, b) => a - b)).toEqual(offsets);
    const body = bodies[1]!;
    for (const offset of offsets) expect([bytes[body + offset], bytes[body + offset + 1]]).toEqual([0x04, 0x40]);
    const run = instantiate(module, { env: { f: () => {} } })['run']!;
    expect([run(5), run(1059), run(2000)]).toEqual([5, 59, -1]);
  });

  it('are absent without unlikely branches', () => {
    const module = new ModuleBuilder();
    module.function([], ['i32'], 'run').body.return(i32(1));
    expect(sections(module.encode()).hints.size).toBe(0);
  });
});
