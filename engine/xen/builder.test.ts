// SPDX-License-Identifier: MIT
// Unit tests of the domain builder: builds into memory whose frames are shuffled, then looks at it as the guest would.
import { describe, expect, it } from 'vitest';
import { PvError } from '../errors.ts';
import { readElf } from '../formats/elf.ts';
import { makeElf } from '../formats/testing/make-elf.ts';
import { randomNumbers } from '../formats/testing/mutate.ts';
import { sampleKernel } from '../formats/testing/sample-kernel.ts';
import { readXenKernelInfo } from '../formats/xen-notes.ts';
import type { BuildInput, BuiltDomain } from './builder.ts';
import { buildDomain } from './builder.ts';

const PAGES = 32 * 256;
const FIRST_MFN = 0x12345;

/** Memory full of garbage, its frames in a random order, and the guest's view of it. */
class TestMachine {
  readonly u8 = new Uint8Array((PAGES + 1) * 4096).fill(0xa5);
  readonly p2m = new Uint32Array(PAGES);
  private readonly view = new DataView(this.u8.buffer);

  constructor() {
    const random = randomNumbers(4711);
    for (let i = 0; i < PAGES; i++) this.p2m[i] = FIRST_MFN + i;
    for (let i = PAGES - 1; i > 0; i--) {
      const j = random() % (i + 1);
      [this.p2m[i], this.p2m[j]] = [this.p2m[j]!, this.p2m[i]!];
    }
  }

  hostOf(mfn: number): number {
    return mfn >= FIRST_MFN && mfn < FIRST_MFN + PAGES ? (mfn - FIRST_MFN + 1) * 4096 : 0;
  }

  /** The page-table entries of a virtual address, top level first, down to the first that is not present. */
  walk(cr3Mfn: number, address: bigint): bigint[] {
    const entries: bigint[] = [];
    let mfn = cr3Mfn;
    for (const shift of [39n, 30n, 21n, 12n]) {
      const index = Number((address >> shift) & 511n);
      const entry = this.view.getBigUint64(this.hostOf(mfn) + index * 8, true);
      entries.push(entry);
      if ((entry & 1n) === 0n) break;
      mfn = Number((entry & 0xffffffffff000n) >> 12n);
    }
    return entries;
  }

  /** Frame behind a virtual address, or undefined. */
  mfnAt(cr3Mfn: number, address: bigint): number | undefined {
    const entries = this.walk(cr3Mfn, address);
    const last = entries.at(-1)!;
    return entries.length === 4 && last & 1n ? Number((last & 0xffffffffff000n) >> 12n) : undefined;
  }

  read(cr3Mfn: number, address: bigint, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) {
      const at = address + BigInt(i);
      bytes[i] = this.u8[this.hostOf(this.mfnAt(cr3Mfn, at)!) + Number(at & 4095n)]!;
    }
    return bytes;
  }

  frame(pfn: number): Uint8Array {
    const host = this.hostOf(this.p2m[pfn]!);
    return this.u8.subarray(host, host + 4096);
  }
}

function build(kernelFile: Uint8Array, more: Partial<BuildInput> = {}): { machine: TestMachine; built: BuiltDomain } {
  const machine = new TestMachine();
  const elf = readElf(kernelFile);
  const built = buildDomain({
    mem: machine,
    p2m: machine.p2m,
    sharedInfoMfn: 0x777,
    storePort: 1,
    consolePort: 2,
    elf,
    kernel: readXenKernelInfo(elf)!,
    commandLine: 'console=hvc0 grüße',
    ...more,
  });
  return { machine, built };
}

function startInfo(machine: TestMachine, built: BuiltDomain): DataView {
  const frame = machine.frame(built.layout.startInfoPfn);
  return new DataView(frame.buffer, frame.byteOffset, frame.length);
}

const pairValue = ([low, high]: readonly [number, number]): bigint => (BigInt(high) << 32n) | BigInt(low);

/** A kernel like mini-os: virtual base 0, with a hypercall page. */
function lowKernel(notes: { type: number; value: bigint }[] = []): Uint8Array {
  const data = Uint8Array.from({ length: 0x1800 }, (_, i) => i * 7);
  return makeElf({
    bits: 64,
    entry: 0x10n,
    load: [{ physicalAddress: 0n, data, memorySize: 0x5000 }],
    notes: [{ type: 5, value: 'xen-3.0' }, { type: 2, value: 0x2000n }, ...notes],
  });
}

