// SPDX-License-Identifier: MIT
// A shell script made of named commands, and the way back from a console transcript to the output and status of each.

/** One command of a script and what it has to print. */
export interface ScriptedCommand {
  readonly name: string;
  /** Shell text; may have several lines. */
  readonly run: string;
  /** Standard output and error together, without trailing line ends: exactly this text, or a pattern. */
  readonly expect: string | RegExp;
  /** Exit status; 0 when not given. */
  readonly status?: number;
}

/** What one command left in the transcript. */
export interface Section {
  readonly output: string;
  readonly status: number;
}

/** The script that runs the commands, each in a subshell of its own so that no one disturbs the next. */
export function scriptOf(commands: readonly ScriptedCommand[]): string {
  const parts = commands.map(
    ({ name, run }) => `echo "@@begin ${name}"\n(\n${run}\n) </dev/null 2>&1\necho "@@end $?"\n`,
  );
  return `${parts.join('')}echo "@@done"\n`;
}

/** Output and status by name of the command. A command that never ended has no entry. */
export function sectionsOf(transcript: string): Map<string, Section> {
  const sections = new Map<string, Section>();
  const text = transcript.replaceAll('\r', '');
  for (const match of text.matchAll(/^@@begin (.*)\n([^]*?)@@end (\d+)$/gm)) {
    sections.set(match[1], { output: match[2].replace(/\n+$/, ''), status: Number(match[3]) });
  }
  return sections;
}
