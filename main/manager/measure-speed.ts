// SPDX-License-Identifier: MIT
// How fast guests are on this computer: runs the demonstration guest, which begins with a benchmark, and compares.
import { pvError } from '../../engine/errors.ts';
import type { HostSpeed } from '../contract/host.ts';
import type { Totals } from '../metrics/rates.ts';
import { startVmProcess } from '../vm/start.ts';
import { prepareWelcomeGuest } from '../welcome/welcome.ts';
import type { TellProgress } from './tasks.ts';
import { VmLink } from './vm-link.ts';

const MEASURE_SECONDS = 5;

/** Takes some seconds of one core. Throws `measurement-failed`. */
export async function measureSpeed(
  tell: TellProgress,
  signal: AbortSignal,
  machineModule?: string,
): Promise<HostSpeed> {
  const guest = await prepareWelcomeGuest({ demo: true });
  const { identity, child } = await startVmProcess({
    machine: { kernel: guest.kernel, commandLine: guest.commandLine, memoryBytes: 64 * 2 ** 20, mfnOrder: 'offset' },
    name: 'speed',
    onReboot: 'exit',
    ...(machineModule !== undefined && { machineModule }),
  });
  const samples: Totals[] = [];
  try {
    await new Promise<void>((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error));
      VmLink.open(identity, {
        message: (message) => {
          if (message.type !== 'sample') return;
          samples.push(message);
          tell({ text: 'Measuring the speed of guests', done: samples.length, total: MEASURE_SECONDS, unit: 'steps' });
          if (samples.length >= MEASURE_SECONDS) resolve();
        },
        closed: resolve,
      }).catch(reject);
      child.once('exit', () => resolve());
    });
  } finally {
    child.kill('SIGKILL');
  }
  const guestInstructionsPerSecond = fastest(samples);
  if (guestInstructionsPerSecond === 0) throw pvError('measurement-failed', { detail: 'the guest ended too soon' });
  const slowdown = nativeInstructionsPerSecond() / guestInstructionsPerSecond;
  const times = slowdown < 10 ? Math.max(1, Math.round(slowdown * 2) / 2) : Math.round(slowdown);
  return {
    measuredAt: Date.now(),
    guestInstructionsPerSecond,
    slowdown,
    text: slowdown < 1.25 ? 'about as fast as this computer' : `about ${times} times slower than this computer`,
  };
}

/** The best second: most of the benchmark measures hypercalls and faults, of which few instructions come. */
function fastest(samples: readonly Totals[]): number {
  let best = 0;
  for (let i = 1; i < samples.length; i++) {
    const runNs = samples[i].stats.runNs - samples[i - 1].stats.runNs;
    const instructions = samples[i].stats.instructions - samples[i - 1].stats.instructions;
    // In a second in which the guest hardly ran, the clock is too coarse.
    if (runNs > 1e8) best = Math.max(best, (instructions / runNs) * 1e9);
  }
  return best;
}

/** A loop that compiles to about four instructions a turn, as much depending on each other as ordinary code does. */
function nativeInstructionsPerSecond(): number {
  let best = 0;
  for (let round = 0; round < 3; round++) {
    const turns = 50_000_000;
    let x = round + 1;
    const start = performance.now();
    for (let i = 0; i < turns; i++) x = (x ^ (x << 1)) | 0;
    const seconds = (performance.now() - start) / 1000;
    // `x` is used so that the loop is not removed.
    if (x !== 0.5) best = Math.max(best, (turns * 4) / seconds);
  }
  return best;
}
