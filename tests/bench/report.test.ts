// SPDX-License-Identifier: MIT
// The bench's own arithmetic: medians, ratios, bars, checksums, and the console protocol it rests on.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import type { Engine, EngineRun, WorkloadResult } from './engines.ts';
import { lineSplitter, parseMarker } from './protocol.ts';
import { checksumDifferences, formatTable, judge, median, parseStatistics, recordOf, tabulate } from './report.ts';
import type { Row, Verdict } from './report.ts';

const WORKLOADS = [{ name: 'integer', what: 'numbers' }];

function integer(cpu: number, checksum: string): ReadonlyMap<string, WorkloadResult> {
  return new Map([['integer', { checksum, cpu, wall: cpu + 0.5, hostWall: cpu + 1 }]]);
}

function run(cpu: number, checksum = '00000000000000aa', boot: number | null = null): EngineRun {
  return {
    boot: boot === null ? null : { cpu: boot, wall: boot },
    warmBoot: null,
    workloads: integer(cpu, checksum),
    warmWorkloads: new Map(),
    memory: null,
    idlePercent: null,
    tail: '',
    failure: null,
  };
}

/** The same with a second run, whose boot took half as long. */
function runTwice(cpu: number, warm: number, boot: number, warmChecksum = '00000000000000aa'): EngineRun {
  const warmBoot = { cpu: boot / 2, wall: boot / 2 };
  return { ...run(cpu, undefined, boot), warmBoot, warmWorkloads: integer(warm, warmChecksum) };
}

/** The cells of a table's rows by the titles of their columns; the last two have blanks in them and are left out. */
function cellsOf(table: string): Record<string, Record<string, string>> {
  const [titles = [], ...lines] = table.split('\n').map((line) => line.split(/ {2,}/));
  return Object.fromEntries(
    lines.map((line) => [line[0], Object.fromEntries(titles.slice(0, -2).map((title, at) => [title, line[at] ?? '']))]),
  );
}

/** A row of the history. */
type Recorded = Pick<Row, 'unit' | 'wall' | 'samples'> & Row['values'];

