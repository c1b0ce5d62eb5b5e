// SPDX-License-Identifier: MIT
// Headers for loops that share one: which do, and random control-flow graphs.

import { expect, it } from 'vitest';
import { Random } from '../../tests/oracle/random.ts';
import { routes, type Routes } from './entries.ts';
import { nest, type Nesting } from './nesting.ts';
import { structure } from './structure.ts';

type Graph = number[][];

type ShareOf = Parameters<typeof nest>[3];
const always: ShareOf = () => 1;

function nested(graph: Graph, shareOf = always, entries: readonly number[] = [0]) {
  const whole = routes(graph, entries).graph;
  return nest(graph, whole, structure(whole), shareOf);
}

it('splits the header of a loop around an inner one that begins there', () => {
  // 0 goes round to itself, or by 1 back to 0, or on to 2.
  const nesting = nested([[0, 1], [0, 2], []])!;
  expect(nesting.successors).toEqual([[0, 1], [3, 2], [], [0]]);
  expect([nesting.leadsTo(0, 0), nesting.leadsTo(1, 0), nesting.leadsTo(3, 0), nesting.leadsTo(-1, 0)]).toEqual([
    0, 3, 0, 3,
  ]);
  expect([nesting.leadsTo(1, 2), nesting.blockOf(3), nesting.blockOf(2)]).toEqual([2, 0, 2]);
});

it.each([
  ['ways through the same loop', [[1, 2], [0], [0]], always],
  ['a loop that hardly ever goes round', [[0, 1], [0, 2], []], () => 0.5],
  ['a loop of which nothing is known', [[0, 1], [0, 2], []], () => undefined],
])('leaves %s alone', (_, graph, shareOf) => {
  expect(nested(graph, shareOf)).toBeUndefined();
});

function random(r: Random): Graph {
  const n = 1 + r.below(14);
  return Array.from({ length: n }, () => [...new Set(Array.from({ length: r.below(3) }, () => r.below(n)))]);
}

/** The graph as it is without the further headers. */
const without = (nesting: Nesting, nodes: number): Graph =>
  nesting.successors.slice(0, nodes).map((list) => list.map((to) => nesting.blockOf(to)));

/** Where the steps for an entry end. */
function arrival({ graph, steps }: Routes, entry: number): number {
  let at = graph.root;
  for (const _ of graph.successors) {
    const step = steps.get(at)?.find((s) => s.entries.includes(entry));
    if (!step) return at;
    expect(graph.successors[at]).toContain(step.to);
    at = step.to;
  }
  throw new Error('the steps turn in a circle');
}

it('changes no way through the code, and breaks no more edges', () => {
  const r = new Random(31);
  let splits = 0;
  for (let round = 0; round < 4000; round++) {
    const graph = random(r);
    const entries = [...new Set([0, ...Array.from({ length: r.below(3) }, () => r.below(graph.length))])];
    const nesting = nested(graph, always, entries);
    if (!nesting) continue;
    expect(without(nesting, graph.length)).toEqual(graph);
    const ways = routes(nesting.successors, entries, (from, to) => nesting.leadsTo(from, to));
    const before = structure(routes(graph, entries).graph);
    const after = structure(ways.graph);
    expect(after.broken.size).toBeLessThanOrEqual(before.broken.size);
    if (entries.length > 1) entries.forEach((node, entry) => expect(arrival(ways, entry)).toBe(node));
    for (let outer = graph.length; outer < nesting.successors.length; outer++) {
      const inner = nesting.blockOf(outer);
      if (after.order[outer]! < 0) continue;
      splits++;
      expect(after.order[outer]!).toBeLessThan(after.order[inner]!);
      expect(after.isLoop[outer] && after.isLoop[inner]).toBe(true);
    }
  }
  expect(splits).toBeGreaterThan(100);
});
