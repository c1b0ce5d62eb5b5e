// SPDX-License-Identifier: MIT
// A whole paravirtualised machine: memory, vCPU, domain, xenstore and console put together, and the loop that runs it.

import { MachineMemory } from '../cpu/memory.ts';
import { VCpu, type InterpreterCode, type Tier, type VCpuStatistics } from '../cpu/vcpu.ts';
import { ConsoleRing } from '../devices/console/ring.ts';
import { pvError } from '../errors.ts';
import { readElf } from '../formats/elf.ts';
import { readXenKernelInfo } from '../formats/xen-notes.ts';
import type { BlockStore, MachineHost, ModuleCompiler } from '../host.ts';
import { buildDomain } from './builder.ts';
import { cpuid, defaultCpuPolicy } from './cpuid.ts';
import { Domain } from './domain.ts';
import { handleExit, returnToGuest } from './exits.ts';
import { ENTRY_CONSOLE, ENTRY_XENSTORE } from './grants.ts';
import { BYTES_PER_FRAME } from './page-types.ts';
import { VcpuState } from './sched.ts';
import { writeDomainTree } from './store/domain-tree.ts';
import { HostStore } from './store/host-store.ts';
import { XenstoreRing } from './store/ring.ts';
import { Store } from './store/store.ts';

const pageBytes = 4096;
/** Distance of machine frame numbers from guest frame numbers: mixing the two up shows at once. */
const mfnBase = 0x10000;
/** Xen's frames beside the M2P and its tables: grant frames of both kinds, shared info, descriptor tables. */
const otherXenFrames = 512;
/** Instructions between looks at the clock. */
const instructionsPerCheck = 100_000;
const domid = 1;

export type MfnOrder = 'offset' | 'permuted';

export interface PvMachineOptions {
  readonly name?: string;
  readonly uuid?: string;
  readonly memoryBytes: number;
  /** ELF image of the kernel, already decompressed. */
  readonly kernel: Uint8Array;
  readonly initrd?: Uint8Array;
  readonly commandLine: string;
  readonly host: MachineHost;
  readonly interpreter: InterpreterCode;
  /** Where translations are kept between runs; without it every run starts cold. */
  readonly blocks?: BlockStore;
  /** What compiles translations; by default V8 does it each time anew. */
  readonly compiler?: ModuleCompiler;
  /** What is translated to WebAssembly; default: hot code. */
  readonly tier?: Tier;
  /** Kernel entries, exits and frequent hypercalls are handled by generated code where possible; default true. */
  readonly fastPaths?: boolean;
  /** How machine frames follow guest frames: a constant distance, or a fixed permutation that brings confusions to light. */
  readonly mfnOrder?: MfnOrder;
}

export type Outcome =
  | { readonly kind: 'poweroff' }
  | { readonly kind: 'reboot' }
  | { readonly kind: 'suspend' }
  | { readonly kind: 'crash'; readonly reason: string };

export type RunResult =
  | { readonly state: 'running' }
  /** Nothing to do before `wakeAtNs` of system time (Infinity: before an event from outside). */
  | { readonly state: 'idle'; readonly wakeAtNs: number }
  | { readonly state: 'ended'; readonly outcome: Outcome };

export interface MachineStats extends VCpuStatistics {
  readonly instructions: number;
  /** By name. */
  readonly hypercalls: Record<string, number>;
  /** Traps delivered to the guest, by vector. */
  readonly faults: Record<string, number>;
  /** Everything else that was counted: refusals, ring faults. */
  readonly counters: Record<string, number>;
  readonly upcalls: number;
}

/** A permutation of 0..n-1 from a fixed seed (Fisher and Yates with a linear congruential generator). */
function permutation(n: number): Uint32Array {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  let seed = 0x2545f491;
  for (let i = n - 1; i > 0; i--) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const j = seed % (i + 1);
    const swap = order[i]!;
    order[i] = order[j]!;
    order[j] = swap;
  }
  return order;
}

function checkMemorySize(bytes: number): void {
  if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes % pageBytes !== 0) {
    throw pvError('memory-size-invalid', { size: bytes, detail: 'it is not a positive multiple of 4096' });
  }
}

