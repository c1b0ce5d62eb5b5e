// SPDX-License-Identifier: MIT
// What a kernel tells a Xen domain builder about itself: ELF notes of owner "Xen", or the older "__xen_guest" section, as one record.
// ABI: xen/include/public/elfnote.h.
import { pvError } from '../errors.ts';
import { PT_LOAD, asciiUntilNul, noteNumber, noteString, sectionData, sectionNotes, segmentNotes } from './elf.ts';
import type { ElfImage, ElfNote, ElfSegment } from './elf.ts';

/** Note types. */
const NOTE = {
  entry: 1,
  hypercallPage: 2,
  virtBase: 3,
  paddrOffset: 4,
  xenVersion: 5,
  guestOs: 6,
  guestVersion: 7,
  loader: 8,
  paeMode: 9,
  features: 10,
  bsdSymtab: 11,
  hvStartLow: 12,
  suspendCancel: 14,
  initP2m: 15,
  modStartPfn: 16,
  supportedFeatures: 17,
} as const;

/** Feature names a kernel may require (xen/include/public/features.h). */
const FEATURE_NAMES: ReadonlySet<string> = new Set([
  'writable_page_tables',
  'writable_descriptor_tables',
  'auto_translated_physmap',
  'supervisor_mode_kernel',
  'pae_pgdir_above_4gb',
  'mmu_pt_update_preserve_ad',
  'highmem_assist',
  'gnttab_map_avail_bits',
  'hvm_callback_vector',
  'hvm_safe_pvclock',
  'hvm_pirqs',
  'dom0',
  'grant_map_identity',
  'memory_op_vnode_supported',
  'linux_rsdp_unrestricted',
]);

/** A PV kernel's metadata. Addresses are virtual unless the name says otherwise. */
export interface XenKernelInfo {
  readonly bits: 32 | 64;
  readonly source: 'notes' | '__xen_guest';
  readonly entry: bigint;
  /** Virtual address of PFN 0. */
  readonly virtBase: bigint;
  /** Subtracted from an ELF p_paddr to get a pseudo-physical address. */
  readonly paddrOffset: bigint;
  /** Page to fill with hypercall stubs; absent in kernels that make hypercalls without it. */
  readonly hypercallPage: bigint | undefined;
  /** Where the kernel wants the P2M list mapped; only set when the wish can be honoured (64-bit, page-aligned, below virtBase). */
  readonly initP2m: bigint | undefined;
  /** True: the initrd need not be mapped, and mod_start is a PFN. */
  readonly modStartPfn: boolean;
  readonly xenVersion: string;
  readonly guestOs: string;
  readonly guestVersion: string;
  readonly loader: string;
  /** As written: "yes", "no", "bimodal", "yes[extended-cr3]", or "" when absent. */
  readonly paeMode: string;
  /** 32-bit: the top-level page table may lie above 4 GiB. */
  readonly extendedCr3: boolean;
  /** Names of the FEATURES string, the "!" of required ones removed. */
  readonly features: readonly string[];
  readonly supportedFeatures: bigint | undefined;
  readonly bsdSymtab: boolean;
  readonly suspendCancel: boolean;
  readonly hvStartLow: bigint | undefined;
  /** Virtual extent of the loaded segments, end exclusive. */
  readonly kernelStart: bigint;
  readonly kernelEnd: bigint;
}

/** Segments that are loaded: PT_LOAD with at least one permission, as Xen's loader decides it. */
export function loadableSegments(image: ElfImage): ElfSegment[] {
  return image.segments.filter((s) => s.type === PT_LOAD && (s.flags & 7) !== 0);
}

/** Lowest and highest p_paddr of the loaded segments, end exclusive. Throws `kernel-elf-invalid` when there are none. */
export function physicalExtent(image: ElfImage): { readonly start: bigint; readonly end: bigint } {
  const segments = loadableSegments(image);
  if (segments.length === 0) throw pvError('kernel-elf-invalid', { detail: 'it has nothing to load' });
  const starts = segments.map((s) => s.physicalAddress);
  const ends = segments.map((s) => s.physicalAddress + BigInt(s.memorySize));
  return { start: starts.reduce((a, b) => (b < a ? b : a)), end: ends.reduce((a, b) => (b > a ? b : a)) };
}

