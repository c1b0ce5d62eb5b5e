// SPDX-License-Identifier: MIT
// What is known of registers where ways through code meet.

import { beforeEach, describe, expect, it } from 'vitest';
import { FunctionBuilder } from '../wasm/function.ts';
import { Places } from './places.ts';
import type { Reach, Window } from './windows.ts';

const rax = 0;
const rbx = 3;

let places: Places;
beforeEach(() => {
  const f = new FunctionBuilder([], []);
  places = new Places(() => f.permanentLocal('i32'));
});

const noReach = (): Reach | undefined => undefined;
const begin = (...ways: ReturnType<Places['open']>[]) => places.begin(ways, noReach);

/** Opens a window around what a register is now. */
function look(register: number, low: number, high: number, kinds: 'read' | 'both' = 'read'): Window {
  const { anchor, offset } = places.of(register);
  const window = { low: low + offset, high: high + offset, host: places.windowLocal() };
  anchor.read = window;
  if (kinds === 'both') anchor.write = window;
  return window;
}

/** The window through which bytes behind a register are reached. */
function through(register: number, from: number, bytes: number, kind: 'read' | 'write' = 'read') {
  const { anchor, offset } = places.of(register);
  const window = anchor.windowFor(offset + from, bytes, kind);
  return window && { local: window.host.index, offset: offset + from - window.low };
}

/** Gives a register the value of another one, moved. */
function assign(register: number, from: number, by: number): void {
  const { anchor, offset } = places.of(from);
  places.set(register, { anchor, offset: offset + by });
}

describe('a window', () => {
  it('stays open where all ways have it', () => {
    const { host } = look(rax, 8, 24);
    begin(places.open(), places.open());
    expect(through(rax, 16, 8)).toEqual({ local: host.index, offset: 8 });
    expect(through(rax, 16, 9)).toBeUndefined();
    expect(through(rax, 16, 8, 'write')).toBeUndefined();
  });

  it('is closed where one has not, or has another', () => {
    const none = places.open();
    look(rax, 0, 8);
    const one = places.open();
    begin(one, none);
    expect(through(rax, 0, 8)).toBeUndefined();
    begin(one);
    look(rax, 0, 8);
    begin(one, places.open());
    expect(through(rax, 0, 8)).toBeUndefined();
  });

  it('is closed where ways use the same local for different bytes', () => {
    places.of(rax);
    const restore = places.mark();
    const { host } = look(rax, 0, 8);
    const one = places.open();
    restore();
    expect(look(rax, 8, 16).host.index).toBe(host.index);
    begin(one, places.open());
    expect(through(rax, 0, 8) ?? through(rax, 8, 8)).toBeUndefined();
  });

  it('can be written through where all ways allow it', () => {
    look(rax, 0, 8, 'both');
    const both = places.open();
    begin(both, both);
    expect(through(rax, 0, 8, 'write')).toBeDefined();
    places.of(rax).anchor.write = undefined;
    begin(both, places.open());
    expect(through(rax, 0, 8, 'write')).toBeUndefined();
    expect(through(rax, 0, 8)).toBeDefined();
  });

  it('moves with its register, but not where ways moved that differently', () => {
    const { host } = look(rax, 0, 16);
    const before = places.open();
    assign(rax, rax, 8);
    const moved = places.open();
    begin(moved, moved);
    expect(through(rax, -8, 8)).toEqual({ local: host.index, offset: 0 });
    begin(before, moved);
    expect(through(rax, 0, 8)).toBeUndefined();
  });

  it('of a register that got another value on one way is closed', () => {
    look(rax, 0, 8);
    const known = places.open();
    places.set(rax, undefined);
    begin(known, places.open());
    expect(through(rax, 0, 8)).toBeUndefined();
  });

  it('is the same one after ways have met more than once', () => {
    const { host } = look(rax, 0, 16);
    const early = places.open();
    assign(rax, rax, 8);
    begin(places.open(), places.open());
    assign(rax, rax, -8);
    begin(early, places.open());
    expect(through(rax, 0, 16)).toEqual({ local: host.index, offset: 0 });
  });

  it('keeps its local to itself as long as it is open', () => {
    const first = look(rax, 0, 8);
    const second = look(rbx, 0, 8);
    assign(rax, rbx, 0);
    begin(places.open());
    expect(through(rbx, 0, 8)!.local).toBe(second.host.index);
    expect([first.host.index, second.host.index]).not.toContain(places.windowLocal().index);
    begin();
    expect(places.windowLocal().index).toBe(first.host.index);
  });
});

it('keeps what was open before a loop until the loop ends', () => {
  const { host } = look(rax, 0, 8);
  const end = places.pin();
  begin();
  expect(through(rax, 0, 8)).toBeUndefined();
  expect(places.windowLocal().index).not.toBe(host.index);
  end();
  begin();
  expect(places.windowLocal().index).toBe(host.index);
});

it('forgets registers by their numbers', () => {
  look(rax, 0, 8);
  look(rbx, 0, 8);
  places.forget(1 << rbx);
  expect(through(rax, 0, 8)).toBeDefined();
  expect(through(rbx, 0, 8)).toBeUndefined();
});

it('goes back to what was known', () => {
  const { host } = look(rax, 0, 8);
  const restore = places.mark();
  places.of(rax).anchor.read = undefined;
  places.set(rax, undefined);
  const other = places.windowLocal().index;
  restore();
  expect(through(rax, 0, 8)).toEqual({ local: host.index, offset: 0 });
  expect(places.windowLocal().index).toBe(other);
});
