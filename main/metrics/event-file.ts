// SPDX-License-Identifier: MIT
// What happened to a machine, for the time axis: one JSON object per line, the older half dropped when the file is full.
import * as fs from 'node:fs';
import * as v from 'valibot';
import { machineEvent } from '../contract/metrics.ts';
import type { MachineEvent } from '../contract/metrics.ts';
import { writeFileAtomically } from '../vm/atomic-file.ts';

const FILE_LIMIT = 256 * 1024;

/** Keeps an event. Throws the system's errors. */
export function appendEvent(file: string, event: MachineEvent): void {
  fs.appendFileSync(file, `${JSON.stringify(event)}\n`, { mode: 0o600 });
  if (fs.statSync(file).size <= FILE_LIMIT) return;
  const lines = fs.readFileSync(file, 'utf8').split('\n');
  writeFileAtomically(file, lines.slice(Math.floor(lines.length / 2)).join('\n'), { durable: false });
}

/** The events of [from, to), oldest first. Damaged lines are left out. */
export function readEvents(file: string, from: number, to: number): MachineEvent[] {
  let text: string;
  try {
    text = fs.readFileSync(file, 'utf8');
  } catch {
    return [];
  }
  const events: MachineEvent[] = [];
  for (const line of text.split('\n')) {
    const event = parsed(line);
    if (event !== null && event.at >= from && event.at < to) events.push(event);
  }
  return events;
}

function parsed(line: string): MachineEvent | null {
  try {
    const result = v.safeParse(machineEvent, JSON.parse(line));
    return result.success ? result.output : null;
  } catch {
    return null;
  }
}