describe('a kernel like Linux', () => {
  const initrd = Uint8Array.from({ length: 10_000 }, (_, i) => i % 251);
  const file = sampleKernel();
  const { machine, built } = build(file, { initrd });
  const { layout, cr3Mfn } = built;
  const base = 0xffffffff80000000n;

  it('has its registers', () => {
    expect(pairValue(built.entry)).toBe(0xffffffff81000000n);
    expect(pairValue(built.startInfo)).toBe(base + BigInt(layout.startInfoPfn) * 4096n);
    expect(pairValue(built.stackPointer)).toBe(base + BigInt(layout.bootStackPfn + 1) * 4096n);
    expect(cr3Mfn).toBe(machine.p2m[layout.pageTables.pfn]);
  });

  it('is loaded at its addresses, the rest of its segment zeroed', () => {
    const segment = readElf(file).segments[0]!;
    const content = file.subarray(segment.offset, segment.offset + segment.fileSize);
    const loaded = machine.read(cr3Mfn, 0xffffffff81000000n, 0x8000);
    expect(Buffer.compare(loaded.subarray(0, content.length), content)).toBe(0);
    expect(loaded.subarray(content.length).every((byte) => byte === 0)).toBe(true);
  });

  it('has start_info', () => {
    const info = startInfo(machine, built);
    const u64 = (offset: number): bigint => info.getBigUint64(offset, true);
    expect(Buffer.from(info.buffer, info.byteOffset, 15).toString()).toBe('xen-3.0-x86_64\0');
    expect(u64(0x20)).toBe(BigInt(PAGES));
    expect(u64(0x28)).toBe(0x777000n);
    expect(info.getUint32(0x30, true)).toBe(0x18);
    expect([u64(0x38), info.getUint32(0x40, true)]).toEqual([BigInt(built.storeMfn), 1]);
    expect([u64(0x48), info.getUint32(0x50, true)]).toEqual([BigInt(built.consoleMfn), 2]);
    expect([u64(0x58), u64(0x60)]).toEqual([
      base + BigInt(layout.pageTables.pfn) * 4096n,
      BigInt(layout.pageTables.count),
    ]);
    expect(u64(0x68)).toBe(0x8000000000n);
    expect([u64(0x70), u64(0x78)]).toEqual([BigInt(layout.initrd!.pfn), 10_000n]);
    expect(Buffer.from(info.buffer, info.byteOffset + 0x80, 21).toString()).toBe('console=hvc0 grüße\0');
    expect([u64(0x480), u64(0x488)]).toEqual([BigInt(layout.p2m.pfn), BigInt(layout.p2m.count + 3)]);
  });

  it('has its initrd, unmapped, its last page filled with zeros', () => {
    const first = layout.initrd!.pfn;
    const bytes = Buffer.concat([machine.frame(first), machine.frame(first + 1), machine.frame(first + 2)]);
    expect(Buffer.compare(bytes.subarray(0, 10_000), initrd)).toBe(0);
    expect(bytes.subarray(10_000).every((byte) => byte === 0)).toBe(true);
    expect(machine.mfnAt(cr3Mfn, base + BigInt(first) * 4096n)).toBeUndefined();
  });

  it('finds the P2M list where it asked for it', () => {
    for (const pfn of [0, 1, 511, 512, PAGES - 1]) {
      const entry = machine.read(cr3Mfn, 0x8000000000n + BigInt(pfn) * 8n, 8);
      expect(new DataView(entry.buffer).getBigUint64(0, true)).toBe(BigInt(machine.p2m[pfn]!));
    }
    expect(machine.mfnAt(cr3Mfn, 0x8000000000n + BigInt(layout.p2m.count) * 4096n)).toBeUndefined();
  });

  it('maps exactly the main region, page tables read-only, all for user mode', () => {
    const tables = new Set(built.pageTableFrames.map((t) => t.pfn));
    for (let pfn = 0; pfn < layout.mappedPages; pfn++) {
      const entries = machine.walk(cr3Mfn, base + BigInt(pfn) * 4096n);
      expect(entries.length).toBe(4);
      expect(entries.slice(0, 3).map((e) => e & 0xfffn)).toEqual([0x67n, 0x67n, 0x67n]);
      const flags = tables.has(pfn) ? 0x25n : 0x27n;
      expect(entries[3]).toBe((BigInt(machine.p2m[pfn]!) << 12n) | flags);
    }
    for (const address of [base - 4096n, base + BigInt(layout.mappedPages) * 4096n, 0n, 0xffff800000000000n])
      expect(machine.mfnAt(cr3Mfn, address)).toBeUndefined();
  });

  it('has no other entries in its tables', () => {
    const l4 = machine.frame(layout.pageTables.pfn);
    const view = new DataView(l4.buffer, l4.byteOffset, 4096);
    const used = Array.from({ length: 512 }, (_, i) => i).filter((i) => view.getBigUint64(i * 8, true) !== 0n);
    expect(used).toEqual([1, 511]);
  });

  it('lists every page-table frame with its level', () => {
    expect(built.pageTableFrames.map((t) => t.level).join('')).toMatch(/^4321+321$/);
    for (const { pfn, mfn } of built.pageTableFrames) expect(mfn).toBe(machine.p2m[pfn]);
  });

  it('starts with empty rings and stack', () => {
    for (const pfn of [layout.storePfn, layout.consolePfn, layout.bootStackPfn])
      expect(machine.frame(pfn).every((byte) => byte === 0)).toBe(true);
    expect(built.storeMfn).toBe(machine.p2m[layout.storePfn]);
    expect(built.consoleMfn).toBe(machine.p2m[layout.consolePfn]);
  });
});

