// SPDX-License-Identifier: MIT
// Pins the WebAssembly made from short guest sequences, so that a change in code quality is seen in review.
// After an intended change: `npx vitest run engine/translate/expect.test.ts -u`.

import { beforeAll, expect, it } from 'vitest';
import wabtInit from 'wabt';
import { regionSlotsOffset, ReturnLinks, ST, Tlb } from '../cpu/layout.ts';
import { bytesOf } from '../cpu/test-machine.ts';
import { compileRegions } from './compile.ts';
import type { OnMiss } from './region-state.ts';
import { findRegion } from './region.ts';

type Node = string | Node[];

let wabt: Awaited<ReturnType<typeof wabtInit>>;
beforeAll(async () => {
  wabt = await wabtInit();
});

function parse(text: string): Node[] {
  const tokens = text.replace(/;;.*|\(;.*?;\)/g, '').match(/[()]|"[^"]*"|[^\s()]+/g) ?? [];
  const stack: Node[][] = [[]];
  for (const token of tokens) {
    if (token === '(') stack.push([]);
    else if (token === ')') {
      const list = stack.pop()!;
      stack[stack.length - 1]!.push(list);
    } else stack[stack.length - 1]!.push(token);
  }
  return stack[0]!;
}

const registers = ['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi'];

/** Name of a field of the state block. */
function field(offset: number): string {
  if (offset < ST.zero) return registers[offset >> 3] ?? `r${offset >> 3}`;
  if (offset >= ST.xmm && offset < ST.xmm + 256) return `xmm${(offset - ST.xmm) >> 4}`;
  for (const [name, base] of [
    ['readTlb', Tlb.read],
    ['writeTlb', Tlb.write],
    ['execTlb', Tlb.exec],
  ] as const)
    if (offset === base || offset === base + 8) return offset === base ? name : `${name}.addend`;
  if (offset === regionSlotsOffset) return 'regionSlots';
  if (offset === ReturnLinks.offset) return 'returnLinks';
  return Object.entries(ST).find(([, at]) => at === offset)?.[0] ?? `+${offset}`;
}

/** Prints a function shortly: locals as $n, fields of the state block by name, imports by name, one statement per line. */
class Printer {
  private readonly lines: string[] = [];
  private readonly names: readonly string[];

  constructor(names: readonly string[]) {
    this.names = names;
  }

  private expression(node: Node): string {
    if (typeof node === 'string') return node;
    const [head, ...all] = node as [string, ...Node[]];
    const offset = all.find((a) => typeof a === 'string' && a.startsWith('offset=')) as string | undefined;
    const rest = all.filter((a) => typeof a !== 'string' || !/^(offset|align)=/.test(a));
    const args = rest.map((a) => this.expression(a));
    if (head === 'local.get') return args[0] === '0' ? 'state' : `$${args[0]}`;
    if (head.endsWith('.const')) return head.startsWith('i64') ? `${args[0]}L` : args.join(' ');
    if (head.includes('load') || head.includes('store')) {
      const [address, ...value] = args;
      const at = offset ? Number(offset.slice(7)) : 0;
      const place = address === 'state' ? `[${field(at)}]` : at ? `[${address} + ${field(at)}]` : `[${address}]`;
      return value.length ? `${head}${place} = ${value.join()}` : `${head}${place}`;
    }
    if (head === 'call' || head === 'return_call') {
      const [callee, ...values] = args;
      return `${head === 'call' ? '' : 'tail '}${this.names[Number(callee)] ?? callee}(${values.join(', ')})`;
    }
    return `${head}(${args.join(', ')})`;
  }

  private statement(node: Node, indent: string): void {
    const [head, ...rest] = node as [string, ...Node[]];
    const block = (name: string, list: readonly Node[]) => {
      this.lines.push(`${indent}${name}`);
      for (const n of list) if (typeof n !== 'string') this.statement(n, `${indent}  `);
    };
    if (head === 'block' || head === 'loop') block(head, rest);
    else if (head === 'if') {
      const [condition, ...branches] = rest;
      block(`if ${this.expression(condition!)}`, (branches[0] as Node[]).slice(1));
      if (branches[1]) block('else', (branches[1] as Node[]).slice(1));
    } else if (head === 'local.set') this.lines.push(`${indent}$${rest[0] as string} = ${this.expression(rest[1]!)}`);
    else this.lines.push(indent + this.expression(node));
  }

  print(body: readonly Node[]): string {
    for (const node of body) if (typeof node !== 'string') this.statement(node, '');
    return `${this.lines.join('\n')}\n`;
  }
}