/**
 * Reads the record. Returns undefined when the kernel cannot be started as a PV guest: no Xen notes and no `__xen_guest` section, or notes
 * without a PV entry (a kernel that only has the drivers for running as a PC under Xen).
 * Throws `kernel-xen-version`, `kernel-feature-unknown`, `kernel-layout-invalid`, `kernel-elf-invalid`.
 */
export function readXenKernelInfo(image: ElfImage): XenKernelInfo | undefined {
  const raw = rawFromNotes(image) ?? rawFromGuestSection(image);
  if (raw === undefined || raw.xenVersion === '') return undefined;
  if (!raw.xenVersion.startsWith('xen-3.0')) throw pvError('kernel-xen-version', { version: raw.xenVersion });
  const { virtBase: givenBase } = raw;
  if (raw.paddrOffset !== undefined && givenBase === undefined)
    throw pvError('kernel-layout-invalid', { detail: 'it gives a physical address offset but no virtual base' });
  const virtBase = givenBase ?? 0n;
  // The older section comes from a time when p_paddr held virtual addresses; notes default to real physical ones.
  const paddrOffset = raw.paddrOffset ?? (raw.source === 'notes' ? 0n : virtBase);
  const extent = physicalExtent(image);
  const wrap = (n: bigint): bigint => BigInt.asUintN(image.bits, n);
  const kernelStart = wrap(extent.start - paddrOffset + virtBase);
  const kernelEnd = wrap(extent.end - paddrOffset + virtBase);
  const entry = raw.entry ?? image.entry;
  const entryIsInside = entry >= kernelStart && entry < kernelEnd;
  if (raw.entry === undefined && raw.source === 'notes' && !entryIsInside) return undefined;
  if (kernelStart >= kernelEnd || !entryIsInside || virtBase > kernelStart)
    throw pvError('kernel-layout-invalid', { detail: 'its load addresses or its entry point are out of bounds' });

  return {
    bits: image.bits,
    source: raw.source,
    entry,
    virtBase,
    paddrOffset,
    hypercallPage: raw.hypercallPage,
    initP2m: usableInitP2m(raw.initP2m, virtBase, image.bits),
    modStartPfn: raw.modStartPfn,
    xenVersion: raw.xenVersion,
    guestOs: raw.guestOs,
    guestVersion: raw.guestVersion,
    loader: raw.loader,
    paeMode: raw.paeMode,
    extendedCr3: raw.paeMode.includes('[extended-cr3]') || (raw.source === 'notes' && raw.paeMode.startsWith('yes')),
    features: readFeatures(raw.features),
    supportedFeatures: raw.supportedFeatures,
    bsdSymtab: raw.bsdSymtab,
    suspendCancel: raw.suspendCancel,
    hvStartLow: raw.hvStartLow,
    kernelStart,
    kernelEnd,
  };
}

/** What the kernel says, before defaults and checks. */
interface RawInfo {
  readonly source: 'notes' | '__xen_guest';
  readonly entry: bigint | undefined;
  readonly virtBase: bigint | undefined;
  readonly paddrOffset: bigint | undefined;
  readonly hypercallPage: bigint | undefined;
  readonly initP2m: bigint | undefined;
  readonly supportedFeatures: bigint | undefined;
  readonly hvStartLow: bigint | undefined;
  readonly modStartPfn: boolean;
  readonly bsdSymtab: boolean;
  readonly suspendCancel: boolean;
  readonly xenVersion: string;
  readonly guestOs: string;
  readonly guestVersion: string;
  readonly loader: string;
  readonly paeMode: string;
  readonly features: string;
}

