// SPDX-License-Identifier: MIT
// Debian's kernel here and under real Xen 4.17: the order and results of its hypercalls, and the lines on its console.
// docs/hypercalls.md explains the differences that are allowed below.
import * as fs from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { EOPNOTSUPP, ENOENT, ENOSYS } from '../../../engine/xen/errno.ts';
import { HYPERCALL_NAMES } from '../../../engine/xen/hypercalls.ts';
import { compareConsoles, linesOf } from './console-lines.ts';
import { tracedBoot } from './traced-boot.ts';
import type { TracedBoot, TracedCall } from './traced-boot.ts';

const fixture = (name: string): string => fs.readFileSync(new URL(`../fixtures/${name}`, import.meta.url), 'utf8');
const real = (JSON.parse(fixture('xen-4.17-control-domain-hypercalls.json')) as { calls: TracedCall[] }).calls;

const nameOf = ({ number, sub }: TracedCall): string =>
  `${HYPERCALL_NAMES[number]}${sub === undefined ? '' : ` ${sub}`}`;

/** Made by a control domain only: it has hardware, two vCPUs here, and its own ways to console and xenstore. */
const ONLY_IN_CONTROL_DOMAIN = [
  'platform_op',
  'mca',
  ...[4, 10, 11].map((sub) => `memory_op ${sub}`),
  'console_io 1',
  ...[5, 8, 10, 12, 13, 21, 25].map((sub) => `physdev_op ${sub}`),
  ...[2, 3, 6, 12].map((sub) => `event_channel_op ${sub}`),
  ...[0, 1, 2].map((sub) => `vcpu_op ${sub}`),
  'sched_op 0',
];

/** Made here only. */
const ONLY_HERE = ['memory_op 9', 'vcpu_op 13', 'xenpmu_op 5', 'sched_op 2'];

/** First made at another point of the boot. */
const ELSEWHERE = ['xen_version 0', 'iret', 'event_channel_op 4', 'event_channel_op 7', 'sched_op 1'];

/** Results here where they are others than there. */
const OTHER_RESULTS: Readonly<Record<string, number[]>> = {
  'event_channel_op 11': [-ENOSYS],
  'event_channel_op 13': [-ENOSYS],
  'physdev_op 28': [-ENOSYS],
  'vcpu_op 3': [1, -ENOENT],
};

let boot: TracedBoot;
beforeAll(async () => {
  boot = await tracedBoot();
}, 120_000);

it('ends as it should', () => expect(boot.outcome).toEqual({ kind: 'poweroff' }));

describe('hypercalls', () => {
  it('made there and not here are those of a control domain', () => {
    const here = new Set(boot.calls.map(nameOf));
    const missing = real.map(nameOf).filter((name) => !here.has(name));
    expect(missing.sort()).toEqual([...ONLY_IN_CONTROL_DOMAIN].sort());
  });

  it('made here and not there are those of a guest', () => {
    const there = new Set(real.map(nameOf));
    const additional = boot.calls.map(nameOf).filter((name) => !there.has(name));
    expect(additional.sort()).toEqual([...ONLY_HERE].sort());
  });

  it('begin in the same order', () => {
    const left = new Set([...ONLY_IN_CONTROL_DOMAIN, ...ONLY_HERE, ...ELSEWHERE]);
    const order = (calls: readonly TracedCall[]): string[] => calls.map(nameOf).filter((name) => !left.has(name));
    expect(order(boot.calls)).toEqual(order(real));
  });

  it('have the same results', () => {
    const there = new Map(real.map((call) => [nameOf(call), call.results]));
    for (const call of boot.calls) {
      const expected = OTHER_RESULTS[nameOf(call)] ?? there.get(nameOf(call));
      if (expected !== undefined && expected.length > 0)
        expect([nameOf(call), ...call.results]).toEqual([nameOf(call), ...expected]);
    }
    expect(there.get('xenpmu_op 4')).toEqual([-EOPNOTSUPP]);
  });

  it('are told apart in docs/hypercalls.md', () => {
    const document = fs
      .readFileSync(new URL('../../../docs/hypercalls.md', import.meta.url), 'utf8')
      .replace(/\s+/g, ' ');
    const explanation = document.slice(document.indexOf("## Debian's kernel"));
    for (const name of [...ONLY_IN_CONTROL_DOMAIN, ...ONLY_HERE, ...ELSEWHERE, ...Object.keys(OTHER_RESULTS)]) {
      const [call, sub] = name.split(' ');
      expect(explanation).toMatch(new RegExp(sub === undefined ? call : `${call} [\\d, and]*\\b${sub}\\b`));
    }
  });
});

describe('console', () => {
  it('shows the lines of real Xen, but for those with a reason', () => {
    const compared = compareConsoles(linesOf(fixture('xen-4.17-linux-6.1-console.txt')), linesOf(boot.console));
    expect([compared.onlyThere, compared.onlyHere]).toEqual([[], []]);
    expect(compared.orderHere).toEqual(compared.orderThere);
    expect(compared.orderHere.length).toBeGreaterThan(80);
  });
});
