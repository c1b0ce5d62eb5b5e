// SPDX-License-Identifier: MIT
// Runs a micro-guest in process: a host stub whose clock skips idle time, a loop until the guest ends, and the test wrapper.
import { performance } from 'node:perf_hooks';
import { describe, expect, it } from 'vitest';
import type { InterpreterCode } from '../../../engine/cpu/vcpu.ts';
import type { MachineHost } from '../../../engine/host.ts';
import type { Assembler } from '../../../engine/x86/assembler/assembler.ts';
import { PvMachine, type Outcome } from '../../../engine/xen/machine.ts';
import { loadInterpreter } from '../../../main/build/interpreter-files.ts';
import { randomWord } from '../../../main/vm/random-word.ts';
import { REAL_XEN_DIFFERENCES, runOnRealXen } from './real-xen.ts';
import { microGuest, type GuestLib, type MicroGuest, type MicroGuestOptions } from './lib/guest.ts';

const MFN_ORDERS = ['offset', 'permuted'] as const;
export type MfnOrder = (typeof MFN_ORDERS)[number];

const SLICE_NS = 5_000_000;
const DEFAULT_INSTRUCTION_LIMIT = 20_000_000;

/** Something that happens once the output contains a text: keys are typed, or the machine is told something. */
export interface Step {
  readonly waitFor: string;
  readonly send?: string;
  readonly action?: (machine: PvMachine) => void;
}

export interface RunOptions {
  readonly mfnOrder?: MfnOrder;
  /** Kernel entries and frequent hypercalls by generated code; default true. */
  readonly fastPaths?: boolean;
  readonly commandLine?: string;
  readonly memoryBytes?: number;
  readonly initrd?: Uint8Array;
  readonly steps?: readonly Step[];
  readonly instructionLimit?: number;
}

export interface RunResult {
  /** What the guest printed, by both console ways. */
  readonly output: string;
  /** What the engine logged. */
  readonly log: readonly string[];
  /** How it ended; 'stuck': it sleeps for ever, 'limit': it ran for more instructions than allowed. */
  readonly outcome: Outcome | { readonly kind: 'stuck' | 'limit' };
}

/** A host whose time is real time plus the naps the guest wanted to take, so that sleeping guests run at once. */
class TestHost implements MachineHost {
  output = '';
  readonly log: MachineHost['log'];
  readonly messages: string[] = [];
  readonly #startedAt = performance.now();
  readonly #wallClockAtStart = BigInt(Date.now()) * 1_000_000n;
  #skippedNs = 0;

  constructor() {
    this.log = (level, text) => this.messages.push(`${level}: ${text}`);
  }

