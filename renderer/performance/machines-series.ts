// SPDX-License-Identifier: MIT
// The last minutes of several machines as one series with a line each; many machines are summed up in the last line.
import type { Activity } from '../state/library.svelte.ts';
import type { Line } from './charts.ts';
import type { Column, Series } from './history.ts';

const PERIOD_MS = 1000;
/** More lines than this have no colours that can be told apart. */
const MOST_LINES = 6;
export const OTHERS = 'others';

export interface MachineActivity {
  id: string;
  name: string;
  activity: Activity;
}

/** A line for each machine, or for the first five and all others together. */
export function linesOf(machines: readonly MachineActivity[]): Line<string>[] {
  const named = machines.length <= MOST_LINES ? machines : machines.slice(0, MOST_LINES - 1);
  const lines = named.map(({ id, name }, i) => ({ channel: id, label: name, colour: (i + 1) as Line['colour'] }));
  const rest = machines.length - named.length;
  return rest === 0 ? lines : [...lines, { channel: OTHERS, label: `${rest} others`, colour: MOST_LINES }];
}

/** `seconds` points up to the newest second of any machine. What a machine has no value for is a gap of its line. */
export function machinesSeries(
  machines: readonly MachineActivity[],
  pick: (activity: Activity) => readonly (number | null)[],
  seconds: number,
): Series<string> {
  const end = Math.max(0, ...machines.map(({ activity }) => activity.latestAt));
  const average: Record<string, Column> = {};
  for (const { channel } of linesOf(machines)) average[channel] = new Array<number | null>(seconds).fill(null);
  for (const { id, activity } of machines) {
    const column = average[id] ?? average[OTHERS];
    const values = pick(activity);
    const late = Math.round((end - activity.latestAt) / PERIOD_MS);
    values.forEach((value, i) => {
      const place = seconds - late - values.length + i;
      if (value !== null && place >= 0 && place < seconds) column[place] = (column[place] ?? 0) + value;
    });
  }
  return {
    periodMs: PERIOD_MS,
    start: end - seconds * PERIOD_MS,
    length: seconds,
    average,
    maximum: average,
    events: [],
  };
}
