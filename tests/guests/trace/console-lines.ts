// SPDX-License-Identifier: MIT
// Lines of a kernel's console compared with those under real Xen, and the list of lines that may differ, with reasons.

interface Difference {
  readonly reason: string;
  /** Matches the line there or here, whichever has it. */
  readonly line: RegExp;
}

const DIFFERENCES: readonly Difference[] = [
  { reason: 'another host', line: /^Xen version: 4\.17\S* \(preserve-AD\)$/ },
  { reason: 'another host', line: /^tsc: Detected [\d.]+ MHz processor$/ },
  { reason: 'another host', line: /^clocksource: tsc(-early)?: mask/ },
  { reason: 'another host', line: /^Calibrating delay loop \(skipped\)/ },
  { reason: 'another host', line: /^Last level [id]TLB entries:/ },
  { reason: 'another host', line: /^audit: type=2000 / },
  { reason: 'another host', line: /^sched_clock: Marking stable/ },
  { reason: 'a processor of AMD there', line: /^AGP: No AGP bridge found$/ },
  { reason: 'a processor without speculation here', line: /^Spectre V[12] ?:/ },
  { reason: 'another processor', line: /^Performance Events: / },
  { reason: 'a processor of Intel here', line: /^intel_pstate: CPU model not supported$/ },
  { reason: 'CPUID offers no machine checks here', line: /^mce: Unable to init MCE device/ },
  { reason: 'CPUID offers no PAT here', line: /^x86\/PAT: Configuration / },
  { reason: '2-level events are offered here', line: /^xen:events: Using (FIFO-based|2-level) ABI$/ },
  { reason: 'another initrd', line: /^RAMDISK: \[mem 0x04c00000-0x[0-9a-f]{8}\]$/ },
  { reason: 'another initrd', line: /^Memory: \d+K\/261756K available \(14343K kernel code, 2338K rwdata,/ },
  { reason: 'another initrd', line: /^Freeing initrd memory: \d+K$/ },
  { reason: 'timing', line: /^hrtimer: interrupt took \d+ ns$/ },
  {
    reason: 'written by the kernel before its console, kept by another log there',
    line: /^(mapping kernel into physical memory|about to get started\.\.\.)$/,
  },
];

/** Lines without time stamps and empty lines, up to the start of the first program. */
export function linesOf(console: string): string[] {
  const lines = console
    .replaceAll('\r', '')
    .split('\n')
    .map((line) => line.replace(/^\[ *\d+\.\d+\] /, ''))
    .filter((line) => line !== '');
  const end = lines.indexOf('Run /init as init process');
  return end === -1 ? lines : lines.slice(0, end + 1);
}

/** Up to here the kernel has one thread, and the order of lines is fixed. */
const LAST_LINE_IN_ORDER = 'smp: Brought up 1 node, 1 CPU';

export interface ConsoleComparison {
  /** Lines that one side has, or has more often, and that no reason covers. */
  readonly onlyThere: string[];
  readonly onlyHere: string[];
  /** Lines of the first, single-threaded part in the order of either side. */
  readonly orderThere: string[];
  readonly orderHere: string[];
}

export function compareConsoles(there: readonly string[], here: readonly string[]): ConsoleComparison {
  const explained = (line: string): boolean => DIFFERENCES.some((difference) => difference.line.test(line));
  const [a, b] = [there, here].map((lines) => lines.filter((line) => !explained(line)));
  const ordered = (lines: string[]): string[] => lines.slice(0, lines.indexOf(LAST_LINE_IN_ORDER) + 1);
  return { onlyThere: without(a, b), onlyHere: without(b, a), orderThere: ordered(a), orderHere: ordered(b) };
}

/** Lines of `a` minus lines of `b`, each as often as it is there. */
function without(a: readonly string[], b: readonly string[]): string[] {
  const left = [...b];
  return a.filter((line) => {
    const at = left.indexOf(line);
    if (at !== -1) left.splice(at, 1);
    return at === -1;
  });
}
