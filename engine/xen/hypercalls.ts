// SPDX-License-Identifier: MIT
// The hypercall table of a 64-bit PV guest: numbers, names, dispatch, multicall, counting and tracing (public/xen.h).

import type { CallContext, DomainCall } from './call-context.ts';
import { callbackOp, nmiOp, setCallbacks, setTrapTable } from './callbacks.ts';
import type { Domain } from './domain.ts';
import { consoleIo } from './debug-console.ts';
import { getDebugreg, setDebugreg } from './debug-registers.ts';
import { setGdt, setSegmentBase, updateDescriptor } from './descriptors.ts';
import { EFAULT, EINVAL, ENOSYS, EOPNOTSUPP, EPERM } from './errno.ts';
import { eventChannelOp, eventChannelOpCompat } from './event-channel-op.ts';
import { hypercallNumbers } from './fast/layout.ts';
import { grantTableOp } from './grant-table-op.ts';
import { Access, Gpr, gprIndex, noteWrite } from './guest-cpu.ts';
import { hypervisorIret } from './iret.ts';
import { memoryOp } from './memory-op.ts';
import { mmuextOp } from './mmu-ext.ts';
import { mmuUpdate, updateVaMapping, updateVaMappingOtherdomain } from './mmu-update.ts';
import { physdevOp, physdevOpCompat } from './physdev.ts';
import { schedOp, schedOpCompat } from './sched.ts';
import { setTimerOp } from './time-op.ts';
import { fpuTaskswitch, stackSwitch } from './vcpu-calls.ts';
import { vcpuOp } from './vcpu-op.ts';
import type { XenVcpu } from './vcpu-state.ts';
import { xenVersion } from './version.ts';
import { vmAssist } from './vm-assist.ts';

/** Names by number, as in public/xen.h; an empty name is an unused number. */
export const HYPERCALL_NAMES = [
  'set_trap_table',
  'mmu_update',
  'set_gdt',
  'stack_switch',
  'set_callbacks',
  'fpu_taskswitch',
  'sched_op_compat',
  'platform_op',
  'set_debugreg',
  'get_debugreg',
  'update_descriptor',
  '',
  'memory_op',
  'multicall',
  'update_va_mapping',
  'set_timer_op',
  'event_channel_op_compat',
  'xen_version',
  'console_io',
  'physdev_op_compat',
  'grant_table_op',
  'vm_assist',
  'update_va_mapping_otherdomain',
  'iret',
  'vcpu_op',
  'set_segment_base',
  'mmuext_op',
  'xsm_op',
  'nmi_op',
  'sched_op',
  'callback_op',
  'xenoprof_op',
  'event_channel_op',
  'physdev_op',
  'hvm_op',
  'sysctl',
  'domctl',
  'kexec_op',
  'tmem_op',
  'argo_op',
  'xenpmu_op',
  'dm_op',
  'hypfs_op',
  '',
  '',
  '',
  '',
  '',
  'mca',
] as const;

const IRET = 23;
const MULTICALL = 13;
const MULTICALL_ENTRY_BYTES = 64;
const NUMBERS = hypercallNumbers;

/** One hypercall as the trace hook sees it. The arrays are live: copy what is kept. */
export interface HypercallTrace {
  readonly number: number;
  readonly argLo: Uint32Array;
  readonly argHi: Uint32Array;
  /** Negative for an error; undefined for iret, which has no result. */
  readonly result: number | undefined;
  readonly vcpu: number;
  readonly inMulticall: boolean;
}

const refuse = (): number => -EPERM;
/** What Xen answers to xenpmu_op while its virtual performance counters are switched off, as they are by default. */
const refusePerformanceCounters = (): number => -EOPNOTSUPP;

/** Dispatches the hypercalls of one domain. */
export class HypercallTable {
  /** Called after every hypercall when set. Arguments may have been overwritten by a multicall. */
  trace: ((record: HypercallTrace) => void) | null = null;
  private readonly domain: Domain;
  private readonly handlers: (DomainCall | undefined)[] = new Array<DomainCall | undefined>(NUMBERS).fill(undefined);
  private inMulticall = false;

  constructor(domain: Domain) {
    this.domain = domain;
    const entries: readonly [number, DomainCall][] = [
      [0, setTrapTable],
      [1, mmuUpdate],
      [2, setGdt],
      [3, stackSwitch],
      [4, setCallbacks],
      [5, fpuTaskswitch],
      [6, schedOpCompat],
      [7, refuse],
      [8, setDebugreg],
      [9, getDebugreg],
      [10, updateDescriptor],
      [12, memoryOp],
      [MULTICALL, (ctx): number => this.multicall(ctx)],
      [14, updateVaMapping],
      [15, setTimerOp],
      [16, eventChannelOpCompat],
      [17, xenVersion],
      [18, consoleIo],
      [19, physdevOpCompat],
      [20, grantTableOp],
      [21, vmAssist],
      [22, updateVaMappingOtherdomain],
      [
        IRET,
        (ctx): number => {
          hypervisorIret(this.domain, ctx.vcpu);
          return 0;
        },
      ],
      [24, vcpuOp],
      [25, setSegmentBase],
      [26, mmuextOp],
      [28, nmiOp],
      [29, schedOp],
      [30, callbackOp],
      [32, eventChannelOp],
      [33, physdevOp],
      [35, refuse],
      [36, refuse],
      [37, refuse],
      [40, refusePerformanceCounters],
      [41, refuse],
      [48, refuse],
    ];
    for (const [number, handler] of entries) this.handlers[number] = handler;
  }

