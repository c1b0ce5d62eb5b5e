// SPDX-License-Identifier: MIT
// Runs a micro-guest as the control domain of real Xen under QEMU, so that what the tests expect is what Xen does.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { debianFile, requireProgram } from '../../support/requirements.ts';

const XEN_PACKAGE = 'xen-hypervisor-4.17-amd64';
const XEN_IMAGE = 'boot/xen-4.17-amd64.gz';
const XEN_OPTIONS = 'console=com1 com1=115200,8n1 loglvl=warning dom0_mem=16M,max:16M dom0_max_vcpus=1';
const TIME_LIMIT_MS = 20_000;

/** How Xen says that its control domain has ended. */
const ENDINGS = [
  { message: 'Hardware Dom0 halted', kind: 'poweroff' },
  { message: 'Hardware Dom0 shutdown', kind: 'reboot' },
  { message: 'Hardware Dom0 crashed', kind: 'crash' },
] as const;

export interface RealXenResult {
  readonly output: string;
  readonly outcome:
    { readonly kind: 'poweroff' | 'reboot' | 'stuck' } | { readonly kind: 'crash'; readonly reason: string };
}

/**
 * Checks that mean something else on real Xen under QEMU, by guest. Either the control domain has rights and tables that
 * other domains have not, or QEMU's processor differs from the manuals. Everything not listed here agrees.
 */
export const REAL_XEN_DIFFERENCES: Readonly<
  Record<string, { readonly why: string; readonly checks: 'all' | readonly RegExp[] }>
> = {
  'exceptions: vector, error code, rip': {
    why: 'QEMU raises #GP for a non-canonical stack address and does not know int1',
    checks: [/^#SS/, /^#DB by int1/],
  },
  'floating-point exceptions': { why: 'QEMU does not raise SIMD exceptions', checks: [/^#XM/] },
  'page faults: error code and cr2': {
    why: 'QEMU reports the read half of a read-modify-write',
    checks: [/^read-modify-write: error code/],
  },
  'software interrupts': { why: 'QEMU reports int n as #GP(n * 16 + 2)', checks: [/^int 0x8[01] at DPL/, /^int 0x90/] },
  'CPUID behind the forced-emulation prefix': { why: 'the control domain sees MTRR', checks: [/^leaf 1 hides/] },
  xen_version: { why: 'that Xen was built with an id', checks: [/^build id/] },
  suspend: { why: 'the control domain cannot be suspended', checks: 'all' },
  'a watchdog nobody pets': { why: 'the watchdog of the control domain restarts the PC', checks: 'all' },
  'entries that are refused': { why: 'a domain with devices may choose cache attributes', checks: [/^L1: cache/] },
  'hypercalls that are not there': { why: 'the control domain may profile', checks: [/^xenoprof_op/] },
  'hypercalls for control domains only': { why: 'it is one', checks: [/^sysctl/, /^domctl/] },
  'remote_shutdown is for control domains': { why: 'it is one', checks: 'all' },
  'memory_op: questions': { why: 'the control domain may ask', checks: [/^machine_memory_map/] },
  memory_map: { why: 'the control domain has none', checks: 'all' },
  'page types: a table is not writable, a writable page is no table': {
    why: 'the control domain has writable page tables without asking',
    checks: [/^write to a table/],
  },
  'writable page tables': { why: 'as above', checks: [/^without the assist/] },
  start_info: {
    why: 'Xen builds the control domain itself: another magic, flags, no rings',
    checks: [/^magic: x86_64/, /^neither/, /^a xenstore port/, /^a console port/, /page/],
  },
  'xenstore: the port and the ring': { why: 'nobody runs xenstore', checks: 'all' },
  'xenstore: nodes': { why: 'nobody runs xenstore', checks: 'all' },
  'xenstore: refusals': { why: 'nobody runs xenstore', checks: 'all' },
  'xenstore: who we are': { why: 'nobody runs xenstore', checks: 'all' },
  'xenstore: watches': { why: 'nobody runs xenstore', checks: 'all' },
  'xenstore: the host asks for a shutdown': { why: 'nobody runs xenstore', checks: 'all' },
  'xenstore: transactions': { why: 'nobody runs xenstore', checks: 'all' },
  'console output': { why: 'the control domain has no console ring', checks: 'all' },
  'console input arrives with an event': { why: 'the control domain has no console ring', checks: 'all' },
};

/** Runs `kernel` under Xen 4.17 from Debian. Throws when QEMU is not installed or the package cannot be had. */
export async function runOnRealXen(kernel: Uint8Array, commandLine: string): Promise<RealXenResult> {
  requireProgram('qemu-system-x86_64', 'qemu-system-x86');
  const xen = gunzipSync(readFileSync(await debianFile(XEN_PACKAGE, XEN_IMAGE)));
  const directory = mkdtempSync(join(tmpdir(), 'paravane-xen-'));
  try {
    const [xenFile, guestFile] = [join(directory, 'xen'), join(directory, 'guest')];
    writeFileSync(xenFile, xen);
    writeFileSync(guestFile, kernel);
    const text = await serialOutput([
      ...['-accel', 'tcg', '-m', '256', '-cpu', 'qemu64,+fsgsbase,+rdtscp', '-no-reboot', '-display', 'none'],
      ...['-monitor', 'none', '-serial', 'stdio', '-kernel', xenFile, '-append', XEN_OPTIONS],
      ...['-initrd', `${guestFile} ${commandLine}`.trim()],
    ]);
    const output = text.slice(text.indexOf('init memory') + 'init memory'.length);
    const ending = ENDINGS.find(({ message }) => output.includes(message));
    if (ending?.kind === 'crash') return { output, outcome: { kind: 'crash', reason: ending.message } };
    return { output, outcome: { kind: ending?.kind ?? 'stuck' } };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Serial output of a QEMU run, which is ended when Xen says that the domain is gone. */
function serialOutput(options: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const qemu = spawn('qemu-system-x86_64', options);
    let text = '';
    const limit = setTimeout(() => qemu.kill(), TIME_LIMIT_MS);
    qemu.stdout.on('data', (data: Buffer) => {
      text += data.toString('latin1');
      if (ENDINGS.some(({ message }) => text.includes(message))) qemu.kill();
    });
    qemu.on('error', reject);
    qemu.on('exit', () => {
      clearTimeout(limit);
      resolve(text);
    });
  });
}
