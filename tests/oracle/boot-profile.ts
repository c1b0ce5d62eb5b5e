// SPDX-License-Identifier: MIT
// Writes boot-profile.json: which instruction forms Debian's kernel and shell are made of between power-on and power-off, as decoded by the engine.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BlockWriter } from '../../engine/cpu/lower.ts';
import { decoded } from '../../engine/x86/decode.ts';
import { PvMachine } from '../../engine/xen/machine.ts';
import { loadInterpreter } from '../../main/build/interpreter-files.ts';
import { loadPvKernel } from '../../main/kernel/load.ts';
import { randomWord } from '../../main/vm/random-word.ts';
import { buildInitramfs } from '../../main/welcome/initramfs.ts';
import { debianFile, debianKernel } from '../support/requirements.ts';
import { profileKey } from './described.ts';

const seen = new Map<string, number>();
const add = BlockWriter.prototype.add;
BlockWriter.prototype.add = function (this: BlockWriter, mode, off) {
  const key = profileKey(decoded.entry, decoded.size, mode === 16 ? 32 : mode);
  seen.set(key, (seen.get(key) ?? 0) + 1);
  return add.call(this, mode, off);
};

const script =
  'uname -a; ls -lR /bin /sys > /dev/null; dd if=/dev/zero bs=64k count=64 | sha256sum; awk "BEGIN { print 1 / 3 }"; gzip -c /bin/busybox | gunzip | md5sum\n';
const { elf } = await loadPvKernel(await debianKernel('cloud'));
const start = performance.now();
const machine = await PvMachine.create({
  memoryBytes: 256 << 20,
  kernel: elf.bytes,
  initrd: buildInitramfs({
    busybox: readFileSync(await debianFile('busybox-static', '/bin/busybox')),
    script: new TextEncoder().encode(script),
  }),
  commandLine: 'console=hvc0 quiet',
  interpreter: loadInterpreter(),
  // Every block is decoded whether it is translated or not.
  tier: 'interpret',
  host: {
    monotonicNs: () => (performance.now() - start) * 1e6,
    wallClockNs: () => Date.now() * 1e6,
    randomWord,
    consoleOut: (bytes) => void process.stdout.write(bytes),
    log: (level, text) => void process.stderr.write(`${level}: ${text}\n`),
  },
});
const sleeper = new Int32Array(new SharedArrayBuffer(4));
for (;;) {
  const result = machine.run(20e6);
  if (result.state === 'ended') break;
  if (result.state === 'idle')
    Atomics.wait(sleeper, 0, 0, Math.max(0, Math.min(50, result.wakeAtNs / 1e6 - (performance.now() - start))));
}
const sorted = Object.fromEntries([...seen].sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(join(import.meta.dirname, 'boot-profile.json'), `${JSON.stringify(sorted, undefined, 1)}\n`);
process.stdout.write(`${seen.size} forms\n`);
