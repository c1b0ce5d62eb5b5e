// SPDX-License-Identifier: MIT
// Unit tests of kernel loading: every container and packer, and a sentence for everything that can be wrong.
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { constants, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PvError } from '../../engine/errors.ts';
import { makeElf } from '../../engine/formats/testing/make-elf.ts';
import { mutations } from '../../engine/formats/testing/mutate.ts';
import * as packed from '../../engine/formats/testing/packed-samples.ts';
import { makeBzImage, sampleKernel, withRecordedSize } from '../../engine/formats/testing/sample-kernel.ts';
import { describeFileError } from './files.ts';
import { loadInitrd, loadKernel, loadPvKernel, unpackKernel } from './load.ts';

const sample = sampleKernel();
const fromBase64 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'));
const streams: Record<string, Uint8Array> = {
  gzip: gzipSync(sample),
  // With a checksum, as the zstd tool writes it.
  zstd: zstdCompressSync(sample, { params: { [constants.ZSTD_c_checksumFlag]: 1 } }),
  xz: fromBase64(packed.xzX86),
  lzma: fromBase64(packed.lzma),
  bzip2: fromBase64(packed.bzip2),
  lz4: fromBase64(packed.lz4),
  lzo: fromBase64(packed.lzo),
};
/** As the Linux build puts it into a bzImage: gzip's own trailer is the recorded size. */
const payloadOf = (name: string): Uint8Array =>
  name === 'gzip' ? streams[name]! : withRecordedSize(streams[name]!, sample.length);

async function errorOf(promise: Promise<unknown>): Promise<PvError> {
  const error: unknown = await promise.then(
    () => new Error('nothing was thrown'),
    (e: unknown) => e,
  );
  if (!(error instanceof PvError)) throw error;
  return error;
}

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'paravane-kernel-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function put(name: string, content: Uint8Array): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, content);
  return path;
}

describe('what is recognised', () => {
  it('a plain ELF file', async () => {
    const kernel = await loadPvKernel(await put('vmlinux', sample));
    expect(kernel.description).toEqual({ container: 'elf', version: '', compressor: 'none', bits: 64, pv: true });
    expect(kernel.xen.virtBase).toBe(0xffffffff80000000n);
  });

  it.each(Object.keys(streams))('a bzImage packed with %s', async (name) => {
    const kernel = await loadPvKernel(await put(`vmlinuz-${name}`, makeBzImage(payloadOf(name))));
    expect(kernel.description).toEqual({
      container: 'bzImage',
      version: '6.1.0-test (builder@example) #1',
      compressor: name,
      bits: 64,
      pv: true,
    });
    expect(Buffer.compare(kernel.elf.bytes, sample)).toBe(0);
  });

  it.each(['gzip', 'xz', 'zstd'])('an ELF file packed with %s', async (name) => {
    const kernel = await loadKernel(await put(`mini-os.${name}`, streams[name]!));
    expect(kernel.description).toMatchObject({ container: 'elf', compressor: name, pv: true });
  });
});

describe('kernels that cannot be PV guests', () => {
  const code = new Uint8Array(64);

  it('without Xen notes: loads, but not as a PV kernel', async () => {
    const path = await put('plain', makeElf({ bits: 64, entry: 0n, load: [{ physicalAddress: 0n, data: code }] }));
    expect((await loadKernel(path)).description.pv).toBe(false);
    const error = await errorOf(loadPvKernel(path));
    expect(error.code).toBe('kernel-no-pv-support');
    expect(error.message).toContain('this kernel has no PV support; it can be started as a PC');
  });

  it('32-bit', async () => {
    const notes = [{ type: 5, value: 'xen-3.0' }];
    const path = await put('k32', makeElf({ bits: 32, entry: 0n, load: [{ physicalAddress: 0n, data: code }], notes }));
    expect((await loadKernel(path)).description).toMatchObject({ bits: 32, pv: true });
    expect((await errorOf(loadPvKernel(path))).code).toBe('kernel-32-bit');
  });

  it('a program', async () => {
    const load = [{ physicalAddress: 0n, data: code }];
    const path = await put('ls', makeElf({ bits: 64, entry: 0n, load, interpreter: '/lib64/ld-linux-x86-64.so.2' }));
    expect((await errorOf(loadPvKernel(path))).code).toBe('kernel-is-program');
  });
});

