// SPDX-License-Identifier: MIT
// Where everything lives in a machine's linear memory: vCPU state block, TLBs, tables per frame, micro-op arena, guest RAM.

/** Offsets in a vCPU's state block, relative to `VCpu.base`. Fields below 0x100 can be named by a micro-op's byte-sized operand fields. */
export const ST = {
  /** 16 general registers, u64 each: rax rcx rdx rbx rsp rbp rsi rdi r8..r15. */
  gpr: 0x000,
  /** Always zero: stands for an absent base, index or segment. */
  zero: 0x080,
  /** Temporaries of split instructions. */
  t0: 0x088,
  t1: 0x090,
  t2: 0x098,
  rip: 0x0a0,
  /** Result of an address computation that needs its own micro-op (segment limits, 16/32-bit addressing). */
  ea: 0x0a8,
  /** Bases of es cs ss ds fs gs, u64 each. */
  segBase: 0x0b0,
  /** Linear address of the page that the running block lies in: base of RIP-relative operands. */
  ripPage: 0x0e0,
  /** Status flags in pieces: ZF = (fz == 0), SF = (fs < 0), PF = even parity of fp's low byte, CF = fc, OF = bit 31 of fo, AF = bit 4 of fa. */
  fz: 0x100,
  fs: 0x108,
  fp: 0x110,
  fc: 0x114,
  fo: 0x118,
  fa: 0x11c,
  /** RFLAGS without the six status flags (bit 1 always set). */
  sysFlags: 0x120,
  /** Current privilege level. */
  cpl: 0x124,
  /** Operating mode of the code segment: 64, 32 or 16. */
  mode: 0x128,
  /** What an exit reports: see exits.ts. */
  vector: 0x130,
  errorCode: 0x134,
  cr2: 0x138,
  exitArg: 0x140,
  exitPc: 0x144,
  /** Reason that an outlined instruction or a failed memory access asks `run` to return. */
  exitCode: 0x148,
  /** Kind of the fault in `vector`: `SegmentFault`. */
  segmentFault: 0x14c,
  /** Linear address of that access. */
  segmentAddress: 0x150,
  /** 1 while data breakpoints are armed: accesses are reported through the next three fields, and the data TLBs stay empty. */
  watching: 0x158,
  watchBytes: 0x15c,
  watchAddress: 0x160,
  watchWrite: 0x168,
  /** DR6 bits that the #DB being reported adds. */
  debugStatus: 0x16c,
  /** Selectors of es cs ss ds fs gs, u16 each. */
  selector: 0x180,
  /** Limits of the same, u32 each, in bytes. */
  segLimit: 0x190,
  /** Descriptor attributes of the same, u32 each: bits 0-7 type/S/DPL/P, 8 AVL, 9 L, 10 D/B, 11 G; 0 = unusable. */
  segAttr: 0x1a8,
  xmm: 0x200,
  xt0: 0x300,
  xt1: 0x310,
  mxcsr: 0x330,
  /** x87: control word, status word (without TOP), tag bits (1 = empty, one per physical register), TOP. */
  fcw: 0x340,
  fsw: 0x344,
  ftag: 0x348,
  ftop: 0x34c,
  fopcode: 0x350,
  fip: 0x358,
  fdp: 0x360,
  /** Eight physical x87 registers of 16 bytes: significand u64, then sign and exponent u16. MMX registers are the significands. */
  fpr: 0x380,
  cr0: 0x400,
  cr3: 0x408,
  cr4: 0x410,
  efer: 0x418,
  /** Number of the bank of TLBs that belongs to the current address space and privilege: i64, below 4096, so that it fits under a page's address. */
  asid: 0x420,
  /** Host address of the current top-level page table, 0 = none. */
  root: 0x428,
  /** 0 no paging, 1 PAE, 2 four levels. */
  pagingMode: 0x42c,
  /** 1 when NX is enabled. */
  nxEnabled: 0x430,
  writeProtect: 0x434,
  frameTable: 0x438,
  maxMfn: 0x43c,
  l1Tags: 0x440,
  codeMap: 0x444,
  jumpTable: 0x448,
  fsBaseUser: 0x450,
  kernelGsBase: 0x458,
  tscAux: 0x460,
  /** u64: the time-stamp counter when the host was asked last. */
  timeStamp: 0x468,
  star: 0x470,
  lstar: 0x478,
  cstar: 0x480,
  sfmask: 0x488,
  sysenterCs: 0x490,
  sysenterEsp: 0x498,
  sysenterEip: 0x4a0,
  /** u64: the last time-stamp that translated code made up, see RegionStage.timeStamp. */
  timeGiven: 0x4a8,
  /** i32: the budget when translated code asked the host last; `noTimeBudget` when that was in an earlier slice. */
  timeBudget: 0x4b0,
  /** Counters, u32 or u64 as noted. */
  tlbMisses: 0x4c0,
  pageWalks: 0x4c4,
  /** u64: instructions retired. */
  instructions: 0x4c8,
  /** Descriptor tables: linear base u64, limit u32. */
  gdtBase: 0x4d0,
  gdtLimit: 0x4d8,
  idtBase: 0x4e0,
  idtLimit: 0x4e8,
  ldtBase: 0x4f0,
  ldtLimit: 0x4f8,
  ldtSelector: 0x4fc,
  trSelector: 0x500,
  /** How a region ended: RegionEnd. */
  regionEnd: 0x508,
  /** u64: instructions retired in regions. */
  regionInstructions: 0x510,
  /** Address of a u32 table: record to continue at when a region does not apply, by region number. */
  regionFallback: 0x518,
  /** u32: times that the interpreter entered a region, from which others may have been entered. */
  regionEntries: 0x51c,
  /** Number of the region that control entered last; `noRegion` in the interpreter. */
  region: 0x520,
  /** Reasons (bits, see hooks.ts) for which kernel entries must leave `run`; 0 = the personality's functions are called. */
  holdHooks: 0x524,
  /** MFN of the current top-level page table. */
  rootMfn: 0x528,
  /** u32: times that a region did not apply after all. */
  regionMisfits: 0x52c,
  /** Host address of the bank of TLBs that the current address space uses. */
  tlb: 0x530,
  /** i32: instructions that the interpreter may still run; less than 0 once it has run too many. */
  budget: 0x534,
  /** Copies of accesses that cross a page. */
  bounce: 0x540,
  /** Scratch of helpers: 64 bytes for 128-bit arithmetic, 512 + alignment for fxsave. */
  work: 0x580,
  fxsave: 0x600,
  /** Numbers of the banks that belong to roots at CPL 3: sets of entries {mfn u32, bank u32}, see RootBanks. */
  rootBanks: 0x820,
  /** Address of a u32 table: misses (RegionEnd.Missed) by region number; and how many of them are worth telling. */
  regionMisses: 0xc20,
  missLimit: 0xc24,
  /**
   * u64, never 0: grows whenever a TLB entry for execution is lost. What was found out about several pages holds for the same address space
   * until it does.
   */
  execEpoch: 0xc30,
  /** u64, low half 0: grows whenever a region goes. Links from region to region hold until it does, see RegionLink. */
  linkEpoch: 0xc38,
  /** u32: times that an address space was switched to; and u32 per bank: what that was when it was this one's. */
  switches: 0xc40,
  bankUse: 0xc44,
  /** With Exit.CodeWrite: where in the page the write goes, as `codeBits`. */
  codeBits: 0xc28,
  /** What the platform that plays hypervisor or firmware keeps per vCPU (engine/xen/fast/layout.ts), to `end`. */
  personality: 0x1000,
  end: 0x4000,
} as const;

