// SPDX-License-Identifier: MIT
// Types text into a guest at a pace it can follow: never more than it has taken, no faster than a setting says, and with a pause after each
// line, because programs that ask one question after the other throw away what was typed before they ask.
import { setTimeout as sleep } from 'node:timers/promises';
import type { MachineControl } from './machine-control.ts';
import type { Manager } from './manager.ts';

/** Most characters sent at a time; less than any console's input buffer. */
const PIECE = 16;
/** After a line its answer has come when the guest has been silent for this long; one that never is, is not waited for longer. */
const QUIET_MS = 30;
const QUIET_AT_MOST_MS = 1000;

/** Resolves when everything is typed and taken. Rejects with `console-not-running`, and with `cancelled` when the task is. */
export async function typeInto(manager: Manager, control: MachineControl, text: string, task: string): Promise<void> {
  const { typingSpeed } = manager.settings.get().console;
  const pieces = piecesOf(text);
  const total = pieces.reduce((sum, piece) => sum + piece.length, 0);
  await manager.tasks.run(task, async (tell, signal) => {
    let done = 0;
    for (const piece of pieces) {
      signal.throwIfAborted();
      const outputBefore = control.console.end;
      control.input(Buffer.from(piece.join('')));
      await control.inputTaken(signal);
      done += piece.length;
      tell({ text: `Typing into "${control.name}"`, done, total, unit: 'characters' });
      if (done === total) break;
      await sleep((piece.length / typingSpeed) * 1000, undefined, { signal });
      if (piece.at(-1) === '\r') await silence(control, outputBefore, signal);
    }
  });
}

/** Pieces of whole characters, none of which goes on after the end of a line. A terminal sends a carriage return for the Enter key. */
export function piecesOf(text: string): string[][] {
  const pieces: string[][] = [];
  let piece: string[] = [];
  for (const character of text.replace(/\r\n|\n/g, '\r')) {
    piece.push(character);
    if (piece.length < PIECE && character !== '\r') continue;
    pieces.push(piece);
    piece = [];
  }
  if (piece.length > 0) pieces.push(piece);
  return pieces;
}

async function silence(control: MachineControl, outputBefore: number, signal: AbortSignal): Promise<void> {
  const until = Date.now() + QUIET_AT_MOST_MS;
  for (let seen = outputBefore; Date.now() < until; seen = control.console.end) {
    await sleep(QUIET_MS, undefined, { signal });
    if (control.console.end === seen) return;
  }
}
