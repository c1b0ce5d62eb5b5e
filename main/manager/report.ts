// SPDX-License-Identifier: MIT
// The report for a fault: what the diagnostics page shows, and one machine's configuration, records, log and console, without personal paths.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { machineFilePath } from '../library/machine-file.ts';
import { machineLogFile } from '../vm/machine-log.ts';
import { runRecordFile } from '../vm/run-record.ts';
import { diagnosticsOf, hostInfoOf } from './host-facts.ts';
import type { Manager } from './manager.ts';
import { makeZip } from './zip-file.ts';
import type { ZipEntry } from './zip-file.ts';

/** Most of a log that goes into a report. */
const LOG_BYTES = 256 * 1024;

/** Where files that come with a system lie. */
const SYSTEM_DIRECTORY = /^(\/(boot|usr|lib|opt|etc)(\/|$)|\/$|[a-z]:\\(windows|program files)(\\|$))/i;

/** The zip file and its name. Throws `machine-unknown`. */
export function makeReport(manager: Manager, machine?: string): { fileName: string; bytes: Buffer } {
  const at = new Date();
  const json = (value: unknown): string => JSON.stringify(value, null, 2);
  const entries: ZipEntry[] = [
    { name: 'host.json', content: json(hostInfoOf(manager)) },
    { name: 'diagnostics.json', content: json(diagnosticsOf(manager)) },
    { name: 'machines.json', content: json(manager.controls().map((control) => manager.summary(control))) },
  ];
  if (machine !== undefined) {
    const control = manager.control(machine);
    const { folder } = control.machine;
    const files = [
      machineFilePath(folder),
      runRecordFile(folder),
      machineLogFile(folder),
      path.join(folder, 'events.jsonl'),
    ];
    for (const file of files) {
      if (fs.existsSync(file)) entries.push({ name: `machine/${path.basename(file)}`, content: tailOf(file) });
    }
    entries.push({ name: 'machine/console.txt', content: Buffer.from(control.console.kept().bytes).toString('utf8') });
  }
  const redact = redactor(placesOf(manager));
  const readme =
    'Report of Paravane. Home directory, folders of machines and of their files, user and host name are replaced; look through it before you pass it on.\n';
  const redacted = entries.map(({ name, content }) => ({ name, content: redact(content as string) }));
  const stamp = at.toISOString().slice(0, 19).replaceAll(':', '-');
  return {
    fileName: `paravane-report-${stamp}.zip`,
    bytes: makeZip([{ name: 'README.txt', content: readme }, ...redacted], at),
  };
}

function tailOf(file: string): string {
  const text = fs.readFileSync(file);
  return text.subarray(Math.max(0, text.length - LOG_BYTES)).toString('utf8');
}

/** Directories that are the user's own, and what stands for them. Those of the system stay: they tell nothing of anybody, but much of the fault. */
function placesOf(manager: Manager): Map<string, string> {
  const host = hostInfoOf(manager);
  const places = new Map([
    [host.dataDirectory, '<data>'],
    [host.machinesDirectory, '<machines>'],
  ]);
  for (const { machine } of manager.controls()) {
    const { id, configuration } = machine.file;
    places.set(machine.folder, `<folder of ${id}>`);
    for (const file of [configuration.kernel, configuration.initrd]) {
      if (file === null) continue;
      const directory = path.dirname(file);
      if (!SYSTEM_DIRECTORY.test(directory) && !places.has(directory)) places.set(directory, `<files of ${id}>`);
    }
  }
  return places;
}

/** Replaces what tells who and where: the given places, home directory, user name in paths, host name. */
export function redactor(
  places: ReadonlyMap<string, string> = new Map(),
  home: string = os.homedir(),
  user: string = os.userInfo().username,
  host: string = os.hostname(),
): (text: string) => string {
  const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  // In JSON, backslashes of Windows paths are doubled.
  const known = [...places, [home, '~'] as const]
    .flatMap(([place, name]) => [[place, name] as const, [place.replaceAll('\\', '\\\\'), name] as const])
    .filter(([place]) => place.length > 1)
    // What lies deeper is more exact.
    .sort(([a], [b]) => b.length - a.length);
  return (text) => {
    let result = text;
    for (const [place, name] of known)
      result = result.replace(new RegExp(`${escaped(place)}(?![\\w-])`, 'g'), () => name);
    result = result.replace(new RegExp(`([/\\\\])${escaped(user)}(?=[/\\\\"'\\s]|$)`, 'g'), '$1USER');
    return host.length < 2 ? result : result.replace(new RegExp(`(?<![\\w-])${escaped(host)}(?![\\w-])`, 'g'), 'HOST');
  };
}
