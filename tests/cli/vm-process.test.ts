// SPDX-License-Identifier: MIT
// The command line and the VM process together, with a fake machine in place of the engine.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CommandLine, cpuSeconds, eventually, isAlive } from '../support/paravane.ts';

let cli: CommandLine;
beforeEach(() => {
  cli = new CommandLine('fake');
});
afterEach(() => cli.dispose());

const guest = (does: string, ...more: string[]): string[] => ['run', '--kernel', 'k', '--append', does, ...more];

describe('exit codes', () => {
  it.each([
    ['poweroff', 0, /^$/],
    ['reboot', 10, /asked to be rebooted/],
    ['crash=oops', 11, /The guest crashed: oops/],
    ['suspend', 12, /suspended itself/],
    ['refuse', 3, /paravane: The kernel file ".*k" does not exist\.\nCheck the spelling/],
    ['throw', 1, /Paravane itself failed while running the machine: the fake broke/],
  ])('%s: %i', async (does, code, stderr) => {
    const result = await cli.run(...guest(does));
    expect(result.code).toBe(code);
    expect(result.stderr).toMatch(stderr);
    expect(result.stderr).not.toMatch(/\bat .*:\d+:\d+/);
    expect(cli.entries()).toEqual([]);
  });

  it.each([
    [['run'], /run needs --kernel FILE/],
    [['bogus'], /no command "bogus"/],
    [['run', '--kernel', 'k', '--memory', 'much'], /"much" is no size of memory/],
    [['run', '--kernel', 'k', '--nonsense'], /Unknown option '--nonsense'/],
    [['run', '--kernel', 'k', '--on-reboot', 'dance'], /--on-reboot is exit or restart, not "dance"/],
  ])('2 for %j', async (args, stderr) => {
    const result = await cli.run(...args);
    expect(result.code).toBe(2);
    expect(result.stderr).toMatch(stderr);
  });

  it('14 and a sentence when the VM process is killed', async () => {
    const command = cli.start(...guest('idle', '--name', 'victim'));
    await command.until(/fake victim/);
    process.kill(cli.entries()[0].pid, 'SIGKILL');
    const result = await command.finished;
    expect(result.code).toBe(14);
    expect(result.stderr).toMatch(/process of machine "victim" ended unexpectedly \(signal SIGKILL\)/);
    expect(cli.entries()).toEqual([]);
  });
});

describe('streaming', () => {
  it('passes large output on whole and in order', async () => {
    const lines = 200_000;
    const result = await cli.run(...guest(`lines=${lines} poweroff`));
    const expected = Array.from({ length: lines }, (_, i) => `line ${i}\n`).join('');
    expect(result.stdout.slice(result.stdout.indexOf('\n') + 1) === expected).toBe(true);
    expect(result.code).toBe(0);
  });

  it('makes the guest wait for a slow reader instead of gathering output', async () => {
    const command = cli.start(...guest('lines=5000000 poweroff'));
    command.child.stdout!.pause();
    await eventually(() => cli.entries().length === 1, 'VM announced');
    const { pid } = cli.entries()[0];
    // 5,000,000 lines are about 60 MB; a VM process that does not wait would have made all of them.
    await new Promise((resolve) => setTimeout(resolve, 1500));
    const before = cpuSeconds(pid);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    expect(cpuSeconds(pid) - before).toBeLessThan(0.1);
    command.child.kill('SIGKILL');
    await eventually(() => !isAlive(pid), 'VM ends with its reader');
  });

  it('passes piped input on and echoes it back whole', async () => {
    const text = 'abcdefghijklmnopqrstuvwxyz\n'.repeat(20_000);
    const command = cli.start(...guest('idle'));
    command.type(`${text}\u0004`);
    const result = await command.finished;
    expect(result.stdout.includes(text)).toBe(true);
    expect(result.code).toBe(0);
  });

  it('ends with the guest even when input stays open', async () => {
    expect((await cli.start(...guest('poweroff')).finished).code).toBe(0);
  });

  it('prints figures with --stats', async () => {
    const { stderr } = await cli.run(...guest('poweroff', '--stats'));
    for (const label of [
      'instructions',
      'MIPS',
      'idle',
      'host CPU time',
      'peak',
      'TLB misses',
      '#PF \\(14\\)',
      'sched_op',
    ]) {
      expect(stderr).toMatch(new RegExp(label));
    }
  });
});

describe('ending from outside', () => {
  it('asks the guest to power off on SIGTERM', async () => {
    const command = cli.start(...guest('idle'));
    await command.until(/fake/);
    command.child.kill('SIGTERM');
    const result = await command.finished;
    expect(result.stdout).toMatch(/asked to poweroff/);
    expect(result.code).toBe(0);
  });

  it.each(['idle deaf', 'spin deaf'])('ends a guest that does not listen (%s) on the second signal', async (does) => {
    const command = cli.start(...guest(does));
    await command.until(/fake/);
    command.child.kill('SIGTERM');
    await command.until(/interrupt once more/);
    command.child.kill('SIGTERM');
    const result = await command.finished;
    expect(result.code).toBe(13);
  });

  it('powers the guest off when the command dies without detaching', async () => {
    const command = cli.start(...guest('idle'));
    await command.until(/fake/);
    const { pid } = cli.entries()[0];
    command.child.kill('SIGKILL');
    await eventually(() => !isAlive(pid), 'VM ends');
    expect(fs.readdirSync(cli.runtimeDirectory)).toEqual([]);
  });

  it('ends an abandoned guest that does not power off within the grace time', async () => {
    const command = cli.start(...guest('idle deaf'));
    await command.until(/fake/);
    const { pid } = cli.entries()[0];
    command.child.kill('SIGKILL');
    await eventually(() => !isAlive(pid), 'VM ends', 20_000);
  });

  // Deaf, too: the request may come before the guest hangs.
  it.each(['hang deaf', 'stuck deaf'])('ends a guest whose vCPU does not come back (%s)', async (does) => {
    const command = cli.start(...guest(does));
    await command.until(/fake/);
    const { pid } = cli.entries()[0];
    command.child.kill('SIGTERM');
    await command.until(/interrupt once more/);
    command.child.kill('SIGTERM');
    expect((await command.finished).code).toBe(13);
    await eventually(() => !isAlive(pid), 'VM ends');
  });

  it('restarts a guest that reboots when asked to', async () => {
    const command = cli.start(...guest('lines=1 reboot', '--on-reboot', 'restart'));
    await command.until(/(line 0[^]*){3}/);
    command.child.kill('SIGTERM');
    await command.finished;
    expect(command.stderr).toMatch(/The guest reboots/);
  });
});