/** Notes of PT_NOTE segments count; SHT_NOTE sections are searched only when those have none of Xen's. */
function rawFromNotes(image: ElfImage): RawInfo | undefined {
  const isXen = (note: ElfNote): boolean => note.owner === 'Xen';
  let notes = segmentNotes(image).filter(isXen);
  if (notes.length === 0) notes = sectionNotes(image).filter(isXen);
  if (notes.length === 0) return undefined;
  const byType = new Map(notes.map((note) => [note.type, note]));
  const text = (type: number): string => {
    const note = byType.get(type);
    return note === undefined ? '' : noteString(note);
  };
  const number = (type: number): bigint | undefined => {
    const note = byType.get(type);
    return note === undefined ? undefined : noteNumber(note);
  };
  return {
    source: 'notes',
    entry: number(NOTE.entry),
    virtBase: number(NOTE.virtBase),
    paddrOffset: number(NOTE.paddrOffset),
    hypercallPage: number(NOTE.hypercallPage),
    initP2m: number(NOTE.initP2m),
    supportedFeatures: number(NOTE.supportedFeatures),
    hvStartLow: number(NOTE.hvStartLow),
    modStartPfn: (number(NOTE.modStartPfn) ?? 0n) !== 0n,
    bsdSymtab: text(NOTE.bsdSymtab) === 'yes',
    suspendCancel: (number(NOTE.suspendCancel) ?? 0n) !== 0n,
    xenVersion: text(NOTE.xenVersion),
    guestOs: text(NOTE.guestOs),
    guestVersion: text(NOTE.guestVersion),
    loader: text(NOTE.loader),
    paeMode: text(NOTE.paeMode),
    features: text(NOTE.features),
  };
}

const GUEST_SECTION = '__xen_guest';
/** Real ones have about 150 bytes. */
const GUEST_SECTION_LIMIT = 4096;

/** The section is text, "KEY=value,KEY=value", NUL-terminated. */
function rawFromGuestSection(image: ElfImage): RawInfo | undefined {
  const section = image.sections.find((s) => s.name === GUEST_SECTION);
  if (section === undefined) return undefined;
  const content = asciiUntilNul(sectionData(image, section).subarray(0, GUEST_SECTION_LIMIT));
  const values = new Map<string, string>();
  for (const item of content.split(',')) {
    const equals = item.indexOf('=');
    if (equals > 0) values.set(item.slice(0, equals).trim(), item.slice(equals + 1).trim());
    else if (item.trim() !== '') values.set(item.trim(), '');
  }
  const number = (key: string): bigint | undefined => {
    const value = values.get(key);
    if (value === undefined) return undefined;
    if (!/^(0x[0-9a-f]{1,16}|[0-9]{1,19})$/i.test(value))
      throw pvError('kernel-layout-invalid', { detail: `its ${GUEST_SECTION} section has no number for ${key}` });
    return BigInt(value);
  };
  const virtBase = number('VIRT_BASE');
  const hypercallPageNumber = number('HYPERCALL_PAGE');
  return {
    source: GUEST_SECTION,
    entry: number('VIRT_ENTRY'),
    virtBase,
    paddrOffset: number('ELF_PADDR_OFFSET'),
    // Here it is a page number relative to the virtual base.
    hypercallPage:
      hypercallPageNumber === undefined
        ? undefined
        : BigInt.asUintN(64, (virtBase ?? 0n) + hypercallPageNumber * 4096n),
    initP2m: undefined,
    supportedFeatures: undefined,
    hvStartLow: undefined,
    modStartPfn: false,
    bsdSymtab: values.has('BSD_SYMTAB'),
    suspendCancel: false,
    xenVersion: values.get('XEN_VER') ?? '',
    guestOs: values.get('GUEST_OS') ?? '',
    guestVersion: values.get('GUEST_VER') ?? '',
    loader: values.get('LOADER') ?? '',
    paeMode: values.get('PAE') ?? '',
    features: values.get('FEATURES') ?? '',
  };
}

function usableInitP2m(address: bigint | undefined, virtBase: bigint, bits: 32 | 64): bigint | undefined {
  if (address === undefined || bits === 32 || address >= virtBase || address % 4096n !== 0n) return undefined;
  return address;
}

/**
 * Splits the FEATURES string. A required ("!") feature that nobody knows is refused, and so is a required auto-translated memory, which
 * is the opposite of PV memory. Other required features that PV guests do not get are tolerated, as Xen does: Linux marks
 * writable_page_tables so and does not need it.
 */
function readFeatures(text: string): string[] {
  const names: string[] = [];
  for (const item of text.split('|')) {
    const isRequired = item.startsWith('!');
    const name = isRequired ? item.slice(1) : item;
    if (name === '') continue;
    if (isRequired && (!FEATURE_NAMES.has(name) || name === 'auto_translated_physmap'))
      throw pvError('kernel-feature-unknown', { feature: name });
    names.push(name);
  }
  return names;
}
