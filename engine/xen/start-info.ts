// SPDX-License-Identifier: MIT
// The start_info page of a 64-bit PV guest. ABI: struct start_info in xen/include/public/xen.h.
import { pvError } from '../errors.ts';
import { encodeUtf8 } from '../formats/utf8.ts';

const PAGE_SIZE = 4096;
const MAGIC = 'xen-3.0-x86_64';
/** Byte offsets of the fields, 64-bit layout. */
const OFFSET = {
  magic: 0x00,
  nrPages: 0x20,
  sharedInfo: 0x28,
  flags: 0x30,
  storeMfn: 0x38,
  storePort: 0x40,
  consoleMfn: 0x48,
  consolePort: 0x50,
  ptBase: 0x58,
  nrPtFrames: 0x60,
  mfnList: 0x68,
  modStart: 0x70,
  modLength: 0x78,
  commandLine: 0x80,
  firstP2mPfn: 0x480,
  nrP2mFrames: 0x488,
} as const;
const COMMAND_LINE_SIZE = 1024;

/** mod_start is a PFN, not a virtual address. */
const SIF_MOD_START_PFN = 0x8;
/** The guest may publish its P2M as one linear virtual list instead of a tree. */
const SIF_VIRT_P2M_4TOOLS = 0x10;

export interface StartInfo {
  readonly pages: number;
  readonly sharedInfoMfn: number;
  readonly storeMfn: number;
  readonly storePort: number;
  readonly consoleMfn: number;
  readonly consolePort: number;
  /** Virtual address of the top-level page table, and the number of page-table frames of the main region. */
  readonly ptBase: bigint;
  readonly ptFrames: number;
  /** Virtual address of the P2M list. */
  readonly mfnList: bigint;
  /** Only with a P2M list outside the main region: its first frame, and its frames plus those of the tables that map it. */
  readonly separateP2m: { readonly firstPfn: number; readonly frames: number } | undefined;
  readonly initrd:
    | { readonly start: { readonly pfn: number } | { readonly virtualAddress: bigint }; readonly bytes: number }
    | undefined;
  readonly commandLine: string;
}

/** Makes the page. Throws `command-line-too-long` or `command-line-invalid`. */
export function startInfoPage(info: StartInfo): Uint8Array {
  const commandLine = encodeCommandLine(info.commandLine);
  const page = new Uint8Array(PAGE_SIZE);
  const view = new DataView(page.buffer);
  const u64 = (offset: number, value: number | bigint): void => view.setBigUint64(offset, BigInt(value), true);
  page.set(encodeUtf8(MAGIC), OFFSET.magic);
  u64(OFFSET.nrPages, info.pages);
  u64(OFFSET.sharedInfo, BigInt(info.sharedInfoMfn) * BigInt(PAGE_SIZE)); // a machine address, unlike its neighbours
  u64(OFFSET.storeMfn, info.storeMfn);
  view.setUint32(OFFSET.storePort, info.storePort, true);
  u64(OFFSET.consoleMfn, info.consoleMfn);
  view.setUint32(OFFSET.consolePort, info.consolePort, true);
  u64(OFFSET.ptBase, info.ptBase);
  u64(OFFSET.nrPtFrames, info.ptFrames);
  u64(OFFSET.mfnList, info.mfnList);
  let flags = SIF_VIRT_P2M_4TOOLS;
  if (info.initrd !== undefined) {
    const { start, bytes } = info.initrd;
    if ('pfn' in start) flags |= SIF_MOD_START_PFN;
    u64(OFFSET.modStart, 'pfn' in start ? start.pfn : start.virtualAddress);
    // The exact size. Xen's builder rounds an unmapped initrd up to pages; guests need neither.
    u64(OFFSET.modLength, bytes);
  }
  view.setUint32(OFFSET.flags, flags, true);
  page.set(commandLine, OFFSET.commandLine);
  if (info.separateP2m !== undefined) {
    u64(OFFSET.firstP2mPfn, info.separateP2m.firstPfn);
    u64(OFFSET.nrP2mFrames, info.separateP2m.frames);
  }
  return page;
}

/** The command line in UTF-8, checked to leave room for its NUL. Throws `command-line-too-long` or `command-line-invalid`. */
export function encodeCommandLine(text: string): Uint8Array {
  if (text.includes('\0')) throw pvError('command-line-invalid', {});
  const bytes = encodeUtf8(text);
  const limit = COMMAND_LINE_SIZE - 1;
  if (bytes.length > limit) throw pvError('command-line-too-long', { length: bytes.length, limit });
  return bytes;
}