describe('on a terminal', () => {
  it('names its keys, tells the size, and passes Ctrl-C to the guest', async () => {
    const command = cli.startOnTerminal(...guest('idle'));
    await command.until(/Ctrl-\] d detaches.*Ctrl-\] q powers off by force/);
    await command.until(/size 100x30/);
    command.type('x\u0003y\u0004');
    const result = await command.finished;
    expect(result.stdout).toContain('x\u0003y\u0004');
    expect(result.code).toBe(0);
  });

  it.each([
    ['\u0004', 'in peace'],
    ['\u001dq', 'at once'],
  ])('ends with %j, and the machine is closed %s', async (keys, how) => {
    const file = path.join(cli.dataDirectory, 'closed');
    const command = cli.startOnTerminal(...guest(`closed=${file} idle`));
    await command.until(/fake/);
    command.type(keys);
    await command.finished;
    expect(fs.readFileSync(file, 'utf8')).toBe(how);
  });

  it('powers off by force with Ctrl-] q', async () => {
    const command = cli.startOnTerminal(...guest('spin deaf'));
    await command.until(/fake/);
    command.type('\u001dq');
    const result = await command.finished;
    expect(result.stdout).toMatch(/powered off by force/);
    expect(result.code).toBe(13);
  });

  it('detaches, lists, attaches again with what was missed, and survives the loss of that terminal', async () => {
    const first = cli.startOnTerminal(...guest('idle', '--name', 'web'));
    await first.until(/fake web/);
    first.type('before\u001dd');
    const detached = await first.finished;
    expect(detached.code).toBe(0);
    const { id, pid } = cli.entries()[0];
    expect(detached.stdout).toContain(`paravane attach ${id}`);
    expect((await cli.run('list')).stdout).toMatch(new RegExp(`^${id} +web +${pid} `, 'm'));

    const second = cli.start('attach', 'web');
    await second.until(/fake web[^]*before/);
    second.child.kill('SIGKILL');
    await second.finished;
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(isAlive(pid)).toBe(true);

    const third = cli.start('attach', id);
    third.type('\u0004');
    expect((await third.finished).code).toBe(0);
    await eventually(() => !isAlive(pid), 'VM ends');
    expect(cli.entries()).toEqual([]);
  });
});

describe('running machines', () => {
  it('refuses to attach to a machine that does not run', async () => {
    const result = await cli.run('attach', 'nobody');
    expect(result.code).toBe(3);
    expect(result.stderr).toMatch(/No running machine is called "nobody"\.\nRun "paravane list"/);
  });

  it('cleans up after a VM process that was killed', async () => {
    const command = cli.startOnTerminal(...guest('idle', '--name', 'gone'));
    await command.until(/fake gone/);
    command.type('\u001dd');
    await command.finished;
    const { pid } = cli.entries()[0];
    process.kill(pid, 'SIGKILL');
    await eventually(() => !isAlive(pid), 'VM process killed');
    expect((await cli.run('list')).stderr).toMatch(/No machine is running/);
    expect(cli.entries()).toEqual([]);
  });

  it('lets nobody attach without the token', async () => {
    const command = cli.start(...guest('idle'));
    await command.until(/fake/);
    const [entry] = cli.entries();
    const file = `${cli.runtimeDirectory}/${entry.id}.json`;
    fs.writeFileSync(file, JSON.stringify({ ...JSON.parse(fs.readFileSync(file, 'utf8')), token: 'guessed' }));
    const result = await cli.run('attach', entry.id);
    expect(result.code).toBe(3);
    expect(result.stderr).toMatch(/does not answer \(it closed the connection\)/);
    expect(isAlive(entry.pid)).toBe(true);
    expect(cli.entries()).toHaveLength(1);
    command.child.kill('SIGTERM');
    await command.finished;
  });

  it('distrusts a runtime directory that others can enter', async () => {
    fs.chmodSync(cli.runtimeDirectory, 0o755);
    const result = await cli.run('list');
    expect(result.code).toBe(3);
    expect(result.stderr).toMatch(/cannot be trusted: other users can enter it/);
  });
});

it('an idle guest with a timer costs at most 1 % of a core', async () => {
  const command = cli.start(...guest('tick'));
  await command.until(/fake/);
  const { pid } = cli.entries()[0];
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const before = cpuSeconds(pid);
  await new Promise((resolve) => setTimeout(resolve, 5000));
  // The clock of /proc ticks every 10 ms: 5 s at 1 % are 5 ticks.
  expect(cpuSeconds(pid) - before).toBeLessThanOrEqual(0.05);
  command.child.kill('SIGTERM');
  await command.finished;
});
