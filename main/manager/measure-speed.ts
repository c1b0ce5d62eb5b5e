// SPDX-License-Identifier: MIT
// How fast guests are on this computer: lets the demonstration guest do ordinary work, and does the same work without it.
import { pvError } from '../../engine/errors.ts';
import { INSTRUCTIONS_PER_TURN, nativeTurnsPerSecond } from '../demo-guest/ordinary-code.ts';
import type { HostSpeed } from '../contract/host.ts';
import type { Totals } from '../metrics/rates.ts';
import { startVmProcess } from '../vm/start.ts';
import { prepareWelcomeGuest } from '../welcome/welcome.ts';
import type { TellProgress } from './tasks.ts';
import { VmLink } from './vm-link.ts';
import type { VmLinkEvents } from './vm-link.ts';

const MEASURE_SECONDS = 4;
/** The guest's prompt, and the key that lets it work. */
const PROMPT = 'demo> ';
const WORK_KEY = 'w';
/** Enough of the console to find the prompt in. */
const OUTPUT_KEPT = 4096;
/** A guest that has not worked by then never will. */
const LATE_MS = 60_000;

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
  let late: NodeJS.Timeout | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error));
      let seen = '';
      let working = false;
      let link: VmLink | null = null;
      const begin = (): void => {
        if (working || link === null || !seen.includes(PROMPT)) return;
        working = true;
        link.send({ type: 'input', bytes: Buffer.from(WORK_KEY) });
      };
      const message: VmLinkEvents['message'] = (told) => {
        if (told.type === 'output') {
          seen = (seen + Buffer.from(told.bytes).toString('latin1')).slice(-OUTPUT_KEPT);
          begin();
        } else if (told.type === 'sample') {
          if (working) samples.push(told);
          tell({ text: 'Measuring the speed of guests', done: samples.length, total: MEASURE_SECONDS, unit: 'steps' });
          if (samples.length >= MEASURE_SECONDS) resolve();
        }
      };
      VmLink.open(identity, { message, closed: resolve }).then((opened) => {
        link = opened;
        begin();
      }, reject);
      late = setTimeout(resolve, LATE_MS);
      child.once('exit', () => resolve());
    });
  } finally {
    clearTimeout(late);
    child.kill('SIGKILL');
  }
  const guestInstructionsPerSecond = fastest(samples);
  if (guestInstructionsPerSecond === 0) throw pvError('measurement-failed', { detail: 'the guest ended too soon' });
  const slowdown = (nativeTurnsPerSecond() * INSTRUCTIONS_PER_TURN) / guestInstructionsPerSecond;
  const times = slowdown < 10 ? Math.max(1, Math.round(slowdown * 2) / 2) : Math.round(slowdown);
  return {
    measuredAt: Date.now(),
    guestInstructionsPerSecond,
    slowdown,
    text: slowdown < 1.25 ? 'about as fast as this computer' : `about ${times} times slower than this computer`,
  };
}

/** The best second: code is slow until it is translated, and other programs may have been in the way. */
function fastest(samples: readonly Totals[]): number {
  let best = 0;
  for (let i = 1; i < samples.length; i++) {
    const [now, before] = [samples[i].stats, samples[i - 1].stats];
    // On a busy computer a guest that runs may wait for a core.
    const runNs = Math.min(now.runNs - before.runNs, now.hostCpuNs - before.hostCpuNs);
    const instructions = now.instructions - before.instructions;
    // In a second in which the guest hardly ran, the clock is too coarse.
    if (runNs > 1e8) best = Math.max(best, (instructions / runNs) * 1e9);
  }
  return best;
}
