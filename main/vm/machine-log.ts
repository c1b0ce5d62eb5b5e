// SPDX-License-Identifier: MIT
// A machine's log file: one line per entry, three old files kept, readable from its end.
// Line: time, level, source, text, separated by spaces; further lines of the same text begin with a tab. Anything else in the file was
// written by the runtime itself when it died.
import * as fs from 'node:fs';
import * as path from 'node:path';
import type { LogLevel } from './machine.ts';

export interface LogLine {
  at: number;
  level: LogLevel;
  source: 'manager' | 'process' | 'guest';
  text: string;
}

/** A log file is put aside when it is larger than this. */
const ROTATE_BYTES = 1024 * 1024;
const KEPT_FILES = 3;

/** Longest text of one entry; a guest may make its hypervisor say a lot. */
const TEXT_LIMIT = 16 * 1024;

export function formatLogLine({ at, level, source, text }: LogLine): string {
  const lines = text.slice(0, TEXT_LIMIT).trimEnd().split(/\r?\n/).join('\n\t');
  return `${new Date(at).toISOString()} ${level} ${source} ${lines}\n`;
}

/** Appends an entry. The file is copied and emptied when it is full, so that a process that has it as standard error goes on with it. */
export function appendLog(file: string, line: LogLine): void {
  fs.appendFileSync(file, formatLogLine(line), { mode: 0o600 });
  if (fs.statSync(file).size > ROTATE_BYTES) rotate(file);
}

function rotate(file: string): void {
  for (let n = KEPT_FILES - 1; n >= 1; n--) {
    if (fs.existsSync(`${file}.${n}`)) fs.renameSync(`${file}.${n}`, `${file}.${n + 1}`);
  }
  fs.copyFileSync(file, `${file}.1`);
  fs.truncateSync(file, 0);
}

const LINE = /^(\d{4}-\d\d-\d\dT[\d:.]+Z) (info|warn|error) (manager|process|guest) (.*)$/;

/** Parses log text that begins at the start of a line. `fallbackAt` dates lines of the runtime that come before any entry. */
export function parseLog(text: string, fallbackAt = 0): LogLine[] {
  const lines: LogLine[] = [];
  for (const line of text.split('\n')) {
    const match = LINE.exec(line);
    const last = lines.at(-1);
    if (match !== null) {
      lines.push({
        at: Date.parse(match[1]),
        level: match[2] as LogLevel,
        source: match[3] as LogLine['source'],
        text: match[4],
      });
    } else if (line.startsWith('\t') && last !== undefined) last.text += `\n${line.slice(1)}`;
    else if (line.trim() !== '')
      lines.push({ at: last?.at ?? fallbackAt, level: 'error', source: 'process', text: line });
  }
  return lines;
}

/** How much of the file one page may look at. */
const PAGE_BYTES = 512 * 1024;

/** The last `count` entries that lie before byte `before` of the file (its end by default), and where the first of them begins. */
export function readLogPage(file: string, count: number, before?: number): { lines: LogLine[]; start: number } {
  let descriptor: number;
  try {
    descriptor = fs.openSync(file, 'r');
  } catch {
    return { lines: [], start: 0 };
  }
  try {
    const end = Math.min(before ?? Infinity, fs.fstatSync(descriptor).size);
    const from = Math.max(0, end - PAGE_BYTES);
    const bytes = Buffer.alloc(end - from);
    fs.readSync(descriptor, bytes, 0, bytes.length, from);
    // Byte positions of lines that begin an entry, newest last; a cut line at the front is left to the next page.
    let at = from === 0 ? 0 : bytes.indexOf(0x0a) + 1;
    const starts: number[] = [];
    for (; at < bytes.length; at = nextLine(bytes, at)) if (bytes[at] !== 0x09) starts.push(at);
    const first = starts.length <= count ? (starts[0] ?? 0) : starts[starts.length - count];
    return { lines: parseLog(bytes.toString('utf8', first)), start: from + first };
  } finally {
    fs.closeSync(descriptor);
  }
}

function nextLine(bytes: Buffer, at: number): number {
  const newline = bytes.indexOf(0x0a, at);
  return newline < 0 ? bytes.length : newline + 1;
}

/** Path of the log in a machine's folder. */
export const machineLogFile = (folder: string): string => path.join(folder, 'logs', 'machine.log');
