// SPDX-License-Identifier: MIT
// Nested blocks and loops from control-flow graphs.
import { expect, it } from 'vitest';
import { Random } from '../../tests/oracle/random.ts';
import { structure, type Graph, type Structure } from './structure.ts';

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

/** Nests blocks and loops as regions do; the edges for which a label was open, or which led to the one place of their target. */
function edgesOfNesting(s: Structure, successors: readonly (readonly number[])[]): Set<string> {
  const edges = new Set<string>();
  const open = new Set<string>();
  const placed = new Set<number>();
  const before = ([last, ...rest]: readonly number[], body: () => void): void => {
    if (last === undefined) return body();
    open.add(`block ${last}`);
    before(rest, body);
    open.delete(`block ${last}`);
    tree(last);
  };
  const node = (n: number): void => {
    expect(placed.has(n)).toBe(false);
    placed.add(n);
    for (const to of successors[n]!) {
      if (s.order[to]! <= s.order[n]!) {
        if (open.has(`loop ${to}`)) edges.add(`${n}>${to}`);
        continue;
      }
      edges.add(`${n}>${to}`);
      if (!open.has(`block ${to}`)) tree(to);
    }
  };
  const tree = (n: number): void => {
    const within = () =>
      before(
        s.children[n]!.filter((c) => s.isMerge[c]),
        () => node(n),
      );
    if (!s.isLoop[n]) return within();
    before(s.behind[n]!, () => {
      open.add(`loop ${n}`);
      within();
      open.delete(`loop ${n}`);
    });
  };
  tree(0);
  return edges;
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
    for (const lists of [s.children, s.behind])
      lists.forEach((list, parent) => list.forEach((child) => parents.set(child, parent)));
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
      const inLoop = (node: number) =>
        node === parent ||
        [...reach(kept, node, parent)].some((from) => kept[from]!.includes(parent) && dominates(parent, from));
      const isBehind = s.behind[parent]!.includes(n);
      if (isBehind) expect(s.isLoop[parent] && !inLoop(n)).toBe(true);
      for (const other of reachable)
        if (other !== n && other !== parent && dominates(other, n))
          expect(dominates(other, parent) || (isBehind && inLoop(other))).toBe(true);
      for (const list of [s.children[parent]!, s.behind[parent]!]) {
        const order = list.map((c) => s.order[c]!);
        expect([...order].sort((a, b) => b - a)).toEqual(order);
      }
    }
    expect(edgesOfNesting(s, kept)).toEqual(
      new Set(kept.flatMap((list, n) => (reachable.has(n) ? list : []).map((to) => `${n}>${to}`))),
    );
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