describe('bad files', () => {
  it('missing, a directory, a device, empty', async () => {
    expect((await errorOf(loadKernel(join(folder, 'nowhere')))).code).toBe('file-missing');
    expect((await errorOf(loadKernel(join(await put('file', sample), 'below')))).code).toBe('file-missing');
    await mkdir(join(folder, 'boot'));
    expect((await errorOf(loadKernel(join(folder, 'boot')))).code).toBe('file-is-directory');
    expect((await errorOf(loadKernel('/dev/null'))).code).toBe('file-not-regular');
    expect((await errorOf(loadKernel(await put('empty', new Uint8Array(0))))).code).toBe('file-empty');
  });

  it('unreadable', async () => {
    const denied = Object.assign(new Error('EACCES'), { code: 'EACCES', syscall: 'open' });
    expect(describeFileError(denied, '/boot/vmlinuz', 'kernel')).toMatchObject({
      code: 'file-unreadable',
      cause: denied,
    });
    // The administrator can read everything, so the whole way can only be tested as somebody else.
    if (process.getuid?.() !== 0) {
      const path = await put('secret', sample);
      await chmod(path, 0);
      expect((await errorOf(loadKernel(path))).code).toBe('file-unreadable');
    }
  });

  it('passes errors that are not of the file system', () => {
    const error = new TypeError('mistake');
    expect(describeFileError(error, 'x', 'kernel')).toBe(error);
  });

  it.each([
    ['text', Buffer.from('#!/bin/sh\necho hello\n'.repeat(100)), 'kernel-not-recognised'],
    ['short', Buffer.from('x'), 'kernel-not-recognised'],
    ['gzip of text', gzipSync('hello'.repeat(1000)), 'kernel-payload-not-elf'],
    ['cut gzip', gzipSync(sample).subarray(0, 300), 'kernel-payload-corrupt'],
    ['cut zstd', streams['zstd']!.subarray(0, 300), 'kernel-payload-corrupt'],
    ['cut ELF header', sample.subarray(0, 50), 'kernel-elf-invalid'],
    ['bzImage of text', makeBzImage(gzipSync('hello'.repeat(1000))), 'kernel-payload-not-elf'],
    ['bzImage of noise', makeBzImage(new Uint8Array(500).fill(0x33)), 'kernel-compression-unknown'],
    ['wrong size', makeBzImage(withRecordedSize(streams['lz4']!, 12345)), 'kernel-payload-corrupt'],
  ] as [string, Uint8Array, string][])('%s', async (_name, content, code) => {
    expect((await errorOf(unpackKernel(content, 'k'))).code).toBe(code);
  });

  it.each(Object.keys(streams))('a bzImage with a damaged or cut %s payload', async (name) => {
    const good = makeBzImage(payloadOf(name));
    expect((await errorOf(unpackKernel(good.subarray(0, good.length - 400), 'k'))).code).toBe('kernel-truncated');
    const damaged = good.slice();
    damaged.fill(0x55, 1024 + 0x100 + 400, 1024 + 0x100 + 480);
    const error = await errorOf(unpackKernel(damaged, 'k'));
    expect(error.code).toBe('kernel-payload-corrupt');
    expect(error.message).toContain(name);
    expect(error.cause).toBeInstanceOf(PvError);
  });

  it('survives damage of any kind', async () => {
    for (const name of Object.keys(streams)) {
      for (const damaged of mutations(makeBzImage(payloadOf(name)), 100, 31)) {
        await unpackKernel(damaged, 'k').catch((error: unknown) => {
          if (!(error instanceof PvError)) throw error;
        });
      }
    }
  });
});

describe('initrd', () => {
  it('is read whole', async () => {
    const path = await put('initrd', Uint8Array.of(1, 2, 3));
    expect([...(await loadInitrd(path, 2 ** 20))]).toEqual([1, 2, 3]);
  });

  it('is refused when it is as large as memory', async () => {
    const path = await put('big-initrd', new Uint8Array(2 ** 20));
    const error = await errorOf(loadInitrd(path, 2 ** 20));
    expect(error.code).toBe('initrd-larger-than-memory');
    expect(error.message).toContain('1 MiB');
  });

  it('has its own word in errors', async () => {
    expect((await errorOf(loadInitrd(join(folder, 'no-initrd'), 1))).message).toContain('initrd file');
  });
});