  /** Executes the hypercall a vCPU's registers describe and stores its result in rax. */
  dispatch(v: XenVcpu): void {
    const ctx = this.domain.contextOf(v);
    const { u32 } = ctx.mem;
    const { argLo, argHi } = ctx;
    const gpr = gprIndex(v.cpu, 0);
    loadArgument(u32, gpr + Gpr.rdi * 2, argLo, argHi, 0);
    loadArgument(u32, gpr + Gpr.rsi * 2, argLo, argHi, 1);
    loadArgument(u32, gpr + Gpr.rdx * 2, argLo, argHi, 2);
    loadArgument(u32, gpr + Gpr.r10 * 2, argLo, argHi, 3);
    loadArgument(u32, gpr + Gpr.r8 * 2, argLo, argHi, 4);
    loadArgument(u32, gpr + Gpr.r9 * 2, argLo, argHi, 5);
    v.frameReplaced = false;
    const number = u32[gpr + 1] === 0 ? u32[gpr] : NUMBERS;
    const result = this.call(ctx, number);
    if (!v.frameReplaced) storeResult(ctx, gpr, result);
  }

  /** How often each hypercall was made, by name, without those never made. */
  counts(): Map<string, number> {
    const out = new Map<string, number>();
    for (let number = 0; number < NUMBERS; number++) {
      const count = this.domain.vcpus.reduce((sum, v) => sum + v.hypercallCounts[number], 0);
      if (count !== 0) out.set(HYPERCALL_NAMES[number] || `hypercall_${number}`, count);
    }
    return out;
  }

  private call(ctx: CallContext, number: number): number {
    ctx.wide = false;
    const handler = this.handlers[number];
    if (number < NUMBERS) ctx.vcpu.hypercallCounts[number]++;
    const firstArgument = ctx.argLo[0];
    const result = handler === undefined ? -ENOSYS : handler(ctx);
    if (result === -ENOSYS) {
      const name = HYPERCALL_NAMES[number] || `hypercall_${number}`;
      // Sub-operations are small numbers; anything else in the first argument would make a counter per call.
      this.domain.counters.count(firstArgument < 256 ? `enosys.${name}.${firstArgument}` : `enosys.${name}`);
    }
    if (this.trace !== null) {
      this.trace({
        number,
        argLo: ctx.argLo,
        argHi: ctx.argHi,
        vcpu: ctx.vcpu.id,
        inMulticall: this.inMulticall,
        result: number === IRET ? undefined : result,
      });
    }
    return result;
  }

  /** multicall(list*, n): entries {op, result, args[6]}; stops at the end, at a fault, or when an iret leaves the list. */
  private multicall(ctx: CallContext): number {
    if (this.inMulticall) return -EINVAL;
    this.inMulticall = true;
    const result = this.runList(ctx, ctx.argLo[0], ctx.argHi[0], ctx.argLo[1]);
    this.inMulticall = false;
    ctx.wide = false;
    return result;
  }

  private runList(ctx: CallContext, listLo: number, listHi: number, count: number): number {
    const { u32 } = ctx.mem;
    const { argLo, argHi } = ctx;
    let lo = listLo;
    let hi = listHi;
    for (let n = 0; n < count && this.domain.shutdown === null; n++) {
      const entry = ctx.readIndex(lo, hi, MULTICALL_ENTRY_BYTES);
      if (entry === -1) return -EFAULT;
      const number = u32[entry + 1] === 0 ? u32[entry] : NUMBERS;
      for (let a = 0; a < 6; a++) loadArgument(u32, entry + 4 + a * 2, argLo, argHi, a);
      const result = this.call(ctx, number);
      // An iret inside the list has left for another context: nothing of the list is run or written any more.
      if (ctx.vcpu.frameReplaced) return 0;
      const resultLo = (lo + 8) >>> 0;
      const resultHi = resultLo < lo ? (hi + 1) >>> 0 : hi;
      const host = ctx.vcpu.cpu.translate(resultLo, resultHi, Access.write);
      if (host === -1) return -EFAULT;
      if ((resultLo & 3) !== 0 || (resultLo & 0xfff) > 4088) {
        if (!ctx.guest.copyOut(resultLo, resultHi, resultBytes(ctx, result))) return -EFAULT;
      } else {
        storeResult(ctx, host >>> 2, result);
        noteWrite(ctx.vcpu.cpu, host);
      }
      const next = lo + MULTICALL_ENTRY_BYTES;
      if (next > 0xffffffff) hi = (hi + 1) >>> 0;
      lo = next >>> 0;
    }
    return 0;
  }
}

function loadArgument(u32: Uint32Array, from: number, argLo: Uint32Array, argHi: Uint32Array, n: number): void {
  argLo[n] = u32[from];
  argHi[n] = u32[from + 1];
}

/** Stores a handler's result as a 64-bit word at an index of the u32 view. */
function storeResult(ctx: CallContext, at: number, result: number): void {
  const { u32 } = ctx.mem;
  if (ctx.wide) {
    u32[at] = ctx.wideLo;
    u32[at + 1] = ctx.wideHi;
  } else {
    u32[at] = result;
    u32[at + 1] = result < 0 ? 0xffffffff : Math.floor(result / 0x100000000);
  }
}

/** The same as bytes, for a list that is not aligned. */
function resultBytes(ctx: CallContext, result: number): Uint8Array {
  const words = ctx.wide
    ? [ctx.wideLo, ctx.wideHi]
    : [result >>> 0, result < 0 ? 0xffffffff : Math.floor(result / 0x100000000)];
  return new Uint8Array(new Uint32Array(words).buffer);
}
