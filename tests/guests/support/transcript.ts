// SPDX-License-Identifier: MIT
// Checks of a guest's console transcript against the commands it was given.
import { expect } from 'vitest';
import type { FinishedCommand } from '../../support/paravane.ts';
import { sectionsOf } from './sections.ts';
import type { ScriptedCommand, Section } from './sections.ts';

/** Sections of a run that has to have come to the end of its script. Fails with the whole console when it did not. */
export function completedSections({ stdout, stderr, code, signal }: FinishedCommand): Map<string, Section> {
  if (!/^@@done\r?$/m.test(stdout)) {
    throw new Error(`the script did not end (exit code ${code ?? signal}):\n${stdout}\n${stderr}`);
  }
  return sectionsOf(stdout);
}

/** Compares one command's section with what the command has to print. */
export function checkSection(sections: ReadonlyMap<string, Section>, command: ScriptedCommand): void {
  const section = sections.get(command.name);
  if (section === undefined) throw new Error(`"${command.name}" left nothing in the transcript`);
  if (typeof command.expect === 'string') expect(section.output).toBe(command.expect);
  else expect(section.output).toMatch(command.expect);
  expect(section.status).toBe(command.status ?? 0);
}