export class PvMachine {
  readonly memory: MachineMemory;
  readonly domain: Domain;
  readonly cpu: VCpu;
  readonly store: HostStore;
  /** Lines that describe the domain's layout, as the domain builder of Xen logs them. */
  readonly layout: readonly string[];
  private readonly host: MachineHost;
  private readonly console: ConsoleRing;
  private readonly storeRing: XenstoreRing;

  /** Builds the domain and puts it at its first instruction. Throws PvError for kernels, sizes and command lines that cannot be used. */
  static create(options: PvMachineOptions): Promise<PvMachine> {
    return Promise.resolve().then(() => new PvMachine(options));
  }

  private constructor(options: PvMachineOptions) {
    const { host } = options;
    this.host = host;
    checkMemorySize(options.memoryBytes);
    const elf = readElf(options.kernel);
    const kernel = readXenKernelInfo(elf);
    if (!kernel) throw pvError('kernel-no-pv-support', { path: options.name ?? 'the kernel image' });
    const pages = options.memoryBytes / pageBytes;
    const m2pFrames = Math.ceil(((mfnBase + pages) * 8 * 1.01) / pageBytes);
    const xenFrames = m2pFrames + Math.ceil(m2pFrames / 512) + otherXenFrames;
    const mfnLimit = mfnBase + pages + xenFrames;
    const memory = new MachineMemory({
      vcpus: 1,
      guestBytes: options.memoryBytes,
      xenFrames,
      mfnLimit,
      bytesPerFrame: BYTES_PER_FRAME,
    });
    this.memory = memory;

    const order = options.mfnOrder === 'permuted' ? permutation(pages) : undefined;
    const p2m = new Uint32Array(pages);
    for (let pfn = 0; pfn < pages; pfn++) {
      const mfn = mfnBase + (order ? order[pfn]! : pfn);
      p2m[pfn] = mfn;
      memory.setFrame(mfn, memory.layout.guest + pfn * pageBytes);
    }
    let nextXenFrame = 0;
    const allocateXenFrame = (): number => {
      if (nextXenFrame >= xenFrames) return 0;
      const n = nextXenFrame++;
      const mfn = mfnBase + pages + n;
      memory.setFrame(mfn, memory.layout.xen + n * pageBytes);
      return mfn;
    };

    const registers = new Uint32Array(4);
    const result: [number, number, number, number] = [0, 0, 0, 0];
    this.cpu = new VCpu(
      memory,
      0,
      options.interpreter,
      {
        cpuid: (leaf, subleaf) => {
          cpuid(defaultCpuPolicy, leaf, subleaf, 0, registers);
          for (let i = 0; i < 4; i++) result[i] = registers[i]!;
          return result;
        },
        tsc: () => this.domain.time.nowNs(),
        randomWord: () => host.randomWord(),
        descriptorAddress: (selector) => this.domain.descriptorAddress(0, selector),
        nowMs: () => host.monotonicNs() / 1e6,
        ...(options.blocks && { blocks: options.blocks }),
        ...(options.compiler && { compiler: options.compiler }),
      },
      options.tier,
    );
    this.cpu.setCpl(3);
    this.domain = new Domain({
      mem: memory,
      host,
      cpus: [this.cpu],
      frames: mfnLimit,
      allocateXenFrame,
      domid,
      pageStorage: { buffer: memory.wasm.buffer, offset: memory.layout.frameStates },
      memoryMap: [{ address: 0, size: options.memoryBytes, type: 1 }],
      fastPaths: options.fastPaths ?? true,
    });
    const { domain } = this;
    for (let pfn = 0; pfn < pages; pfn++) domain.assignFrame(p2m[pfn]!, pfn);

    const storePort = domain.events.bindInterdomainToHost(() => this.storeRing.service());
    const consolePort = domain.events.bindInterdomainToHost(() => this.console.service());
    const built = buildDomain({
      mem: memory,
      p2m,
      sharedInfoMfn: domain.sharedInfoMfn,
      storePort,
      consolePort,
      elf,
      kernel,
      initrd: options.initrd,
      commandLine: options.commandLine,
    });
    this.layout = built.description;
    domain.grants.seed(ENTRY_CONSOLE, built.consoleMfn);
    domain.grants.seed(ENTRY_XENSTORE, built.storeMfn);

    const store = new Store();
    this.store = new HostStore(store);
    writeDomainTree(this.store, {
      domid,
      name: options.name ?? 'guest',
      uuid: options.uuid ?? '00000000-0000-0000-0000-000000000000',
      vcpus: 1,
      memoryKib: options.memoryBytes / 1024,
      storePort,
      storeMfn: built.storeMfn,
      consolePort,
      consoleMfn: built.consoleMfn,
    });
    store.introduce(domid);
    this.storeRing = new XenstoreRing({
      mem: memory,
      page: memory.hostOf(built.storeMfn),
      store,
      domid,
      counters: domain.counters,
      notifyGuest: () => domain.events.raise(storePort),
    });
    this.console = new ConsoleRing({
      mem: memory,
      page: memory.hostOf(built.consoleMfn),
      counters: domain.counters,
      notifyGuest: () => domain.events.raise(consolePort),
      onOutput: (bytes) => host.consoleOut(bytes),
    });
    const error = domain.start({
      entry: built.entry,
      stackPointer: built.stackPointer,
      startInfo: built.startInfo,
      cr3Mfn: built.cr3Mfn,
    });
    if (error !== 0)
      throw pvError('kernel-layout-invalid', { detail: `its initial page tables were refused (${error})` });
  }

