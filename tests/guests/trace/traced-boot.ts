// SPDX-License-Identifier: MIT
// Boots Debian's kernel inside this process, as the traced guests of real Xen were, and records hypercalls and console.
import { PvMachine } from '../../../engine/xen/machine.ts';
import type { Outcome } from '../../../engine/xen/machine.ts';
import { loadInterpreter } from '../../../main/build/interpreter-files.ts';
import { loadPvKernel } from '../../../main/kernel/load.ts';
import { randomWord } from '../../../main/vm/random-word.ts';
import { debianKernel } from '../../support/requirements.ts';
import { busyboxInitramfs } from '../support/linux-guest.ts';

/** Everything that was recorded of one number and sub-operation. */
export interface TracedCall {
  readonly number: number;
  /** Undefined where the sub-operation is in memory or there is none. */
  readonly sub?: number;
  /** Distinct results in the order of their first appearance; empty for a call that has none. */
  readonly results: number[];
}

export interface TracedBoot {
  /** One entry per number and sub-operation, in the order of first use. */
  readonly calls: TracedCall[];
  readonly console: string;
  readonly outcome: Outcome;
}

/** Argument that holds the sub-operation, by number; the same choice as in the fixture. */
const SUB_ARGUMENT: Readonly<Record<number, number>> = {
  ...Object.fromEntries([8, 12, 17, 18, 20, 24, 25, 28, 29, 30, 32, 33, 40].map((number) => [number, 0])),
  21: 1,
};
const MEMORY_OP = 12;
const SLICE_NS = 20e6;
const LIMIT_NS = 90e9;

/** Memory and command line of the traced guest of real Xen. */
const MEMORY_BYTES = 256 * 2 ** 20;
const COMMAND_LINE = 'console=hvc0 earlyprintk=xen nobench panic=-1';

/** Boots, sleeps for a moment so that the kernel idles, and powers off. */
export async function tracedBoot(): Promise<TracedBoot> {
  const { elf } = await loadPvKernel(await debianKernel('generic'));
  const start = performance.now();
  const monotonicNs = (): number => (performance.now() - start) * 1e6;
  const console: string[] = [];
  const machine = await PvMachine.create({
    memoryBytes: MEMORY_BYTES,
    kernel: elf.bytes,
    initrd: await busyboxInitramfs({ script: 'usleep 300000\n' }),
    commandLine: COMMAND_LINE,
    interpreter: loadInterpreter(),
    host: {
      monotonicNs,
      wallClockNs: () => Date.now() * 1e6,
      randomWord,
      consoleOut: (bytes) => console.push(Buffer.from(bytes).toString('latin1')),
      log: () => undefined,
    },
  });

  const calls = new Map<string, TracedCall>();
  machine.domain.hypercalls.trace = ({ number, argLo, result }) => {
    const argument = SUB_ARGUMENT[number];
    const sub = argument === undefined ? undefined : number === MEMORY_OP ? argLo[argument] & 63 : argLo[argument];
    const key = `${number}/${sub ?? ''}`;
    let call = calls.get(key);
    if (call === undefined) calls.set(key, (call = { number, ...(sub !== undefined && { sub }), results: [] }));
    if (result !== undefined && !call.results.includes(result)) call.results.push(result);
  };

  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  while (monotonicNs() < LIMIT_NS) {
    const result = machine.run(SLICE_NS);
    if (result.state === 'ended') {
      return { calls: [...calls.values()], console: console.join(''), outcome: result.outcome };
    }
    if (result.state === 'idle') {
      const ms = Math.min(100, (result.wakeAtNs - monotonicNs()) / 1e6);
      if (ms > 0) Atomics.wait(sleeper, 0, 0, ms);
    }
  }
  throw new Error(`the kernel did not end within ${LIMIT_NS / 1e9} s:\n${console.join('')}`);
}
