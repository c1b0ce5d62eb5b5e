// SPDX-License-Identifier: MIT
// Why guest execution stopped: the values that `VCpu.run` returns.

/** Reasons for which `VCpu.run` returns to its caller; numbers are shared with the generated WebAssembly. */
export const Exit = {
  /** The instruction budget is used up; rip is the next instruction. */
  Budget: 0,
  /** A fault or trap: vector, errorCode and cr2 are in the state block; rip is the faulting instruction (after it for traps). */
  Exception: 1,
  /** SYSCALL executed; rip is the next instruction, rcx and r11 are untouched. */
  Syscall: 2,
  /** INT n (also INT3, INTO, INT1): vector in exitArg; rip is the next instruction. */
  SoftInt: 3,
  /** HLT at CPL 0; rip is the next instruction. */
  Halt: 4,
  /** SYSENTER executed; rip is the next instruction. */
  Sysenter: 5,
  /** Internal to VCpu: rip has no decoded block, or the mode changed. */
  Lookup: 16,
  /** Internal to VCpu: the branch micro-op at exitPc is not linked; rip is the address that it wants. */
  LinkTaken: 17,
  LinkNotTaken: 18,
  /** Internal to VCpu: the instruction at rip is about to change decoded code at cr2's page. */
  CodeWrite: 19,
  /** Internal to VCpu: the block at rip has been entered as often as its header said. */
  Busy: 21,
  /** Internal to VCpu: the translated region in exitArg has been left by RegionEnd.Missed for the `ST.missLimit`-th time. */
  Misses: 22,
  /** Internal to VCpu: the record at exitPc is of code that was overwritten; rip is its address. */
  Stale: 23,
} as const;

export type ExitReason = (typeof Exit)[keyof typeof Exit];

/** How a region of translated code ended, in ST.regionEnd. */
export const RegionEnd = {
  /** rip is the next instruction to execute. */
  Jump: 0,
  /** Leave `run` with ST.exitCode; rip is set. */
  Leave: 1,
  /** The region does not apply here (a page is mapped elsewhere): nothing was executed. */
  Fallback: 2,
  /** SYSCALL was executed: known inside translated code only. */
  Syscall: 3,
  /** The access at rip missed the TLB, or a number there is out of the ordinary: the interpreter goes on with it, even if a region begins there. */
  Missed: 4,
  /** The access at rip is one that translated code does not know how to make: the interpreter goes on with it, even if a region begins there. */
  Careful: 5,
} as const;