  /** Runs guest code for about `sliceNs` of host time, less when the guest idles or ends. */
  run(sliceNs: number): RunResult {
    const { domain, cpu } = this;
    const { sched, time } = domain;
    const vcpu = domain.vcpus[0]!;
    const end = this.host.monotonicNs() + sliceNs;
    for (let ran = false; ; ran = true) {
      if (sched.shutdown) return { state: 'ended', outcome: this.outcome() };
      // The one look at the clock for each time that the guest is left: it costs as much as many a hypercall.
      const now = time.nowNs();
      if (ran && now >= end) return { state: 'running' };
      if (now >= time.nextDeadline()) {
        time.fire(now);
        // A watchdog may have ended the domain.
        if (sched.shutdown) continue;
      }
      if (sched.state(0) !== VcpuState.Runnable) {
        const wakeAtNs = time.nextDeadline();
        if (wakeAtNs <= time.nowNs()) continue;
        return { state: 'idle', wakeAtNs };
      }
      returnToGuest(domain, vcpu);
      handleExit(domain, vcpu, cpu.run(instructionsPerCheck));
      if (sched.takeYield(0)) {
        // Boot loaders only ever yield: their rings are looked at without a notification.
        this.storeRing.service();
        this.console.service();
      }
    }
  }

  private outcome(): Outcome {
    const record = this.domain.sched.shutdown!;
    switch (record.reason) {
      case 'poweroff':
      case 'reboot':
      case 'suspend':
        return { kind: record.reason };
      case 'crash':
        return { kind: 'crash', reason: record.message ?? 'the guest reported a crash' };
      default:
        return { kind: 'crash', reason: record.message ?? `the guest stopped: ${record.reason}` };
    }
  }

  /** Offers console input; returns the bytes accepted. */
  consoleInput(bytes: Uint8Array): number {
    return this.console.push(bytes);
  }

  /**
   * Offers the size in xenstore as console/size, "COLUMNSxROWS", for a guest that looks there. The console's own protocol has no word for it,
   * and Linux's driver never asks; a guest without such a reader must be told by `stty`.
   */
  setConsoleSize(columns: number, rows: number): void {
    this.store.write(`/local/domain/${domid}/console/size`, `${columns}x${rows}`);
  }

  /** Asks the guest to end by itself, through control/shutdown in xenstore. */
  requestShutdown(kind: 'poweroff' | 'reboot'): void {
    this.store.write(`/local/domain/${domid}/control/shutdown`, kind);
  }

  stats(): MachineStats {
    const { domain, cpu } = this;
    const hypercalls = domain.hypercalls.counts();
    const counters = Object.fromEntries(domain.counters.snapshot());
    const faults: Record<string, number> = {};
    domain.trapCounts().forEach((n, vector) => {
      if (n) faults[vector] = n;
    });
    return {
      instructions: cpu.instructions,
      hypercalls: Object.fromEntries(hypercalls),
      faults,
      counters,
      upcalls: domain.upcalls,
      ...cpu.statistics(),
    };
  }
}