/** Code is looked for in stretches of 128 bytes: a page has as many as a u32 has bits. */
export const codeChunkShift = 7;

/** Bits of the stretches that the offsets [from, to) of a page lie in; at least that of `from`. */
export function codeBits(from: number, to: number): number {
  let bits = 0;
  for (let chunk = from >>> codeChunkShift; chunk <= (Math.max(to, from + 1) - 1) >>> codeChunkShift; chunk++)
    bits |= 1 << chunk;
  return bits;
}

/** The whole page. */
export const allCodeBits = -1;

/** From the code map to the write map (both u32 per host page), in bytes: what 4 GiB of pages take. */
export const writeMapOffset = 4 << 20;
/** In the write map: more than one TLB entry, all of which have to be looked at. */
export const severalEntries = 1;
/** In the write map, with the address of a TLB entry: there may be others at the same place of other banks, but nowhere else. */
export const inAnyBank = 2;

/** Shape of ST.rootBanks: a root is in set `mfn mod sets`, in any way. */
export const RootBanks = { sets: 64, ways: 2, entryBytes: 8 } as const;

/** Faults whose vector depends on the instruction, which only `VCpu` looks at again. */
export const SegmentFault = {
  none: 0,
  /** #GP for a non-canonical address: may have to become #SS. */
  nonCanonical: 1,
  /** A limit or type check outside 64-bit mode: exceptions of the x87 and SIMD units come before it. */
  checked: 2,
} as const;

