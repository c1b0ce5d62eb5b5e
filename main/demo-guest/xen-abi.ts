// SPDX-License-Identifier: MIT
// The 64-bit Xen PV ABI as guest code needs it: hypercall numbers, structure offsets, constants (xen/include/public).

export const HYPERCALL = {
  set_trap_table: 0,
  mmu_update: 1,
  set_gdt: 2,
  stack_switch: 3,
  set_callbacks: 4,
  fpu_taskswitch: 5,
  sched_op_compat: 6,
  platform_op: 7,
  set_debugreg: 8,
  get_debugreg: 9,
  update_descriptor: 10,
  memory_op: 12,
  multicall: 13,
  update_va_mapping: 14,
  set_timer_op: 15,
  event_channel_op_compat: 16,
  xen_version: 17,
  console_io: 18,
  physdev_op_compat: 19,
  grant_table_op: 20,
  vm_assist: 21,
  update_va_mapping_otherdomain: 22,
  iret: 23,
  vcpu_op: 24,
  set_segment_base: 25,
  mmuext_op: 26,
  xsm_op: 27,
  nmi_op: 28,
  sched_op: 29,
  callback_op: 30,
  xenoprof_op: 31,
  event_channel_op: 32,
  physdev_op: 33,
  hvm_op: 34,
  sysctl: 35,
  domctl: 36,
  kexec_op: 37,
  tmem_op: 38,
  argo_op: 39,
  xenpmu_op: 40,
  dm_op: 41,
} as const;
export type HypercallName = keyof typeof HYPERCALL;

/** Error numbers as hypercalls return them (negated). */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  ENXIO: 6,
  E2BIG: 7,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOSPC: 28,
  ENOSYS: 38,
  ENODATA: 61,
  ETIME: 62,
  EOPNOTSUPP: 95,
} as const;

export const START_INFO = {
  magic: 0x00,
  nrPages: 0x20,
  sharedInfo: 0x28,
  flags: 0x30,
  storeMfn: 0x38,
  storePort: 0x40,
  consoleMfn: 0x48,
  consolePort: 0x50,
  pageTableBase: 0x58,
  nrPageTableFrames: 0x60,
  mfnList: 0x68,
  moduleStart: 0x70,
  moduleLength: 0x78,
  commandLine: 0x80,
} as const;

export const SHARED_INFO = {
  pendingEvents: 0x800,
  eventMask: 0xa00,
  wallClockVersion: 0xc00,
  wallClockSeconds: 0xc04,
  wallClockNanoseconds: 0xc08,
  wallClockSecondsHigh: 0xc0c,
  maxPfn: 0xc10,
} as const;

/** Offsets in vcpu_info, of which the first 32 lie at the start of shared_info, 64 bytes each. */
export const VCPU_INFO = {
  upcallPending: 0x00,
  upcallMask: 0x01,
  pendingSelector: 0x08,
  cr2: 0x10,
  timeVersion: 0x20,
  tscTimestamp: 0x28,
  systemTime: 0x30,
  tscMultiplier: 0x38,
  tscShift: 0x3c,
  timeFlags: 0x3d,
} as const;

export const CONSOLE_RING = {
  input: 0x000,
  inputSize: 1024,
  output: 0x400,
  outputSize: 2048,
  inputConsumer: 0xc00,
  inputProducer: 0xc04,
  outputConsumer: 0xc08,
  outputProducer: 0xc0c,
} as const;

export const STORE_RING = {
  request: 0x000,
  response: 0x400,
  size: 1024,
  requestConsumer: 0x800,
  requestProducer: 0x804,
  responseConsumer: 0x808,
  responseProducer: 0x80c,
} as const;

/** Selectors in Xen's part of the GDT, as a 64-bit guest uses them. */
export const FLAT_KERNEL_CS = 0xe030;
export const FLAT_USER_CS = 0xe033;
export const FLAT_USER_CS32 = 0xe023;
export const FLAT_DS = 0xe02b;

export const DOMID_SELF = 0x7ff0;
export const DOMID_IO = 0x7ff1;

export const VIRQ = { timer: 0, debug: 1, console: 2 } as const;

export const SCHED_OP = {
  yield: 0,
  block: 1,
  shutdown: 2,
  poll: 3,
  remoteShutdown: 4,
  shutdownCode: 5,
  watchdog: 6,
} as const;
export const SHUTDOWN = { poweroff: 0, reboot: 1, suspend: 2, crash: 3, watchdog: 4 } as const;

export const EVTCHN_OP = {
  bindInterdomain: 0,
  bindVirq: 1,
  bindPirq: 2,
  close: 3,
  send: 4,
  status: 5,
  allocUnbound: 6,
  bindIpi: 7,
  bindVcpu: 8,
  unmask: 9,
  reset: 10,
  initControl: 11,
  expandArray: 12,
  setPriority: 13,
} as const;

export const CALLBACK_OP = { register: 0, unregister: 1 } as const;
export const CALLBACK = { event: 0, failsafe: 1, syscall: 2, nmi: 4, sysenter: 5, syscall32: 7 } as const;

export const MMUEXT = {
  pinL1: 0,
  pinL2: 1,
  pinL3: 2,
  pinL4: 3,
  unpin: 4,
  newBasePointer: 5,
  tlbFlushLocal: 6,
  invlpgLocal: 7,
  tlbFlushMulti: 8,
  invlpgMulti: 9,
  tlbFlushAll: 10,
  invlpgAll: 11,
  flushCache: 12,
  setLdt: 13,
  newUserBasePointer: 15,
  clearPage: 16,
  copyPage: 17,
} as const;

/** Flags of update_va_mapping. */
export const UVMF = { none: 0, tlbFlush: 1, invlpg: 2 } as const;

/** Page-table entry bits. */
export const PTE = { present: 1, writable: 2, user: 4, accessed: 0x20, dirty: 0x40, pageSize: 0x80 } as const;
/** Present, writable, user, accessed, dirty. */
export const PTE_RW = 0x67;
/** Present, user, accessed. */
export const PTE_RO = 0x25;
/** Address of the M2P table in every 64-bit PV address space. */
export const M2P_VIRT_START = 0xffff800000000000n;
