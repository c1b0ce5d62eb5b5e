// SPDX-License-Identifier: MIT
// Gives loops that share a header one each: a region begins where its code is hottest, in an innermost loop, and the loops around come back to there.

import type { Graph, Structure } from './structure.ts';

type Successors = Graph['successors'];

/** What comes to a header directly: the ends of its own loop, and the header of the one around. */
interface Split {
  readonly outer: number;
  readonly comeDirectly: ReadonlySet<number>;
}

/** A graph whose nodes beyond those of the one that it was made from are further headers: empty, each leading to the next one inwards. */
export class Nesting {
  readonly successors: Successors;
  private readonly nodes: number;
  private readonly splits: ReadonlyMap<number, Split>;

  /** `nodes`: of the graph that it was made from. */
  constructor(successors: Successors, nodes: number, splits: ReadonlyMap<number, Split>) {
    this.successors = successors;
    this.nodes = nodes;
    this.splits = splits;
  }

  /** Where an edge of the graph leads to now; -1 = from outside. */
  leadsTo(from: number, to: number): number {
    const split = this.splits.get(to);
    return !split || split.comeDirectly.has(from) ? to : split.outer;
  }

  /** The node itself, or what it leads to if it is a further header. */
  blockOf(node: number): number {
    return node < this.nodes ? node : this.successors[node]![0]!;
  }
}

/** Nodes from which control can come back to `header` by way of `end`, that it does not leave. */
function bodyOf(predecessors: readonly (readonly number[])[], header: number, end: number): Set<number> {
  const body = new Set([header]);
  const stack = [end];
  while (stack.length > 0) {
    const node = stack.pop()!;
    if (body.has(node)) continue;
    body.add(node);
    stack.push(...predecessors[node]!);
  }
  return body;
}

/** The ends of loops with this header that are not within the innermost one, none where there is but one loop. */
function outerEnds(predecessors: readonly (readonly number[])[], header: number, ends: readonly number[]): number[] {
  const bodies = ends.map((end) => bodyOf(predecessors, header, end));
  const inner = bodies.reduce((a, b) => (b.size < a.size ? b : a));
  return ends.filter((_, n) => bodies[n]!.size > inner.size && [...inner].every((node) => bodies[n]!.has(node)));
}

/** A loop is worth a header of its own if control goes round so often: else what the outer one takes along costs more. */
const tight = 0.9;

/**
 * The nesting of these successors, undefined where there is nothing to do. `graph`: with them and all that control can begin with, and what
 * `structure` says of it. `shareOf`: how often control goes from a node to another one (0 to 1), undefined = not known.
 */
export function nest(
  successors: Successors,
  graph: Graph,
  { order, isLoop, broken }: Structure,
  shareOf: (from: number, to: number) => number | undefined,
): Nesting | undefined {
  if (!isLoop.includes(true)) return undefined;
  const lists = successors.map((list) => [...list]);
  const splits = new Map<number, Split>();
  const predecessors: number[][] = graph.successors.map(() => []);
  graph.successors.forEach((list, from) => {
    if (order[from]! < 0) return;
    for (const to of list) if (!broken.has(`${from}>${to}`)) predecessors[to]!.push(from);
  });
  for (let header = 0; header < successors.length; header++) {
    if (!isLoop[header]) continue;
    const ends = predecessors[header]!.filter((p) => order[p]! >= order[header]!);
    const outside = outerEnds(predecessors, header, ends);
    const inside = ends.filter((end) => !outside.includes(end));
    if (outside.length === 0 || !inside.some((end) => (shareOf(end, header) ?? 0) >= tight)) continue;
    const outer = lists.push([header]) - 1;
    splits.set(header, { outer, comeDirectly: new Set([...inside, outer]) });
  }
  if (splits.size === 0) return undefined;
  const nesting = new Nesting(lists, successors.length, splits);
  for (let from = 0; from < successors.length; from++)
    lists[from] = lists[from]!.map((to) => nesting.leadsTo(from, to));
  return nesting;
}
