// SPDX-License-Identifier: MIT
// Turns a region's control-flow graph into WebAssembly's nested blocks and loops, by way of its dominator tree.

/** A graph of nodes 0..n-1, where control begins at `root`; `successors` hold no duplicates. */
export interface Graph {
  readonly successors: readonly (readonly number[])[];
  readonly root: number;
}

export interface Structure {
  /** Position in reverse postorder, -1 = not reachable. */
  readonly order: readonly number[];
  /** Nodes that are the target of a back edge. */
  readonly isLoop: readonly boolean[];
  /** Nodes reached by more than one forward edge: they end a block. */
  readonly isMerge: readonly boolean[];
  /** Children in the dominator tree, last in reverse postorder first; without those that come behind a loop. */
  readonly children: readonly (readonly number[])[];
  /** By a loop's header, last in reverse postorder first: what the loop dominates, but does not come back from. Its code lies behind the loop's. */
  readonly behind: readonly (readonly number[])[];
  /** Headers of the loops that each node is in, outermost first. */
  readonly loops: readonly (readonly number[])[];
  /** Edges that make the graph irreducible, as "from>to": they must leave the region instead. */
  readonly broken: ReadonlySet<string>;
}

function reversePostorder(graph: Graph): number[] {
  const seen = new Uint8Array(graph.successors.length);
  const post: number[] = [];
  const stack: { node: number; next: number }[] = [{ node: graph.root, next: 0 }];
  seen[graph.root] = 1;
  while (stack.length > 0) {
    const top = stack[stack.length - 1]!;
    const list = graph.successors[top.node]!;
    if (top.next < list.length) {
      const to = list[top.next++]!;
      if (!seen[to]) {
        seen[to] = 1;
        stack.push({ node: to, next: 0 });
      }
    } else {
      post.push(top.node);
      stack.pop();
    }
  }
  return post.reverse();
}

/** Immediate dominators (Cooper, Harvey, Kennedy: "A Simple, Fast Dominance Algorithm"); nodes are numbered in reverse postorder here. */
function dominators(predecessors: readonly (readonly number[])[]): Int32Array {
  const idom = new Int32Array(predecessors.length).fill(-1);
  idom[0] = 0;
  const meet = (a: number, b: number): number => {
    let x = a;
    let y = b;
    while (x !== y) {
      while (x > y) x = idom[x]!;
      while (y > x) y = idom[y]!;
    }
    return x;
  };
  for (let changed = true; changed;) {
    changed = false;
    for (let n = 1; n < predecessors.length; n++) {
      let best = -1;
      for (const p of predecessors[n]!) if (idom[p]! >= 0) best = best < 0 ? p : meet(best, p);
      if (best >= 0 && idom[n] !== best) {
        idom[n] = best;
        changed = true;
      }
    }
  }
  return idom;
}

/** By node, the headers of the loops that it is in, outermost first; nodes are numbered in reverse postorder here. */
function loopsOf(predecessors: readonly (readonly number[])[]): readonly (readonly number[])[] {
  const headers: number[][] = predecessors.map(() => []);
  predecessors.forEach((list, header) => {
    const stack = list.filter((p) => p >= header);
    if (stack.length > 0) headers[header]!.push(header);
    while (stack.length > 0) {
      const n = stack.pop()!;
      const of = headers[n]!;
      if (of[of.length - 1] === header) continue;
      of.push(header);
      stack.push(...predecessors[n]!);
    }
  });
  return headers;
}

/** Analyses a graph. Edges of irreducible loops are reported in `broken`, and the rest is analysed without them. */
export function structure(graph: Graph): Structure {
  const broken = new Set<string>();
  for (;;) {
    const successors = graph.successors.map((list, from) => list.filter((to) => !broken.has(`${from}>${to}`)));
    const sequence = reversePostorder({ successors, root: graph.root });
    const order = graph.successors.map(() => -1);
    sequence.forEach((node, i) => (order[node] = i));
    const predecessors: number[][] = sequence.map(() => []);
    sequence.forEach((node, i) => {
      for (const to of successors[node]!) predecessors[order[to]!]!.push(i);
    });
    const idom = dominators(predecessors);
    const dominates = (a: number, b: number): boolean => {
      let n = b;
      while (n > a) n = idom[n]!;
      return n === a;
    };
    const before = broken.size;
    const isLoop = graph.successors.map(() => false);
    const isMerge = graph.successors.map(() => false);
    sequence.forEach((node, i) => {
      let forward = 0;
      for (const p of predecessors[i]!) {
        if (p < i) forward++;
        else if (dominates(i, p)) isLoop[node] = true;
        else broken.add(`${sequence[p]!}>${node}`);
      }
      if (forward > 1) isMerge[node] = true;
    });
    if (broken.size > before) continue;
    const children: number[][] = graph.successors.map(() => []);
    const behind: number[][] = graph.successors.map(() => []);
    const loops = loopsOf(predecessors);
    for (let i = sequence.length - 1; i > 0; i--) {
      const left = loops[idom[i]!]!.find((header) => !loops[i]!.includes(header));
      const parent = left === undefined ? children[sequence[idom[i]!]!]! : behind[sequence[left]!]!;
      parent.push(sequence[i]!);
    }
    const around = order.map((n) => (n < 0 ? [] : loops[n]!.map((header) => sequence[header]!)));
    return { order, isLoop, isMerge, children, behind, loops: around, broken };
  }
}
