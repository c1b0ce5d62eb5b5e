// SPDX-License-Identifier: MIT
// The bench's own arithmetic: medians, ratios, bars, checksums, and the console protocol it rests on.

import { describe, expect, it } from 'vitest';

import type { Engine, EngineRun } from './engines.ts';
import { lineSplitter, parseMarker } from './protocol.ts';
import { checksumDifferences, formatTable, judge, median, parseStatistics, tabulate } from './report.ts';

const WORKLOADS = [{ name: 'integer', what: 'numbers' }];

function run(cpu: number, checksum = '00000000000000aa', boot: number | null = null): EngineRun {
  return {
    boot: boot === null ? null : { cpu: boot, wall: boot },
    warmBoot: null,
    workloads: new Map([['integer', { checksum, cpu, wall: cpu, hostWall: cpu }]]),
    memory: null,
    idlePercent: null,
    tail: '',
    failure: null,
  };
}

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
