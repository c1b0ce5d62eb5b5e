// SPDX-License-Identifier: MIT
// The wizard: what it makes of files in any order, and what it would create.
import { beforeEach, describe, expect, it } from 'vitest';
import type { FileInspection } from '../../main/contract/inspection.ts';
import { useLink } from '../state/manager.svelte.ts';
import { FakeLink } from '../testing/fake-link.ts';
import { Draft } from './draft.svelte.ts';

const MIB = 2 ** 20;

const file = (path: string, what: FileInspection['what'], changes: Partial<FileInspection> = {}): FileInspection => ({
  path,
  size: 1000,
  what,
  title: what,
  explanation: '',
  kernel: null,
  initrd: null,
  problem: null,
  companion: null,
  proposal: null,
  ...changes,
});

const proposal = (name: string) => ({
  name,
  memoryBytes: 512 * MIB,
  minimumMemoryBytes: 64 * MIB,
  commandLine: 'console=hvc0',
  reasons: {},
});

const FILES: Record<string, FileInspection> = Object.fromEntries(
  [
    file('/k', 'kernel', { companion: '/i', proposal: proposal('six') }),
    file('/k2', 'kernel', { proposal: proposal('two') }),
    file('/bare', 'kernel', { problem: { code: 'kernel-no-pv-support', message: 'No PV.', action: 'Another one.' } }),
    file('/i', 'initrd', { companion: '/k' }),
    file('/disk', 'other'),
  ].map((inspection) => [inspection.path, inspection]),
);

let draft: Draft;
beforeEach(() => {
  useLink(new FakeLink({ 'file:inspect': ({ path }) => FILES[path] }));
  draft = new Draft();
});

describe('the draft', () => {
  it('takes a kernel with the initrd that belongs to it', async () => {
    await draft.take('/k');
    expect(draft.initrd?.path).toBe('/i');
    expect(draft.reason).toBeNull();
    expect(draft.request(true)).toMatchObject({
      name: 'six',
      kernel: '/k',
      initrd: '/i',
      memoryBytes: 512 * MIB,
      start: true,
    });
  });

  it('finds the kernel of an initrd', async () => {
    await draft.take('/i');
    expect(draft.kernel?.path).toBe('/k');
  });

  it('says what stands in the way', async () => {
    expect(draft.reason).toBe('A kernel is missing.');
    await draft.take('/bare');
    expect(draft.reason).toBe('No PV.');
    await draft.take('/k2');
    draft.name = ' ';
    expect(draft.reason).toBe('The machine needs a name.');
    draft.name = 'x';
    draft.memoryBytes = 8 * MIB;
    expect(draft.reason).toContain('memory');
  });

  it('leaves what was typed alone when another kernel is chosen', async () => {
    await draft.take('/k2');
    draft.commandLine = 'quiet';
    await draft.take('/k');
    expect([draft.name, draft.commandLine]).toEqual(['six', 'quiet']);
  });

  it('makes nothing of other files', async () => {
    expect((await draft.take('/disk')).what).toBe('other');
    expect(draft.kernel).toBeNull();
  });

  it('is a short command line', async () => {
    await draft.take('/k2');
    expect(draft.commandFor(true)).toBe('paravane create --kernel=/k2 --append=console=hvc0 --memory=512M --start two');
  });
});
