// SPDX-License-Identifier: MIT
// Unit tests of the ELF reader and of the Xen notes: both classes, both sources, and what real files do wrong.
import { describe, expect, it } from 'vitest';
import { PvError } from '../errors.ts';
import { noteNumber, noteString, readElf, segmentNotes } from './elf.ts';
import type { ElfParts, NoteParts } from './testing/make-elf.ts';
import { makeElf } from './testing/make-elf.ts';
import { mutations } from './testing/mutate.ts';
import { sampleKernel } from './testing/sample-kernel.ts';
import { physicalExtent, readXenKernelInfo } from './xen-notes.ts';

const code = new Uint8Array(0x100).fill(0x90);

function errorOf(action: () => unknown): PvError {
  try {
    action();
  } catch (error) {
    if (error instanceof PvError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

function kernel(notes: NoteParts[], more: Partial<ElfParts> = {}): Uint8Array {
  return makeElf({ bits: 64, entry: 0x1000n, load: [{ physicalAddress: 0x1000n, data: code }], notes, ...more });
}

const XEN_VERSION: NoteParts = { type: 5, value: 'xen-3.0' };

describe('ELF reader', () => {
  it.each([32, 64] as const)('reads headers, segments and sections of ELF%i', (bits) => {
    const image = readElf(
      makeElf({
        bits,
        entry: 0x100000n,
        load: [
          { physicalAddress: 0x100000n, virtualAddress: 0xc0100000n, data: code, memorySize: 0x5000 },
          { physicalAddress: 0x200000n, data: code },
        ],
        guestSection: 'XEN_VER=xen-3.0',
      }),
    );
    expect(image.bits).toBe(bits);
    expect(image.entry).toBe(0x100000n);
    expect(image.segments[0]).toMatchObject({
      type: 1,
      virtualAddress: 0xc0100000n,
      physicalAddress: 0x100000n,
      fileSize: 0x100,
      memorySize: 0x5000,
    });
    expect(image.sections.map((s) => s.name)).toEqual(['', '__xen_guest', '.shstrtab']);
    expect(physicalExtent(image)).toEqual({ start: 0x100000n, end: 0x200100n });
  });

  it('does not count segments without any permission', () => {
    const image = readElf(
      makeElf({
        bits: 64,
        entry: 0n,
        load: [
          { physicalAddress: 0x1000n, data: code },
          { physicalAddress: 0x900000n, data: code, flags: 0 },
        ],
      }),
    );
    expect(physicalExtent(image).end).toBe(0x1100n);
  });

  it('works without a section table', () => {
    const bytes = kernel([XEN_VERSION]);
    new DataView(bytes.buffer).setBigUint64(40, 0x7fffffffffffn, true);
    expect(readElf(bytes).sections).toEqual([]);
  });

  it('says what is wrong', () => {
    const patched = (at: number, value: number): Uint8Array => {
      const bytes = kernel([]);
      bytes[at] = value;
      return bytes;
    };
    const cases: [Uint8Array, RegExp][] = [
      [Uint8Array.of(1, 2, 3), /magic/],
      [patched(4, 3), /class/],
      [patched(5, 2), /little-endian/],
      [patched(16, 1), /not an executable/],
      [patched(18, 40), /not for x86/],
      [patched(54, 8), /program headers are too small/],
      [patched(56, 200), /ends within the program headers/],
      [kernel([]).subarray(0, 40), /ends within the ELF header/],
      [kernel([]).subarray(0, 200), /ends within a segment/],
    ];
    for (const [bytes, text] of cases) {
      const error = errorOf(() => readElf(bytes));
      expect(error.code).toBe('kernel-elf-invalid');
      expect(error.message).toMatch(text);
    }
  });

  it('reads a last note that runs past the end of the file, missing bytes as zero', () => {
    const bytes = kernel([XEN_VERSION, { type: 9, value: Uint8Array.of(0x79, 0x65, 0x73, 0), declaredSize: 12 }]);
    const note = segmentNotes(readElf(bytes))[0]!;
    expect(noteString(note)).toBe('xen-3.0');
    const at = bytes.findIndex((_, i) => bytes[i] === 0x79 && bytes[i + 1] === 0x65 && bytes[i + 2] === 0x73);
    const cut = bytes.subarray(0, at + 4);
    const last = segmentNotes(readElf(cut)).at(-1)!;
    expect([last.type, last.size, noteString(last)]).toEqual([9, 12, 'yes']);
  });

  it('reads numbers of 4 and 8 bytes', () => {
    const image = readElf(
      kernel([
        { type: 1, value: Uint8Array.of(1, 2, 3, 0x84) },
        { type: 2, value: 0xffffffff80001000n },
      ]),
    );
    expect(segmentNotes(image).map(noteNumber)).toEqual([0x84030201n, 0xffffffff80001000n]);
  });

  it('survives damaged files', () => {
    for (const [seed, good] of [
      [1, sampleKernel().slice(0, 3000)],
      [2, sampleKernel()],
      [
        3,
        makeElf({
          bits: 32,
          entry: 0n,
          load: [{ physicalAddress: 0n, data: code }],
          guestSection: 'XEN_VER=xen-3.0,VIRT_BASE=0',
        }),
      ],
    ] as const) {
      for (const damaged of mutations(good, 1500, seed)) {
        try {
          readXenKernelInfo(readElf(damaged));
        } catch (error) {
          if (!(error instanceof PvError)) throw error;
        }
      }
    }
  });
});

describe('Xen notes', () => {
  it('reads a kernel like Linux', () => {
    const info = readXenKernelInfo(readElf(sampleKernel()));
    expect(info).toMatchObject({
      bits: 64,
      source: 'notes',
      entry: 0xffffffff81000000n,
      virtBase: 0xffffffff80000000n,
      paddrOffset: 0n,
      initP2m: 0x8000000000n,
      modStartPfn: true,
      features: ['writable_page_tables', 'pae_pgdir_above_4gb'],
      paeMode: 'yes',
      extendedCr3: true,
      kernelStart: 0xffffffff81000000n,
      kernelEnd: 0xffffffff81008000n,
      hypercallPage: undefined,
    });
  });

  it('needs nothing but the version; base is 0 and the entry comes from the ELF header', () => {
    const info = readXenKernelInfo(readElf(kernel([XEN_VERSION])));
    expect(info).toMatchObject({
      virtBase: 0n,
      paddrOffset: 0n,
      entry: 0x1000n,
      modStartPfn: false,
      initP2m: undefined,
    });
  });

  it('finds notes in sections when no segment has them', () => {
    expect(readXenKernelInfo(readElf(kernel([XEN_VERSION], { notesInSection: true })))?.xenVersion).toBe('xen-3.0');
  });

  it('ignores notes of other owners', () => {
    expect(readXenKernelInfo(readElf(kernel([{ ...XEN_VERSION, owner: 'name' }])))).toBeUndefined();
  });

  it('falls back to __xen_guest, also beside notes of another owner', () => {
    const guestSection =
      'GUEST_OS=GNU Mach,XEN_VER=xen-3.0,VIRT_BASE=0x40000000,ELF_PADDR_OFFSET=0x40000000,HYPERCALL_PAGE=0x2,LOADER=generic,PAE=yes[extended-cr3]';
    const info = readXenKernelInfo(
      readElf(
        makeElf({
          bits: 32,
          entry: 0x40000000n,
          load: [{ physicalAddress: 0x40000000n, data: code }],
          notes: [{ ...XEN_VERSION, owner: 'name' }],
          guestSection,
        }),
      ),
    );
    expect(info).toMatchObject({
      source: '__xen_guest',
      guestOs: 'GNU Mach',
      virtBase: 0x40000000n,
      hypercallPage: 0x40002000n,
      kernelStart: 0x40000000n,
      extendedCr3: true,
    });
  });

  it('takes physical addresses in __xen_guest kernels as virtual ones unless told otherwise', () => {
    const load = [{ physicalAddress: 0x40001000n, data: code }];
    const elf = makeElf({ bits: 64, entry: 0x40001000n, load, guestSection: 'XEN_VER=xen-3.0,VIRT_BASE=0x40000000' });
    expect(readXenKernelInfo(readElf(elf))).toMatchObject({ paddrOffset: 0x40000000n, kernelStart: 0x40001000n });
  });

  it('honours INIT_P2M only below the base and page-aligned', () => {
    const at = (value: bigint): bigint | undefined =>
      readXenKernelInfo(
        readElf(
          kernel([XEN_VERSION, { type: 3, value: 0x100000n }, { type: 1, value: 0x101000n }, { type: 15, value }]),
        ),
      )!.initP2m;
    expect([at(0x1000n), at(0x1001n), at(0x100000n), at(0x200000n)]).toEqual([
      0x1000n,
      undefined,
      undefined,
      undefined,
    ]);
  });

  it('says that there is no PV support without notes, or without a PV entry', () => {
    expect(readXenKernelInfo(readElf(kernel([])))).toBeUndefined();
    const driversOnly = kernel([XEN_VERSION, { type: 3, value: 0xffffffff80000000n }, { type: 18, value: 0x1000n }]);
    expect(readXenKernelInfo(readElf(driversOnly))).toBeUndefined();
    expect(readXenKernelInfo(readElf(kernel([{ type: 18, value: 0x1000n }])))).toBeUndefined();
  });

  it.each([
    ['kernel-xen-version', [{ type: 5, value: 'xen-2.0' }]],
    ['kernel-feature-unknown', [XEN_VERSION, { type: 10, value: 'a|!warp_drive' }]],
    ['kernel-feature-unknown', [XEN_VERSION, { type: 10, value: '!auto_translated_physmap' }]],
    ['kernel-layout-invalid', [XEN_VERSION, { type: 1, value: 0x5000n }]],
    ['kernel-layout-invalid', [XEN_VERSION, { type: 4, value: 0x1000n }]],
    [
      'kernel-layout-invalid',
      [XEN_VERSION, { type: 1, value: 0x1000n }, { type: 3, value: 0n }, { type: 4, value: 0x2000n }],
    ],
  ] as [string, NoteParts[]][])('refuses with %s', (code, notes) => {
    expect(errorOf(() => readXenKernelInfo(readElf(kernel(notes)))).code).toBe(code);
  });

  it('refuses numbers that are none in __xen_guest', () => {
    const elf = kernel([], { guestSection: 'XEN_VER=xen-3.0,VIRT_BASE=soon' });
    expect(errorOf(() => readXenKernelInfo(readElf(elf))).code).toBe('kernel-layout-invalid');
  });
});