describe('a kernel at virtual address 0', () => {
  it('gets initrd and P2M list mapped, and virtual addresses for both', () => {
    const { machine, built } = build(lowKernel(), { initrd: Uint8Array.of(1, 2, 3) });
    const info = startInfo(machine, built);
    expect(info.getUint32(0x30, true)).toBe(0x10);
    const modStart = info.getBigUint64(0x70, true);
    expect(modStart).toBe(BigInt(built.layout.initrd!.pfn) * 4096n);
    expect([...machine.read(built.cr3Mfn, modStart, 4)]).toEqual([1, 2, 3, 0]);
    const list = info.getBigUint64(0x68, true);
    const entry = machine.read(built.cr3Mfn, list + 5n * 8n, 8);
    expect(new DataView(entry.buffer).getBigUint64(0, true)).toBe(BigInt(machine.p2m[5]!));
    expect([info.getBigUint64(0x480, true), info.getBigUint64(0x488, true)]).toEqual([0n, 0n]);
    expect(pairValue(built.entry)).toBe(0x10n);
  });

  it('has no module fields without an initrd', () => {
    const { machine, built } = build(lowKernel());
    const info = startInfo(machine, built);
    expect([info.getBigUint64(0x70, true), info.getBigUint64(0x78, true)]).toEqual([0n, 0n]);
  });

  it('gets its hypercall page', () => {
    const { machine, built } = build(lowKernel());
    const page = machine.read(built.cr3Mfn, 0x2000n, 4096);
    const stub = (n: number): string => Buffer.from(page.subarray(n * 32, n * 32 + 16)).toString('hex');
    expect(stub(17)).toBe('514153b8110000000f05415b59c3cccc');
    expect(stub(23)).toBe('51415350b8170000000f05cccccccccc');
    expect(machine.read(built.cr3Mfn, 0x1000n, 1)[0]).toBe((0x1000 * 7) & 0xff);
  });
});

describe('refusals', () => {
  const codeOf = (action: () => unknown): string => {
    try {
      action();
    } catch (error) {
      if (error instanceof PvError) return error.code;
      throw error;
    }
    return 'none';
  };

  it('limits the command line to 1023 bytes of UTF-8', () => {
    expect(codeOf(() => build(lowKernel(), { commandLine: 'x'.repeat(1023) }))).toBe('none');
    expect(codeOf(() => build(lowKernel(), { commandLine: 'x'.repeat(1024) }))).toBe('command-line-too-long');
    expect(codeOf(() => build(lowKernel(), { commandLine: 'ü'.repeat(512) }))).toBe('command-line-too-long');
    expect(codeOf(() => build(lowKernel(), { commandLine: 'a\0b' }))).toBe('command-line-invalid');
  });

  it.each([0x2001n, 0x40000000n, 0xffffffff80000000n])('refuses a hypercall page at %x', (value) => {
    expect(codeOf(() => build(lowKernel([{ type: 2, value }])))).toBe('kernel-layout-invalid');
  });

  it('refuses segments that lie over each other', () => {
    const load = Array.from({ length: 3 }, () => ({ physicalAddress: 0n, data: new Uint8Array(4096) }));
    const file = makeElf({ bits: 64, entry: 0n, load, notes: [{ type: 5, value: 'xen-3.0' }] });
    expect(codeOf(() => build(file))).toBe('kernel-elf-invalid');
  });

  it('zeroes what lies between and behind segments, in whatever order they are', () => {
    const load = [
      { physicalAddress: 0x3801n, data: new Uint8Array(0x400).fill(7), memorySize: 0x2000 },
      { physicalAddress: 0n, data: new Uint8Array(0x1803).fill(9) },
    ];
    const file = makeElf({ bits: 64, entry: 0n, load, notes: [{ type: 5, value: 'xen-3.0' }] });
    const { machine, built } = build(file);
    const loaded = machine.read(built.cr3Mfn, 0n, 0x6000);
    const expected = new Uint8Array(0x6000).fill(9, 0, 0x1803).fill(7, 0x3801, 0x3c01);
    expect(Buffer.compare(loaded, expected)).toBe(0);
  });

  it('refuses a kernel larger than memory before writing anything', () => {
    const load = [{ physicalAddress: 0n, data: new Uint8Array(16), memorySize: 64 * 2 ** 20 }];
    const file = makeElf({ bits: 64, entry: 0n, load, notes: [{ type: 5, value: 'xen-3.0' }] });
    const machine = new TestMachine();
    expect(codeOf(() => build(file, { mem: machine, p2m: machine.p2m }))).toBe('memory-too-small-for-kernel');
    expect(machine.u8.every((byte) => byte === 0xa5)).toBe(true);
  });
});
