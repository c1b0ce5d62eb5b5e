// SPDX-License-Identifier: MIT
// Ways from the begin of a region's code to each of its entries: into loops they lead through the loop's header, which no edge may go around.

import { structure, type Graph } from './structure.ts';

type Successors = Graph['successors'];

/** A step on the way to entries, by their numbers. */
export interface Step {
  readonly entries: readonly number[];
  readonly to: number;
}

export interface Routes {
  /** The code's graph, with a root of its own where it can be entered at several nodes, and with the steps as edges. */
  readonly graph: Graph;
  /** By the node that they start from: the root, and headers of loops. */
  readonly steps: ReadonlyMap<number, readonly Step[]>;
}

interface Wanted {
  readonly entry: number;
  readonly to: number;
}

/** Strongly connected components with a cycle among `nodes` (Tarjan, "Depth-first search and linear graph algorithms"). */
function cycles(successors: Successors, nodes: ReadonlySet<number>): Set<number>[] {
  const number = new Map<number, number>();
  const low = new Map<number, number>();
  const stack: number[] = [];
  const onStack = new Set<number>();
  const found: Set<number>[] = [];
  const visit = (n: number): void => {
    number.set(n, number.size);
    low.set(n, number.get(n)!);
    stack.push(n);
    onStack.add(n);
    for (const to of successors[n]!) {
      if (!nodes.has(to)) continue;
      if (!number.has(to)) {
        visit(to);
        low.set(n, Math.min(low.get(n)!, low.get(to)!));
      } else if (onStack.has(to)) low.set(n, Math.min(low.get(n)!, number.get(to)!));
    }
    if (low.get(n) !== number.get(n)) return;
    const component = new Set<number>();
    let last: number;
    do {
      last = stack.pop()!;
      onStack.delete(last);
      component.add(last);
    } while (last !== n);
    if (component.size > 1 || successors[n]!.includes(n)) found.push(component);
  };
  for (const n of nodes) if (!number.has(n)) visit(n);
  return found;
}

/** Where control comes into a cycle, if that is one place, or `first`: through no other one may it be entered. */
function headerOf(successors: Successors, cycle: ReadonlySet<number>, first: number): number | undefined {
  const ways = new Set<number>();
  successors.forEach((list, from) => {
    if (!cycle.has(from)) for (const to of list) if (cycle.has(to)) ways.add(to);
  });
  if (ways.size > 1) return undefined;
  return ways.size === 1 ? [...ways][0] : first;
}

/**
 * Finds the ways to `entries`, nodes of the graph; where there is but one entry, that is the root. `leadsTo`: where an edge from a node (-1 = from
 * outside) to another one leads to, if that is not it but a header in front of it.
 */
export function routes(
  successors: Successors,
  entries: readonly number[],
  leadsTo: (from: number, node: number) => number = (_, node) => node,
): Routes {
  if (entries.length === 1) return { graph: { successors, root: leadsTo(-1, entries[0]!) }, steps: new Map() };
  const root = successors.length;
  const steps = new Map<number, { entries: number[]; to: number }[]>();
  const go = (from: number, { entry }: Wanted, to: number): void => {
    const list = steps.get(from) ?? [];
    steps.set(from, list);
    const same = list.find((s) => s.to === to);
    if (same) same.entries.push(entry);
    else list.push({ entries: [entry], to });
  };
  /** Without a header on the way, but perhaps by a further one of the node itself. */
  const goThere = (from: number, want: Wanted): void => {
    const first = leadsTo(from, want.to);
    go(from, want, first);
    if (first !== want.to) go(first, want, want.to);
  };
  const lead = (from: number, nodes: ReadonlySet<number>, wanted: readonly Wanted[]): void => {
    const inCycles = cycles(successors, nodes);
    const inside = new Map<ReadonlySet<number>, Wanted[]>();
    for (const want of wanted) {
      const cycle = inCycles.find((c) => c.has(want.to));
      if (cycle) inside.set(cycle, [...(inside.get(cycle) ?? []), want]);
      else goThere(from, want);
    }
    for (const [cycle, list] of inside) {
      const header = headerOf(successors, cycle, leadsTo(from, list[0]!.to));
      if (header === undefined) {
        for (const want of list) goThere(from, want);
        continue;
      }
      for (const want of list) go(from, want, header);
      const further = list.filter((want) => want.to !== header);
      if (further.length > 0) lead(header, new Set([...cycle].filter((n) => n !== header)), further);
    }
  };
  lead(
    root,
    new Set(successors.keys()),
    entries.map((to, entry) => ({ entry, to })),
  );
  const all = [...successors, []].map((list, n) => [
    ...new Set([...list, ...(steps.get(n) ?? []).map(({ to }) => to)]),
  ]);
  return { graph: { successors: all, root }, steps };
}

/** Node 0 and those of `nodes` where control can begin, too, without an edge of the code having to go. */
export function possibleEntries(successors: Successors, nodes: readonly number[]): number[] {
  const entries = [0];
  if (nodes.length === 0) return entries;
  const cost = (of: readonly number[]): number => structure(routes(successors, of).graph).broken.size;
  const least = cost(entries);
  const all = [0, ...nodes];
  if (cost(all) <= least) return all;
  for (const node of nodes) if (cost([...entries, node]) <= least) entries.push(node);
  return entries;
}