export const Seg = { es: 0, cs: 1, ss: 2, ds: 3, fs: 4, gs: 5 } as const;

/**
 * Direct-mapped TLBs of 4096 entries x 16 bytes: tag i64 (address of the page's last byte), addend u32 (host address minus guest address), pad.
 * An access whose last byte is at `last` hits when `tag - last` is below 4096 without a sign: its first byte has chosen the entry, so that one
 * which begins in the page before misses. One TLB for each kind of access makes a bank, which belongs to one address space (root and privilege)
 * at a time (tlb-banks.ts): tags need not tell whose they are, and programs that take turns at the same addresses do not push each other out.
 */
export const Tlb = {
  read: 0,
  write: 0x10000,
  exec: 0x20000,
  bytes: 0x10000,
  bankBytes: 0x30000,
  banks: 8,
  offset: 0x120000,
} as const;

/**
 * Low half of the tag of an empty entry for addresses with this low half; the high half is 0. A page half a table away, whose accesses choose another
 * entry, as do those that begin in the page before: nothing hits it. (All ones would be the tag of the last page there is.)
 */
export const emptyTag = (lo: number): number => (lo & 0xfff000) ^ 0x800fff;

/**
 * Jump tables: per mode 16384 sets of two entries x 8 bytes: host address of code u32, micro-op address u32. A set is found by the address without
 * its low bits, so that neighbouring code shares lines of the cache, xor the same shifted.
 */
export const JumpTable = {
  offset: 0x10000,
  bytes: 0x40000,
  sets: 0x4000,
  lowBits: 2,
  hashShift: 14,
  modes: 3,
} as const;

/** What a computed jump in translated code keeps of where it goes: the last target (i64), how often it was the same again, and how often not. */
export const Site = { target: 0, same: 8, other: 12, bytes: 16 } as const;

/** What a conditional branch in translated code counts: times that control came to it, and that it was taken. */
export const BranchSite = { met: 0, taken: 4, bytes: 8 } as const;

/** In ST.timeBudget: further from any budget than a time-stamp may be old. */
export const noTimeBudget = -0x80000000;

/** In ST.region: no translated code runs. */
export const noRegion = 0xffffffff;

/** Most regions at a time; their fallback addresses are a table behind the jump tables. */
export const maxRegions = 0x2000;

/**
 * Places in the table of regions behind them, of what regions end with (chain.ts). Imported, each module's reference to it would be one more cold
 * line of the cache whenever one of its regions is left.
 */
export const ChainPlace = { goOn: maxRegions, syscall: maxRegions + 1 } as const;
export const regionTablePlaces = maxRegions + 2;

/** Copies of guest structures for `VCpu.copyIn`. */
export const scratchOffset = 0x100000;
export const scratchBytes = 0x10000;

/** u32 per region: see ST.regionFallback. */
export const regionFallbackOffset = scratchOffset + scratchBytes;

/** u32 per region: see ST.regionMisses. */
export const regionMissesOffset = regionFallbackOffset + 4 * maxRegions;