function wasmOf(hex: string, onMiss?: OnMiss, learns = false): string {
  const frame = 0x10000;
  const u8 = new Uint8Array(0x12000).fill(0xcc);
  u8.set(bytesOf(hex), frame);
  const guide = { follows: () => true, usualTarget: () => undefined, learns };
  const region = findRegion(u8, 0, frame, () => 0, { instructions: 120, pages: 4 }, guide)!;
  const { bytes } = compileRegions([region], onMiss);
  expect(WebAssembly.validate(bytes as Uint8Array<ArrayBuffer>)).toBe(true);
  const module = wabt.readWasm(bytes, { readDebugNames: false, simd: true, threads: true, tail_call: true } as never);
  const [tree] = parse(module.toText({ foldExprs: true, inlineExport: false }));
  module.destroy();
  const parts = tree as Node[][];
  const names = parts
    .filter((p) => p[0] === 'import' && (p[3] as Node[])[0] === 'func')
    .map((p) => (p[2] as string).replaceAll('"', ''));
  const fn = parts.find((p) => p[0] === 'func')!;
  const isCode = (n: Node) => typeof n !== 'string' && !['type', 'param', 'result', 'local'].includes(n[0] as string);
  return new Printer(names).print(fn.slice(1).filter(isCode));
}

it.each([
  ['add-registers', '4801c8', 'add rax, rcx'],
  ['add-dead-flags', '4801c8 4801d0', 'add rax, rcx; add rax, rdx'],
  ['mov-32', '89c8', 'mov eax, ecx'],
  ['mov-16', '6689c8', 'mov ax, cx'],
  ['mov-high-byte', '88e1', 'mov cl, ah'],
  ['lea-scaled', '488d448b10', 'lea rax, [rbx+rcx*4+16]'],
  ['load', '488b03', 'mov rax, [rbx]'],
  ['load-rip-relative', '488b0510000000', 'mov rax, [rip+16]'],
  ['load-gs', '65488b042528000000', 'mov rax, gs:[0x28]'],
  ['store', '48890b', 'mov [rbx], rcx'],
  ['read-modify-write', '0103', 'add [rbx], eax'],
  ['push-pop', '5059', 'push rax; pop rcx'],
  ['compare-and-branch', '4839c87ff7', 'loop: ...; cmp rax, rcx; jg'],
  ['loop', '4801c8ffc975f9', 'loop: add rax, rcx; dec ecx; jnz loop'],
  [
    'counting-loop',
    '39f2 7408 ffc0 48ffc9 75f5 90',
    'loop: cmp edx, esi; je out; inc eax; dec rcx; jnz loop; nop; out:',
  ],
  ['load-before-store', '488b03 48895308 ', 'mov rax, [rbx]; mov [rbx + 8], rdx'],
  ['loop-window', '488b5308 48015310 ffc9 75f4', 'loop: mov rdx, [rbx + 8]; add [rbx + 16], rdx; dec ecx; jnz loop'],
  [
    'loop-strips',
    '0fb6040b 480104ce 48ffc1 4839d1 72f0',
    'loop: movzx eax, byte [rbx + rcx]; add [rsi + rcx*8], rax; inc rcx; cmp rcx, rdx; jb loop',
  ],
  ['test-and-branch', '85c0 7401 90', 'test eax, eax; jz over nop'],
  ['increment-keeps-carry', '4801c8 48ffc2 4811f7', 'add rax, rcx; inc rdx; adc rdi, rsi'],
  ['set-condition', '4839c8 0f92c2', 'cmp rax, rcx; setb dl'],
  ['conditional-move', '4839c8 480f4cd1', 'cmp rax, rcx; cmovl rdx, rcx'],
  ['shift-constant', '48c1e003', 'shl rax, 3'],
  ['shift-count', '48d3e0', 'shl rax, cl'],
  ['multiply', '480fafc1', 'imul rax, rcx'],
  ['call-and-return', 'e801000000 f4 ffc0 c3', 'call f; hlt; f: inc eax; ret'],
  ['jump-indirect', 'ffe0', 'jmp rax'],
  ['system-call', '39c8 0f05', 'cmp eax, ecx; syscall'],
  ['double-add', 'f20f58c1', 'addsd xmm0, xmm1'],
  ['double-load', 'f20f1003', 'movsd xmm0, [rbx]'],
  ['vector-add', '660ffec1', 'paddd xmm0, xmm1'],
])('%s', async (name, hex, text) => {
  await expect(`${text}\n\n${wasmOf(hex)}`).toMatchFileSnapshot(`expect/${name}.wat.txt`);
});

it.each([
  ['load-calls', '488b03', 'mov rax, [rbx]'],
  ['store-calls', '48890b', 'mov [rbx], rcx'],
  ['read-modify-write-calls', '0103', 'add [rbx], eax'],
  ['push-pop-calls', '5059', 'push rax; pop rcx'],
])('%s: where the TLB misses often', async (name, hex, text) => {
  await expect(`${text}\n\n${wasmOf(hex, 'call')}`).toMatchFileSnapshot(`expect/${name}.wat.txt`);
});

it.each([
  ['compare-and-branch-counts', '4839c87ff7', 'loop: ...; cmp rax, rcx; jg'],
  ['jump-indirect-counts', 'ffe0', 'jmp rax'],
  ['branch-to-next-counts', '7400 90', 'jz to the nop behind it; nop'],
])('%s: while there is something to be learned', async (name, hex, text) => {
  await expect(`${text}\n\n${wasmOf(hex, 'leave', true)}`).toMatchFileSnapshot(`expect/${name}.wat.txt`);
});
