// SPDX-License-Identifier: MIT
// The coverage page: one row per form, counts per mode and size, what a boot executed.

import { expect, it } from 'vitest';
import { testedKey } from './campaign.ts';
import { coveragePage } from './coverage.ts';
import { describedBy, profileKey } from './described.ts';
import { FORMS } from './forms/index.ts';

it('tells what was tested and what a boot executed', () => {
  const form = FORMS.find((f) => f.key === 'add 01 /r');
  if (!form) throw new Error('the form is gone');
  const tested = new Map([
    [testedKey(form.key, 'd', 64), 7],
    [testedKey(form.key, 'w', 32), 3],
  ]);
  const profile = new Map(describedBy(form, 'q', 64).map((e) => [profileKey(e, 64, 64), 1000]));
  const page = coveragePage(tested, profile, 100, 1);
  expect(page).toContain('| add | `01 /r` | 16: 0, 32: 7, 64: 0 | 16: 3, 32: 0 | 64 |');
  expect(page).toContain('| syscall | enters the host kernel |');
  for (const f of FORMS) expect(page).toContain(`| ${f.name} | \`${f.encoding}\` |`);
});
