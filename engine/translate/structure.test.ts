// SPDX-License-Identifier: MIT
// Nested blocks and loops from control-flow graphs.
import { expect, it } from 'vitest';
import { Random } from '../../tests/oracle/random.ts';
import { structure, type Graph } from './structure.ts';

function randomGraph(r: Random): Graph {
  const n = 1 + r.below(14);
  const density = r.pick([1, 2, 2, 3]);
  return {
    root: 0,
    successors: Array.from({ length: n }, () => [
      ...new Set(Array.from({ length: r.below(density + 1) }, () => r.below(n))),
    ]),
  };
}

/** Nodes that `from` leads to, without stepping on `avoid`. */
function reach(successors: readonly (readonly number[])[], from: number, avoid = -1): Set<number> {
  const seen = new Set<number>();
  const stack = from === avoid ? [] : [from];
  while (stack.length > 0) {
    const node = stack.pop()!;
    if (seen.has(node)) continue;
    seen.add(node);
    for (const to of successors[node]!) if (to !== avoid) stack.push(to);
  }
  return seen;
}

/** Reducible: what remains without back edges to dominators has no cycle (Hecht and Ullman). */
function reducible(successors: readonly (readonly number[])[]): boolean {
  const reachable = reach(successors, 0);
  const dominates = (a: number, b: number) => a === b || !reach(successors, 0, a).has(b);
  const forward = successors.map((list, from) =>
    reachable.has(from) ? list.filter((to) => !dominates(to, from)) : [],
  );
  return [...reachable].every((n) => forward[n]!.every((to) => !reach(forward, to).has(n)));
}

it('finds the dominators, loops and merges of random graphs', () => {
  const r = new Random(5);
  let irreducible = 0;
  for (let round = 0; round < 4000; round++) {
    const graph = randomGraph(r);
    const s = structure(graph);
    const kept = graph.successors.map((list, from) => list.filter((to) => !s.broken.has(`${from}>${to}`)));
    if (reducible(graph.successors)) expect([...s.broken]).toEqual([]);
    else irreducible++;
    expect(reducible(kept)).toBe(true);
    const reachable = reach(kept, 0);
    const dominates = (a: number, b: number) => a === b || !reach(kept, 0, a).has(b);
    const parents = new Map<number, number>();
    s.children.forEach((list, parent) => list.forEach((child) => parents.set(child, parent)));
    expect(parents.size).toBe(reachable.size - 1);
    kept.forEach((list, from) => {
      expect(s.order[from]! >= 0).toBe(reachable.has(from));
      if (!reachable.has(from)) return;
      for (const to of list) {
        // Back edges go to a loop header that dominates their source; all others go forward.
        if (s.order[to]! <= s.order[from]!) {
          expect(s.isLoop[to]).toBe(true);
          expect(dominates(to, from)).toBe(true);
        }
      }
    });
    for (const n of reachable) {
      const forward = [...reachable].filter((p) => kept[p]!.includes(n) && s.order[p]! < s.order[n]!);
      expect(s.isMerge[n]).toBe(forward.length > 1);
      if (n === 0) continue;
      const parent = parents.get(n)!;
      expect(parent !== n && dominates(parent, n)).toBe(true);
      for (const other of reachable)
        if (other !== n && other !== parent && dominates(other, n)) expect(dominates(other, parent)).toBe(true);
      const order = s.children[parent]!.map((c) => s.order[c]!);
      expect([...order].sort((a, b) => b - a)).toEqual(order);
    }
  }
  expect(irreducible).toBeGreaterThan(100);
});

it('copes with long chains and wide fans', () => {
  const n = 5000;
  const chain = structure({ root: 0, successors: Array.from({ length: n }, (_, i) => (i + 1 < n ? [i + 1] : [0])) });
  expect(chain.isLoop[0]).toBe(true);
  expect(chain.order[n - 1]).toBe(n - 1);
  const fan = structure({
    root: 0,
    successors: [Array.from({ length: 500 }, (_, i) => i + 1), ...new Array(500).fill([501]), []],
  });
  expect(fan.isMerge[501]).toBe(true);
  expect(fan.children[0]!.length).toBe(501);
});
