// SPDX-License-Identifier: MIT
// Builds the native harness and runs batches of cases through it.

import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { decodeHeader, decodeResults, encodeBatch, HEADER_BYTES } from './case.ts';
import type { Batch, Result } from './case.ts';

const SOURCE = join(import.meta.dirname, 'native', 'harness.c');
const BUILD = join(import.meta.dirname, '..', '..', 'build', 'oracle');

/** Why the oracle cannot run here, as one line that says what to type; undefined when it can. */
export function nativeObstacle(): string | undefined {
  if (process.arch !== 'x64' || process.platform !== 'linux') {
    return `the differential tests need an x86-64 Linux machine (this is ${process.platform} ${process.arch}); run the other tests with: npx vitest run engine main`;
  }
  if (spawnSync('gcc', ['--version']).error)
    return 'the differential tests need a C compiler; install it with: sudo apt-get install gcc libc6-dev binutils';
  return undefined;
}

/** Path of the harness, compiled when its source has changed. Throws with what to do when it cannot be built. */
export function buildHarness(): string {
  const obstacle = nativeObstacle();
  if (obstacle !== undefined) throw new Error(obstacle);
  const hash = createHash('sha256').update(readFileSync(SOURCE)).digest('hex').slice(0, 16);
  const program = join(BUILD, `harness-${hash}`);
  if (existsSync(program)) return program;
  mkdirSync(BUILD, { recursive: true });
  const fresh = `${program}.${process.pid}`;
  const gcc = spawnSync('gcc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', fresh, SOURCE], { encoding: 'utf8' });
  if (gcc.status !== 0)
    throw new Error(`gcc could not build the oracle harness (sudo apt-get install gcc libc6-dev): ${gcc.stderr}`);
  renameSync(fresh, program);
  return program;
}

/** The real CPU: one harness process, fed batch by batch. */
export class NativeCpu {
  private readonly child: ChildProcessByStdio<Writable, Readable, Readable>;
  private readonly chunks: Buffer[] = [];
  private buffered = 0;
  private wake: (() => void) | undefined;
  private ended: string | undefined;
  private complaint = '';

  constructor() {
    this.child = spawn(buildHarness(), { stdio: ['pipe', 'pipe', 'pipe'] });
    this.child.stdout.on('data', (chunk: Buffer) => {
      this.chunks.push(chunk);
      this.buffered += chunk.length;
      this.wake?.();
    });
    this.child.stderr.on('data', (chunk: Buffer) => {
      this.complaint += chunk.toString();
    });
    this.child.on('close', (code, signal) => {
      this.ended = `the oracle harness ended (${signal ?? `exit code ${code ?? '?'}`}) ${this.complaint.trim()}`;
      this.wake?.();
    });
    // The reason of a broken pipe is told by 'close'.
    this.child.stdin.on('error', () => undefined);
  }

  private async take(count: number): Promise<Uint8Array> {
    while (this.buffered < count) {
      if (this.ended !== undefined) throw new Error(this.ended);
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
    const bytes = new Uint8Array(count);
    let at = 0;
    while (at < count) {
      const chunk = this.chunks[0];
      const part = chunk.subarray(0, count - at);
      bytes.set(part, at);
      at += part.length;
      if (part.length === chunk.length) this.chunks.shift();
      else this.chunks[0] = chunk.subarray(part.length);
    }
    this.buffered -= count;
    return bytes;
  }

  /** Results in the order of the cases. Rejects when the harness dies, with what it said. */
  async run(batch: Batch): Promise<Result[]> {
    this.child.stdin.write(encodeBatch(batch));
    const header = decodeHeader(await this.take(HEADER_BYTES));
    return decodeResults(await this.take(header.bytes), header.count);
  }

  close(): void {
    this.child.stdin.end();
  }
}