const tlbEnd = Tlb.offset + Tlb.banks * Tlb.bankBytes;

/**
 * Per bank of TLBs, which of its entries have been filled since it was emptied: their count (u16), then u16 per entry, its place in the bank in
 * entries. `most`: there may have been others, too. Most address spaces are short-lived, and emptying all of a bank costs the cache 192 KiB.
 */
export const FillLog = { offset: tlbEnd, filled: 2, most: 4095, bankBytes: 8192 } as const;

const fillLogEnd = FillLog.offset + Tlb.banks * FillLog.bankBytes;

const regionSets = { sets: 0x800, ways: 8, entryBytes: 8 } as const;

/**
 * Where translated code goes on from region to region without the interpreter: sets of eight entries, a line of the cache each, of host address of
 * code u32 (0 = none) and number of the region that begins there u32. Apart from the jump tables, which cost a miss of the cache at each of two
 * steps. Large enough that hardly any region has no place in it: to one without, the way is by the interpreter each time, as links only come from
 * what is found here.
 */
export const RegionTable = {
  offset: fillLogEnd,
  ...regionSets,
  bytes: regionSets.sets * regionSets.ways * regionSets.entryBytes,
  lowBits: 3,
  hashShift: 11,
} as const;

/** u8 per region number: which of the entries of its code it stands for. */
export const regionEntryOffset = RegionTable.offset + RegionTable.bytes;

/**
 * u32 per region number: host address of the region's slots (engine/translate/guards.ts). Those of regions made together share a line of the cache;
 * as an imported global, every module's took two lines of its own each time that one of its regions was entered.
 */
export const regionSlotsOffset = regionEntryOffset + maxRegions;

/**
 * Where translated code went on the last time that it left by some way: host address of code u32 and high half of ST.linkEpoch, compared as
 * one; number of the region that began there.
 */
export const RegionLink = { code: 0, epoch: 4, region: 8, bytes: 12 } as const;

/**
 * u32 per entry: host address of the link behind the call that pushed its return address at this place on the stack, modulo their number; 0 = none
 * known. Only a guess: links are checked.
 */
export const ReturnLinks = { offset: regionSlotsOffset + 4 * maxRegions, entries: 0x200, bytes: 0x800 } as const;

/** Bytes of one vCPU's block. */
export const vcpuBlockBytes = ReturnLinks.offset + ReturnLinks.bytes;

/** The record that a block which may be translated begins with, relative to its start: entries until somebody looks. */
export const BlockHeader = { entriesLeft: 4, bytes: 8 } as const;

/** Byte offsets inside a micro-op record; records have 8 bytes of header and optional parts in this order: memory, immediate, link. */
export const Uop = {
  handler: 0,
  /** Start of the instruction, relative to its page. */
  off: 2,
  r0: 4,
  r1: 6,
  base: 8,
  index: 9,
  scale: 10,
  seg: 11,
  disp: 12,
} as const;

/**
 * Records of code that was overwritten, and which may still be linked to: the record to go on at (u32), or, odd, the host address of the
 * frame that the code lies in and whether its header is passed by.
 */
export const Stale = { next: 4, isUnknown: 1, isBody: 2 } as const;

/** Number of the set of such a table that code at a host address belongs to. */
export function setOf({ lowBits, hashShift, sets }: typeof JumpTable | typeof RegionTable, host: number): number {
  const place = host >>> lowBits;
  return (place ^ (place >>> hashShift)) & (sets - 1);
}

/** Fields of the link part of a block-ending record, relative to its start. */
export const Link = {
  /** Instructions in the block. */
  count: 0,
  /** Offset of the following instruction, relative to the page of the block. */
  next: 2,
  /** Branch displacement relative to the following instruction. */
  rel: 4,
  /** Micro-op address of the target and of the fall-through; 0 = not linked yet. */
  taken: 8,
  notTaken: 12,
  /** Times that it went either way, where it is a branch with a handler of its own. */
  timesTaken: 16,
  timesNotTaken: 20,
  bytes: 24,
} as const;
