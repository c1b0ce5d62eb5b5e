// SPDX-License-Identifier: MIT
// "What did I drop": kernels, ramdisks, disks and rubbish, each with the right name.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import * as v from 'valibot';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeCpio } from '../../engine/formats/cpio.ts';
import { buildDemoGuest } from '../demo-guest/demo-guest.ts';
import { fileInspection } from '../contract/inspection.ts';
import { inspectFile } from './inspect-file.ts';

let directory: string;
beforeAll(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-inspect-'));
});
afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));

async function inspect(name: string, content: Uint8Array | string) {
  const file = path.join(directory, name);
  fs.writeFileSync(file, content);
  const inspection = await inspectFile(file);
  expect(v.is(fileInspection, inspection)).toBe(true);
  return inspection;
}

const cpio = writeCpio([{ kind: 'file', path: 'init', permissions: 0o755, data: new Uint8Array(600) }]);
const at = (offset: number, text: string, length = 70_000): Buffer => {
  const bytes = Buffer.alloc(length);
  bytes.write(text, offset, 'latin1');
  return bytes;
};

describe('kernels', () => {
  it('that can be started come with a proposal and the ramdisk beside them', async () => {
    fs.writeFileSync(path.join(directory, 'initrd.img-1.0'), cpio);
    const inspection = await inspect('vmlinuz-1.0', buildDemoGuest());
    expect(inspection).toMatchObject({
      what: 'kernel',
      problem: null,
      kernel: { pv: true, bits: 64, compressor: 'none' },
    });
    expect(inspection.companion).toBe(path.join(directory, 'initrd.img-1.0'));
    expect(inspection.proposal?.memoryBytes).toBeGreaterThanOrEqual(inspection.proposal!.minimumMemoryBytes);
    expect(inspection.kernel?.notes.map(({ name }) => name)).toContain('Virtual base');
  });

  it('may be packed', async () => {
    const guest = buildDemoGuest();
    expect(await inspect('demo.gz', gzipSync(guest))).toMatchObject({ what: 'kernel', kernel: { compressor: 'gzip' } });
    expect(await inspect('demo.zst', zstdCompressSync(guest))).toMatchObject({ kernel: { compressor: 'zstd' } });
  });

  it('that are programs or damaged say so', async () => {
    expect(await inspectFile(process.execPath)).toMatchObject({
      what: 'other',
      problem: { code: 'kernel-is-program' },
    });
    const damaged = Buffer.from(buildDemoGuest()).subarray(0, 100);
    expect(await inspect('damaged', damaged)).toMatchObject({
      what: 'kernel',
      problem: { code: 'kernel-elf-invalid' },
    });
  });
});

it('initial ramdisks are described, with microcode in front too', async () => {
  expect((await inspect('a.cpio', cpio)).initrd).toEqual({
    format: 'cpio (newc)',
    compressor: 'none',
    unpackedSize: cpio.length,
  });
  expect((await inspect('b', gzipSync(cpio))).initrd).toMatchObject({ compressor: 'gzip' });
  const both = Buffer.concat([cpio, gzipSync(cpio)]);
  expect((await inspect('c', both)).initrd).toMatchObject({ format: 'cpio (newc) + cpio', compressor: 'gzip' });
});

it.each([
  ['qcow2 disk image', Buffer.from('QFI\xfb and so on', 'latin1')],
  ['CD or DVD image (ISO 9660)', at(0x8001, 'CD001')],
  ['VHD disk image', at(70_000 - 512, 'conectix')],
  ['Disk image with a boot sector', at(510, '\x55\xaa')],
  ['tar archive (perhaps an OVA appliance)', at(257, 'ustar')],
  ['File packed with gzip', gzipSync('text')],
  ['Unknown file', Buffer.from('hello')],
])('%s', async (title, content) => {
  const inspection = await inspect('file', content);
  expect(inspection.title).toBe(title);
  expect(['other', 'unknown']).toContain(inspection.what);
});

it('files that cannot be read are errors', async () => {
  await expect(inspectFile(path.join(directory, 'none'))).rejects.toMatchObject({ code: 'file-missing' });
  await expect(inspectFile(directory)).rejects.toMatchObject({ code: 'file-is-directory' });
  await expect(inspectFile('relative')).rejects.toMatchObject({ code: 'path-not-absolute' });
});
