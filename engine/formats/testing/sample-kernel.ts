// SPDX-License-Identifier: MIT
// For tests: a small PV kernel image whose bytes exercise compressors (code with calls, text, runs, noise), and a bzImage around a payload.
import { makeElf } from './make-elf.ts';
import { randomNumbers } from './mutate.ts';

/** The uncompressed kernel. packed-samples.ts holds it packed by each tool, so it must not change without them. */
export function sampleKernel(): Uint8Array {
  return makeElf({
    bits: 64,
    entry: 0xffffffff81000000n,
    load: [
      { physicalAddress: 0x1000000n, virtualAddress: 0xffffffff81000000n, data: sampleContent(), memorySize: 0x8000 },
    ],
    notes: [
      { type: 5, value: 'xen-3.0' },
      { type: 8, value: 'generic' },
      { type: 1, value: 0xffffffff81000000n },
      { type: 3, value: 0xffffffff80000000n },
      { type: 4, value: 0n },
      { type: 9, value: 'yes' },
      { type: 10, value: '!writable_page_tables|pae_pgdir_above_4gb' },
      { type: 15, value: 0x8000000000n },
      { type: 16, value: 1n },
    ],
  });
}

function sampleContent(): Uint8Array {
  const random = randomNumbers(0x5eed);
  const words = ['kernel', 'memory', 'of the', 'page', 'frame', 'is', 'not', 'event channel'];
  const bytes: number[] = [];
  for (let i = 0; i < 150; i++) {
    // mov rdi, rbx; call one of eight functions (relative, so each call has other bytes until a filter makes them absolute)
    bytes.push(0x48, 0x89, 0xdf, i % 9 === 8 ? 0xe9 : 0xe8);
    const target = 0x4000 + (random() % 8) * 0x40 - (bytes.length + 4);
    bytes.push(target & 0xff, (target >> 8) & 0xff, (target >> 16) & 0xff, (target >> 24) & 0xff);
    if (i % 20 === 0) bytes.push(0xe8, 0xe8, 0x00, 0xe9, 0xff); // what looks like branches and is none
  }
  for (let i = 0; i < 400; i++) for (const c of words[random() % words.length]! + ' ') bytes.push(c.charCodeAt(0));
  for (let i = 0; i < 3000; i++) bytes.push(0);
  for (let i = 0; i < 200; i++) bytes.push(random() & 0xff);
  for (let i = 0; i < 5000; i++) bytes.push('0123456789abcdef'.charCodeAt((i * 7) % 16));
  return Uint8Array.from(bytes);
}

/** A bzImage of boot protocol 2.15 with one setup sector and `payload` as it lies in the file (recorded size included). */
export function makeBzImage(payload: Uint8Array, version = '6.1.0-test (builder@example) #1'): Uint8Array {
  const protectedModeAt = 2 * 512;
  const payloadOffset = 0x100;
  const bytes = new Uint8Array(protectedModeAt + payloadOffset + payload.length + 64);
  const view = new DataView(bytes.buffer);
  bytes[0x1f1] = 1; // setup sectors
  view.setUint16(0x1fe, 0xaa55, true);
  bytes.set([0x48, 0x64, 0x72, 0x53], 0x202); // "HdrS"
  view.setUint16(0x206, 0x20f, true);
  view.setUint16(0x20e, 0x100, true); // version string at 0x300
  for (let i = 0; i < version.length; i++) bytes[0x300 + i] = version.charCodeAt(i);
  view.setUint32(0x248, payloadOffset, true);
  view.setUint32(0x24c, payload.length, true);
  bytes.set(payload, protectedModeAt + payloadOffset);
  return bytes;
}

/** `stream` with the uncompressed size behind it, as the Linux build appends it. */
export function withRecordedSize(stream: Uint8Array, size: number): Uint8Array {
  const bytes = new Uint8Array(stream.length + 4);
  bytes.set(stream);
  new DataView(bytes.buffer).setUint32(stream.length, size, true);
  return bytes;
}