  monotonicNs(): number {
    return (performance.now() - this.#startedAt) * 1e6 + this.#skippedNs;
  }

  wallClockNs(): number {
    return Number(this.#wallClockAtStart) + this.monotonicNs();
  }

  readonly randomWord = randomWord;

  skipTo(systemTimeNs: number): void {
    this.#skippedNs += Math.max(0, systemTimeNs - this.monotonicNs());
  }

  consoleOut(bytes: Uint8Array): void {
    for (const byte of bytes) this.output += String.fromCharCode(byte);
  }
}

let code: InterpreterCode | undefined;

/** The built interpreter, compiled once for all guests of a test file. */
function interpreter(): InterpreterCode {
  code ??= loadInterpreter();
  return code;
}

/** Runs a kernel until it ends, sleeps for ever, or reaches the instruction limit. */
export async function runGuest(kernel: Uint8Array, options: RunOptions = {}): Promise<RunResult> {
  const host = new TestHost();
  const machine = await PvMachine.create({
    memoryBytes: options.memoryBytes ?? 16 << 20,
    kernel,
    commandLine: options.commandLine ?? '',
    host,
    interpreter: interpreter(),
    mfnOrder: options.mfnOrder ?? 'offset',
    fastPaths: options.fastPaths ?? true,
    ...(options.initrd && { initrd: options.initrd }),
  });
  const limit = options.instructionLimit ?? DEFAULT_INSTRUCTION_LIMIT;
  const steps = [...(options.steps ?? [])];
  let seen = 0;
  let typed: Uint8Array = new Uint8Array();
  const result = (outcome: RunResult['outcome']): RunResult => ({ output: host.output, log: host.messages, outcome });

  for (;;) {
    const progress = machine.run(SLICE_NS);
    if (progress.state === 'ended') return result(progress.outcome);
    const step = steps[0];
    const at = step === undefined ? -1 : host.output.indexOf(step.waitFor, seen);
    if (step !== undefined && at >= 0) {
      seen = at + step.waitFor.length;
      typed = Uint8Array.from([...typed, ...Buffer.from(step.send ?? '', 'latin1')]);
      steps.shift();
      step.action?.(machine);
      continue;
    }
    if (typed.length > 0) {
      typed = typed.subarray(machine.consoleInput(typed));
      continue;
    }
    if (machine.stats().instructions > limit) return result({ kind: 'limit' });
    if (progress.state !== 'idle') continue;
    if (progress.wakeAtNs === Infinity) return result({ kind: 'stuck' });
    host.skipTo(Math.min(progress.wakeAtNs, host.monotonicNs() + 1e9));
  }
}

export interface MicroGuestTestOptions extends MicroGuestOptions, RunOptions {
  /** How the guest must end; power-off unless said otherwise. */
  readonly outcome?: RunResult['outcome'] | { readonly kind: 'crash'; readonly reason: unknown };
  /** Further checks on what came out. */
  readonly verify?: (result: RunResult, guest: MicroGuest) => void;
}

/** With PARAVANE_MICRO_ON=xen the guests run on real Xen under QEMU instead of the engine: the test of the tests. */
const onRealXen = process.env['PARAVANE_MICRO_ON'] === 'xen';

/** The lines that report checks, one each. */
function reports(output: string): string[] {
  return output.split(/\r?\n/).filter((line) => /^(OK|FAIL|TRAP) /.test(line));
}

/** The ways in which the engine runs every guest. */
const VARIANTS: readonly (readonly [string, Pick<RunOptions, 'mfnOrder' | 'fastPaths'>])[] = [
  ...MFN_ORDERS.map((mfnOrder) => [`mfn order ${mfnOrder}`, { mfnOrder }] as const),
  ['without fast paths', { fastPaths: false }],
];

/** Declares a micro-guest as a test, run in both orders of machine frames, and once without fast paths. */
export function testMicroGuest(
  name: string,
  body: (asm: Assembler, lib: GuestLib) => void,
  options: MicroGuestTestOptions = {},
): void {
  describe(name, () => {
    const guest = microGuest(body, options);
    if (onRealXen) {
      testOnRealXen(name, guest, options);
      return;
    }
    it.each(VARIANTS)('%s', async (_name, variant) => {
      const result = await runGuest(guest.kernel, { ...options, ...variant });
      expect(reports(result.output)).toEqual(guest.checks.map((check) => `OK ${check}`));
      expect(result.outcome).toEqual(options.outcome ?? { kind: 'poweroff' });
      options.verify?.(result, guest);
    });
  });
}

/** The same guest on real Xen, minus the checks that are known to differ there. */
function testOnRealXen(name: string, guest: MicroGuest, options: MicroGuestTestOptions): void {
  const differences = REAL_XEN_DIFFERENCES[name];
  it.skipIf(differences?.checks === 'all')('on real Xen', async () => {
    const { output, outcome } = await runOnRealXen(guest.kernel, options.commandLine ?? '');
    const differing = differences?.checks === 'all' ? [] : (differences?.checks ?? []);
    const relevant = (check: string): boolean => !differing.some((pattern) => pattern.test(check));
    const lines = reports(output).filter((line) => relevant(line.replace(/^(OK|FAIL) /, '')));
    expect(lines).toEqual(guest.checks.filter(relevant).map((check) => `OK ${check}`));
    expect(outcome.kind).toBe(options.outcome?.kind ?? 'poweroff');
  });
}
