// SPDX-License-Identifier: MIT
// Answers of the manager as text for people.
import type { FileInspection } from '../contract/inspection.ts';
import type { HostInfo, LogEntry } from '../contract/host.ts';
import type { MachineDetails, MachineSummary } from '../contract/machine.ts';
import { CHANNELS, CHANNEL_NAMES } from '../contract/metrics.ts';
import type { MachineCounters, MetricHistory } from '../contract/metrics.ts';

/**
 * Text that does nothing to a terminal: control characters (C0, DEL, C1) other than line ends and tabs become U+FFFD. Logs of guests and notes of
 * kernel files may hold anything.
 */
export function printable(text: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are what is replaced
  return text.replace(/\r(?!\n)|[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g, '\ufffd');
}

/** Columns padded to their widest cell, one space between; no trailing spaces. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...all.map((row) => row[column].length)));
  return all
    .map(
      (row) =>
        `${row
          .map((cell, i) => cell.padEnd(widths[i]))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}

export const size = (bytes: number): string =>
  bytes < 2 ** 20
    ? `${Math.ceil(bytes / 1024)} KiB`
    : bytes >= 2 ** 30
      ? `${+(bytes / 2 ** 30).toFixed(2)} GiB`
      : `${+(bytes / 2 ** 20).toFixed(1)} MiB`;

export const time = (at: number | null): string =>
  at === null ? '—' : `${new Date(at).toISOString().slice(0, 19).replace('T', ' ')} UTC`;

/** Name and value, one pair per line; values of several lines are indented. */
function pairs(entries: readonly (readonly [string, string])[]): string {
  const width = Math.max(...entries.map(([name]) => name.length));
  return entries
    .map(([name, value]) => `${name.padEnd(width)}  ${value.replaceAll('\n', `\n${' '.repeat(width + 2)}`)}\n`)
    .join('');
}

export const logLine = ({ at, level, source, text }: LogEntry): string =>
  `${time(at)} ${level.padEnd(5)} ${source.padEnd(7)} ${text}\n`;

export function describeState({ state, activity, problem }: MachineSummary): string {
  return [activity === null ? state : `${state}, ${activity}`, ...(problem === null ? [] : [`(${problem.code})`])].join(
    ' ',
  );
}

export function showDetails({
  summary,
  configuration,
  kernelFacts,
  lastRun,
  created,
  folderBytes,
  pid,
  consolePty,
  consolePtyProblem,
}: MachineDetails): string {
  const facts =
    kernelFacts &&
    `${kernelFacts.version || kernelFacts.container}, ${kernelFacts.bits}-bit, ${kernelFacts.compressor}`;
  return pairs([
    ['name', configuration.name],
    ['identifier', summary.id],
    ['state', describeState(summary)],
    ...(summary.problem ? [['problem', `${summary.problem.message}\n${summary.problem.action}`] as const] : []),
    ['process', pid === null ? '—' : String(pid)],
    ['kernel', facts ? `${configuration.kernel}\n${facts}` : configuration.kernel],
    ['initrd', configuration.initrd ?? '—'],
    ['command line', configuration.commandLine || '—'],
    ['memory', size(configuration.memoryBytes)],
    ['on reboot', configuration.onReboot],
    ['autostart', configuration.autostart ? 'yes' : 'no'],
    ...(configuration.consolePty
      ? [['console device', consolePty ?? consolePtyProblem?.message ?? 'while it runs'] as const]
      : []),
    ['tags', configuration.tags.join(', ') || '—'],
    ['notes', configuration.notes || '—'],
    ['folder', `${summary.folder} (${size(folderBytes)})`],
    ['created', time(created)],
    ['last run', lastRun === null ? 'never' : `${time(lastRun.startedAt)} to ${time(lastRun.endedAt)}`],
    ...(lastRun?.outcome ? [['ended', `${lastRun.outcome.kind} ${lastRun.outcome.text}`.trim()] as const] : []),
    ...(summary.restartNeeded.length > 0 ? [['waits for restart', summary.restartNeeded.join(', ')] as const] : []),
  ]);
}

export function showInspection(file: FileInspection): string {
  return pairs([
    ['file', `${file.path} (${size(file.size)})`],
    ['what', file.title],
    ['meaning', file.explanation],
    ...(file.kernel?.version ? [['version', file.kernel.version] as const] : []),
    ...(file.kernel ? [['PV', file.kernel.pv ? 'yes' : 'no'] as const] : []),
    ...(file.kernel?.notes.map(({ name, value }) => [name.toLowerCase(), value] as const) ?? []),
    ...(file.companion ? [['goes with', file.companion] as const] : []),
    ...(file.problem ? [['problem', `${file.problem.message}\n${file.problem.action}`] as const] : []),
  ]);
}

export function showHost(host: HostInfo): string {
  return pairs([
    ['paravane', host.version],
    ['system', `${host.versions.system} (${host.platform}, ${host.architecture})`],
    ['processor', `${host.cpuModel}, ${host.cores} cores`],
    ['memory', `${size(host.memoryBytes)}, ${size(host.freeMemoryBytes)} free`],
    ['machines', host.machinesDirectory],
    ['free on disk', host.freeDiskBytes === null ? '—' : size(host.freeDiskBytes)],
    ['guest speed', host.speed?.text ?? 'not measured (paravane host --measure)'],
  ]);
}

/** History as comma-separated values (RFC 4180), one row per point; an unknown value is empty. */
export function historyCsv(history: MetricHistory): string {
  const rows = [['time', ...CHANNEL_NAMES].join(',')];
  for (let i = 0; i < history.length; i++) {
    const values = CHANNEL_NAMES.map((name) => history.average[name][i]);
    if (values.every((value) => value === null)) continue;
    rows.push(
      [new Date(history.start + i * history.periodMs).toISOString(), ...values.map((value) => value ?? '')].join(','),
    );
  }
  return `${rows.join('\r\n')}\r\n`;
}

/** Totals since the guest started, those of a kind together, largest first. */
export function showCounters({ instructions, hypercalls, faults, other }: MachineCounters): string {
  const rows = [['instructions', instructions.toLocaleString('en-US')]];
  for (const [kind, counts] of [
    ['hypercall', hypercalls],
    ['fault', faults],
    ['', other],
  ] as const) {
    const sorted = Object.entries(counts).sort(([, a], [, b]) => b - a);
    for (const [name, n] of sorted) rows.push([`${kind} ${name}`.trim(), n.toLocaleString('en-US')]);
  }
  return table(['COUNT OF', 'TOTAL'], rows);
}

/** The last known point of history, one line per channel. */
export function showLatest(history: MetricHistory): string {
  const value = (name: (typeof CHANNEL_NAMES)[number]): string => {
    const last = history.average[name].findLast((candidate) => candidate !== null);
    if (last === undefined || last === null) return '—';
    const { unit } = CHANNELS[name];
    if (unit === 'share') return `${(last * 100).toFixed(1)} %`;
    return unit === 'bytes' ? size(last) : `${Math.round(last).toLocaleString('en-US')} /s`;
  };
  return pairs(CHANNEL_NAMES.map((name) => [CHANNELS[name].label, value(name)] as const));
}