describe('report', () => {
  it('takes medians of odd and even counts, and none of nothing', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1])).toBe(2.5);
    expect(median([])).toBeUndefined();
  });

  it('makes ratios, MIPS and verdicts of medians', () => {
    const runs = new Map<Engine, EngineRun[]>([
      ['native', [run(1), run(3), run(2)]],
      ['tcg', [run(8, undefined, 2)]],
      ['paravane', [run(4, undefined, 9)]],
    ]);
    const rows = tabulate(runs, WORKLOADS, 800e6);
    const verdicts = judge(rows, [
      { row: 'integer', figure: 'paravane/tcg', max: 0.5 },
      { row: 'integer', figure: 'paravane/native', max: 1.9 },
      { row: 'mips', figure: 'paravane', min: 150 },
      { row: 'boot', figure: 'paravane/tcg', max: 4 },
      { row: 'idle', figure: 'paravane', max: 1 },
    ]);
    expect(verdicts.map((v) => v.measured)).toEqual([0.5, 2, 200, 4.5, null]);
    expect(verdicts.map((v) => v.met)).toEqual([true, false, true, false, null]);
    expect(formatTable(rows, verdicts)).toMatch(/integer .*0\.50x .*2\.00x .*4\.00x .*met, .*MISSED/);
  });

  it('makes ratios by round, as the machine may be faster in one than in another', () => {
    const runs = new Map<Engine, EngineRun[]>([
      ['tcg', [run(10), run(20), run(12)]],
      ['paravane', [run(6), run(11), run(8)]],
    ]);
    const bars = [{ row: 'integer', figure: 'paravane/tcg', max: 0.6 }];
    const measured = () => judge(tabulate(runs, WORKLOADS, 0), bars).map((v) => v.measured);
    // 0.6, 0.55 and 0.67; of the medians it would be 0.67.
    expect(measured()).toEqual([0.6]);
    runs.set('paravane', [run(6), run(11)]);
    expect(measured()).toEqual([8.5 / 12]);
    runs.set('paravane', [run(6), run(11), run(8)]);
    runs.set('tcg', [run(10), run(0), run(12)]);
    expect(measured()).toEqual([0.8]);
  });

  it("compares Paravane's second boot with the only boot that TCG has", () => {
    const again = { ...run(1, undefined, 6), warmBoot: { cpu: 3, wall: 3 } };
    const runs = new Map<Engine, EngineRun[]>([
      ['native', [run(1)]],
      ['tcg', [run(2, undefined, 4)]],
      ['paravane', [again]],
    ]);
    const rows = tabulate(runs, WORKLOADS, 0);
    const bars = [{ row: 'boot-warm', figure: 'paravane/tcg', max: 0.5 }];
    expect(judge(rows, bars)).toMatchObject([{ measured: 0.75, met: false }]);
    runs.set('paravane', [run(1, undefined, 6)]);
    expect(tabulate(runs, WORKLOADS, 0).map((row) => row.name)).not.toContain('boot-warm');
  });

  describe('of a second run of Paravane', () => {
    const others: [Engine, EngineRun[]][] = [
      ['native', [run(1), run(1), run(1)]],
      ['tcg', [run(4, undefined, 2), run(4, undefined, 2), run(4, undefined, 2)]],
    ];
    const rounds = [runTwice(6, 3, 8), runTwice(6, 1, 8), runTwice(6, 2, 8)];
    const rowsOf = (paravane: EngineRun[]): Row[] =>
      tabulate(new Map<Engine, EngineRun[]>([...others, ['paravane', paravane]]), WORKLOADS, 600e6);
    const withoutWorkloads = rowsOf(rounds.map((round) => ({ ...round, warmWorkloads: new Map() })));

    it('shows what the workloads took, in columns of their own', () => {
      const cells = cellsOf(formatTable(rowsOf(rounds), []));
      expect(cells.integer).toMatchObject({ Paravane: '6.00', warm: '2.00', 'P/TCG': '1.50x', 'warm/TCG': '0.50x' });
      for (const name of ['boot', 'boot-warm', 'mips'])
        expect(cells[name]).toMatchObject({ warm: '-', 'warm/TCG': '-' });
    });

    it('leaves every other figure and every bar as it would be without', () => {
      const bars = ['boot', 'boot-warm', 'integer'].map((row) => ({ row, figure: 'paravane/tcg', max: 1.4 }));
      const verdicts = judge(rowsOf(rounds), bars);
      expect(verdicts.map((v) => v.measured)).toEqual([4, 2, 1.5]);
      expect(verdicts).toEqual(judge(withoutWorkloads, bars));
      const cells = cellsOf(formatTable(rowsOf(rounds), verdicts));
      const fewer = formatTable(withoutWorkloads, verdicts);
      expect(fewer.split('\n')[0]).not.toContain('warm');
      expect(cells).toMatchObject(cellsOf(fewer));
    });

    it('shows no figure where every second run failed before it, and the median of the rounds where one did not', () => {
      const [first, second, third] = rounds as [EngineRun, EngineRun, EngineRun];
      const failed = { ...second, warmWorkloads: new Map() };
      const figures = rowsOf([first, failed, third]).find((row) => row.name === 'integer');
      expect(figures).toMatchObject({ values: { paravane: 6, warm: 2.5 }, samples: { warm: [3, 2] } });
      expect(withoutWorkloads.find((row) => row.name === 'integer')?.values).not.toHaveProperty('warm');
    });

    it('is recorded by names of its own, with the workloads only', () => {
      const record = recordOf(rowsOf(rounds));
      expect(record.integer).toEqual({
        unit: 's',
        ...{ native: 1, tcg: 4, paravane: 6, warm: 2 },
        wall: { native: 1.5, tcg: 4.5, paravane: 6.5, warm: 2.5 },
        samples: { native: [1, 1, 1], tcg: [4, 4, 4], paravane: [6, 6, 6], warm: [3, 1, 2] },
      });
      for (const name of ['boot', 'boot-warm', 'mips']) expect(JSON.stringify(record[name])).not.toContain('warm');
    });

    it('is in a record beside those of the history, from before there were any', () => {
      const history = readFileSync(join(import.meta.dirname, 'history.jsonl'), 'utf8')
        .trim()
        .split('\n');
      for (const line of [...history, JSON.stringify({ rows: recordOf(rowsOf(rounds)), bars: [] })]) {
        const { rows: recorded, bars } = JSON.parse(line) as { rows: Record<string, Recorded>; bars: Verdict[] };
        const rows = Object.entries(recorded).map(([name, { unit, wall, samples, ...values }]): Row => ({
          name,
          unit,
          what: name,
          values,
          wall,
          samples,
        }));
        expect(recordOf(rows)).toEqual(recorded);
        const cells = cellsOf(formatTable(rows, bars));
        expect(Object.keys(cells)).toEqual(Object.keys(recorded));
        const isWarm = Object.values(recorded).some((row) => row.warm !== undefined);
        for (const [name, row] of Object.entries(recorded)) {
          expect(cells[name]?.TCG === '-').toBe(row.tcg === undefined);
          expect(cells[name]?.warm === undefined).toBe(!isWarm);
          expect((cells[name]?.warm ?? '-') === '-').toBe(row.warm === undefined);
        }
      }
    });

    it('has to compute the same', () => {
      const runs = new Map<Engine, EngineRun[]>([...others, ['paravane', [runTwice(6, 3, 8)]]]);
      expect(checksumDifferences(runs)).toEqual([]);
      runs.set('paravane', [runTwice(6, 3, 8), runTwice(6, 3, 8, '00000000000000ab')]);
      expect(checksumDifferences(runs)).toEqual([
        expect.stringMatching(/paravane \(round 2\); 00000000000000ab under paravane \(round 2, warm\)$/),
      ]);
    });
  });

  it('names every side of a checksum difference, and only differences', () => {
    const same = new Map<Engine, EngineRun[]>([
      ['native', [run(1)]],
      ['tcg', [run(2), run(3)]],
    ]);
    expect(checksumDifferences(same)).toEqual([]);
    same.set('paravane', [run(1, '00000000000000ab')]);
    expect(checksumDifferences(same)).toEqual([
      'integer: 00000000000000aa under native (round 1), tcg (round 1), tcg (round 2); 00000000000000ab under paravane (round 1)',
    ]);
  });

  it('reads statistics by their labels', () => {
    const text =
      'instructions                        1,234,567\nMIPS while running      150.5\nrunning   8.20 s\n  #PF (14)         99\nlogin:';
    expect(parseStatistics(text)).toEqual({
      instructions: 1234567,
      'MIPS while running': 150.5,
      running: 8.2,
      '#PF (14)': 99,
    });
  });
});

describe('console protocol', () => {
  it('finds markers behind other output and refuses damaged ones', () => {
    expect(parseMarker('[    1.0] noise BENCH userspace')).toEqual({ kind: 'userspace' });
    expect(parseMarker('BENCH begin pipe')).toEqual({ kind: 'begin', name: 'pipe' });
    const end = { kind: 'end', name: 'pipe', checksum: '0845bb19909e76e5', wallNs: 5, cpuNs: 4 };
    expect(parseMarker('BENCH end pipe 0845bb19909e76e5 5 4')).toEqual(end);
    expect(parseMarker('BENCH end pipe 0845bb1990 5 4')).toBeNull();
    expect(parseMarker('login:')).toBeNull();
  });

  it('cuts lines at any chunk boundary, with any console line end', () => {
    const lines: string[] = [];
    const push = lineSplitter((line) => lines.push(line));
    for (const chunk of ['BENCH us', 'erspace\r', '\r\nBENCH do', 'ne\n']) push(new TextEncoder().encode(chunk));
    expect(lines).toEqual(['BENCH userspace', 'BENCH done']);
  });
});
