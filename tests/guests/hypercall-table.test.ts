// SPDX-License-Identifier: MIT
// docs/hypercalls.md against the engine: every row is called, and so is every number and sub-operation without a row.
import * as fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import * as errno from '../../engine/xen/errno.ts';
import { FakeDomain, GUEST_PAGES, va } from '../../engine/xen/fake-domain.ts';
import { Gpr } from '../../engine/xen/guest-cpu.ts';
import { HYPERCALL_NAMES } from '../../engine/xen/hypercalls.ts';

type State = 'done' | 'refused' | 'missing';

interface Row {
  readonly number: number;
  /** Undefined for a call without sub-operations, or whose sub-operations are not told apart. */
  readonly sub: number | undefined;
  readonly call: string;
  readonly state: State;
  /** Name of the error of a refusal. */
  readonly error: string | undefined;
}

const document = fs.readFileSync(new URL('../../docs/hypercalls.md', import.meta.url), 'utf8');
const rows: Row[] = [
  ...document.matchAll(/^\| (\d+)(?:\/(\d+))? +\| (\S.*?) +\| (done|refused|missing)(?: -(E\w+))? +\|/gm),
].map(([, number, sub, call, state, error]) => ({
  number: Number(number),
  sub: sub === undefined ? undefined : Number(sub),
  call,
  state: state as State,
  error,
}));

/** Numbers that are called once; of the others each sub-operation below this. */
const SUB_OPERATIONS = 64;
const HIGHEST_NUMBER = 63;
const IRET = 23;
const ARGUMENT_PAGE = 2;
const MMUEXT = 26;
const PHYSDEV_COMPAT = 19;
const VM_ASSIST = 21;

const hasSubOperations = (number: number): boolean =>
  rows.some((row) => row.number === number && row.sub !== undefined);

/** Makes a call with arguments as good as they get without knowing it: a page of zeros, the guest itself, one element. */
function call(number: number, sub: number): number {
  const domain = new FakeDomain({ memoryMap: [{ address: 0, size: GUEST_PAGES * 4096, type: 1 }] });
  const argument = va(ARGUMENT_PAGE);
  if (number === MMUEXT) {
    domain.put64(ARGUMENT_PAGE, 0, BigInt(sub), BigInt(domain.mfn(5)), va(6));
    return domain.call(number, [argument, 1, 0, 0x7ff0]);
  }
  // event_channel_op init_control wants a frame; of memory_op exchange the two reservations have one extent each.
  if (number === 32 && sub === 11) domain.put64(ARGUMENT_PAGE, 0, BigInt(domain.mfn(5)));
  if (number === 12 && sub === 11) {
    domain.put64(ARGUMENT_PAGE, 0, va(5), 1n, 0n, 0x7ff0n, va(6), 1n, 0n, 0x7ff0n);
    domain.put64(5, 0, BigInt(domain.mfn(7)));
  }
  if (number === PHYSDEV_COMPAT) domain.put64(ARGUMENT_PAGE, 0, 6n);
  if (number === VM_ASSIST) return domain.call(number, [0, 5]);
  // Those that ask about a domain are asked about the guest itself.
  if (number === 12 && [3, 4, 14].includes(sub)) domain.put64(ARGUMENT_PAGE, 0, 0x7ff0n);
  if (number === 24) return domain.call(number, [sub, 0, argument]);
  return domain.call(number, hasSubOperations(number) ? [sub, argument, 1] : [argument, 1]);
}

const expectedError = (row: Row): number => -(errno as Record<string, number>)[row.error ?? 'ENOSYS'];

describe('docs/hypercalls.md', () => {
  it('has rows', () => expect(rows.length).toBeGreaterThan(100));

  it('names the calls as the table of hypercalls does, each once', () => {
    for (const row of rows) expect(row.call.split(':')[0]).toBe(HYPERCALL_NAMES[row.number]);
    const keys = rows.map((row) => `${row.number}/${row.sub ?? ''}`);
    expect(new Set(keys).size).toBe(keys.length);
    const named = HYPERCALL_NAMES.flatMap((name, number) => (name === '' ? [] : [number]));
    expect([...new Set(rows.map((row) => row.number))].sort((a, b) => a - b)).toEqual(named);
  });

  it.each(rows.map((row) => [`${row.number}${row.sub === undefined ? '' : `/${row.sub}`} ${row.call}`, row] as const))(
    '%s',
    (_, row) => {
      if (row.number === IRET) {
        const domain = new FakeDomain();
        domain.put64(6, 0, 0x99n, 0n, 0n, 0n, va(1, 8), 0xe030n, 0x202n, va(3), 0xe02bn);
        domain.setReg(Gpr.rsp, va(6));
        expect(domain.call(IRET)).toBe(0x99);
        return;
      }
      const result = call(row.number, row.sub ?? 0);
      if (row.state === 'done') expect(result).not.toBe(-errno.ENOSYS);
      else expect(result).toBe(expectedError(row));
    },
  );

  it('leaves nothing out that is answered', () => {
    const answered: string[] = [];
    for (let number = 0; number <= HIGHEST_NUMBER; number++) {
      if (number === IRET) continue;
      const subs = hasSubOperations(number) ? SUB_OPERATIONS : 1;
      for (let sub = 0; sub < subs; sub++) {
        const known = rows.some((row) => row.number === number && (row.sub ?? sub) === sub);
        if (!known && call(number, sub) !== -errno.ENOSYS) answered.push(`${number}/${sub}`);
      }
    }
    expect(answered).toEqual([]);
  });
});
