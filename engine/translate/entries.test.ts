// SPDX-License-Identifier: MIT
// Ways to the entries of random control-flow graphs.

import { expect, it } from 'vitest';
import { Random } from '../../tests/oracle/random.ts';
import { possibleEntries, routes, type Routes } from './entries.ts';
import { structure } from './structure.ts';

type Graph = number[][];

/** Loops within loops, which can be structured when entered at node 0. */
function nested(r: Random): Graph {
  const n = 2 + r.below(16);
  const graph: Graph = Array.from({ length: n }, (_, k) => (k + 1 < n ? [k + 1] : []));
  for (let k = r.below(6); k > 0; k--) {
    const from = r.below(n);
    graph[from]!.push(r.below(from + 1));
  }
  // Calls that leave: what is behind them is only come to from outside.
  for (let k = r.below(4); k > 0; k--) {
    const from = r.below(n);
    graph[from] = graph[from]!.filter((to) => to !== from + 1);
  }
  return graph.map((list) => [...new Set(list)]);
}

function random(r: Random): Graph {
  const n = 1 + r.below(14);
  return Array.from({ length: n }, () => [...new Set(Array.from({ length: r.below(3) }, () => r.below(n)))]);
}

/** Where the steps for an entry lead. */
function follow({ graph, steps }: Routes, entry: number): number {
  let at = graph.root;
  for (let n = 0; n <= graph.successors.length; n++) {
    const step = steps.get(at)?.find(({ entries }) => entries.includes(entry));
    if (!step) return at;
    expect(graph.successors[at]).toContain(step.to);
    at = step.to;
  }
  throw new Error('the steps turn in a circle');
}

const brokenIn = (successors: Graph, entries: readonly number[]): ReadonlySet<string> =>
  structure(routes(successors, entries).graph).broken;

it.each([
  ['nested loops', nested],
  ['anything', random],
])('lead there without going around a header: %s', (_, make) => {
  const r = new Random(11);
  let inLoops = 0;
  for (let round = 0; round < 3000; round++) {
    const graph = make(r);
    const wanted = [...new Set(Array.from({ length: 1 + r.below(5) }, () => r.below(graph.length)))].filter(
      (n) => n > 0,
    );
    const entries = possibleEntries(graph, wanted);
    expect(entries[0]).toBe(0);
    expect(new Set(entries).size).toBe(entries.length);
    expect(entries.every((n) => n === 0 || wanted.includes(n))).toBe(true);
    const ways = routes(graph, entries);
    if (entries.length === 1) {
      expect(ways).toEqual({ graph: { successors: graph, root: 0 }, steps: new Map() });
      continue;
    }
    const { broken, order } = structure(ways.graph);
    expect(broken.size).toBeLessThanOrEqual(brokenIn(graph, [0]).size);
    entries.forEach((node, entry) => expect(follow(ways, entry)).toBe(node));
    for (const [from, steps] of ways.steps) {
      if (from !== ways.graph.root) inLoops++;
      for (const { to } of steps) {
        expect(broken.has(`${from}>${to}`)).toBe(false);
        expect(order[to]!).toBeGreaterThan(order[from]!);
      }
    }
    // The code's own edges are all there, and no others but the steps.
    graph.forEach((list, n) =>
      expect(ways.graph.successors[n]).toEqual([
        ...new Set([...list, ...(ways.steps.get(n) ?? []).map(({ to }) => to)]),
      ]),
    );
  }
  expect(inLoops).toBeGreaterThan(100);
});

it('make any node of nested loops an entry', () => {
  const r = new Random(12);
  for (let round = 0; round < 1000; round++) {
    // All come to from node 0, so that each loop has a header.
    const graph = nested(r).map((list, k, all) => (k + 1 < all.length ? [...new Set([k + 1, ...list])] : list));
    const wanted = graph.map((_, n) => n).filter((n) => n > 0);
    if (brokenIn(graph, [0]).size === 0) expect(possibleEntries(graph, wanted)).toEqual([0, ...wanted]);
  }
});
