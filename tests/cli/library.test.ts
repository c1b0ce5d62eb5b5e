// SPDX-License-Identifier: MIT
// The verbs of the library on the command line: without a manager, through a running one, and across the death of one.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CommandLine, eventually } from '../support/paravane.ts';
import type { RunningCommand } from '../support/paravane.ts';

let cli: CommandLine;
beforeEach(() => {
  cli = new CommandLine('fake');
});
afterEach(() => cli.dispose());

async function ok(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await cli.run(...args);
  expect(stderr).toBe('');
  expect(code).toBe(0);
  return stdout;
}
const json = async (...args: string[]) => JSON.parse(await ok(...args, '--json'));
const create = (name: string, does: string, ...more: string[]) =>
  json('create', name, '--kernel', 'package.json', '--append', does, '--memory', '64M', ...more);
const stateOf = async (name: string): Promise<string> => (await json('show', name)).summary.state;

async function serve(...more: string[]): Promise<{ server: RunningCommand; url: string }> {
  const server = cli.start('serve', '--port', '0', ...more);
  await server.until(/Paravane is at (\S+)/);
  return { server, url: /Paravane is at (\S+)/.exec(server.stdout)![1] };
}

describe('without a manager', () => {
  it('machines are made, changed, run and removed', async () => {
    const { machine } = await create('web', 'idle', '--tag', 'x', '--start');
    expect(machine).toMatchObject({ name: 'web', state: 'running', tags: ['x'] });
    expect(cli.entries()).toHaveLength(1);
    expect(await ok('list')).toMatch(new RegExp(`^${machine.id} +web +${cli.entries()[0].pid} .* running$`, 'm'));
    await ok('pause', 'web');
    expect(await stateOf('web')).toBe('paused');
    await ok('resume', 'WEB');
    await ok('reset', machine.id);
    expect(await ok('set', 'web', '--memory', '128M', '--notes', 'n')).toMatch(/memoryBytes: from the next start on/);
    const refused = await cli.run('rm', 'web', '--json');
    expect(refused.code).toBe(3);
    expect(JSON.parse(refused.stderr).error).toMatchObject({ code: 'machine-state' });
    expect(await ok('stop', 'web', '--wait')).toBe('Stopped "web"\n');
    expect(await ok('log', 'web')).toMatch(/started as process[^]*reset[^]*ended: poweroff/);
    await ok('clone', 'web', 'web 2');
    await ok('rename', 'web 2', 'other');
    await ok('order', 'other');
    expect((await json('list')).machines.map(({ name }: { name: string }) => name)).toEqual(['other', 'web']);
    await ok('rm', 'other');
    expect(await ok('undo')).toBe('Taken back: Removed "other"\n');
    await ok('rm', 'other');
    expect(await ok('trash', 'list')).toMatch(/other/);
    await ok('trash', 'empty');
    expect((await json('list')).machines).toHaveLength(1);
  });

  it('a console can be attached and detached', async () => {
    await create('web', 'idle', '--start');
    const console = cli.startOnTerminal('console', 'web');
    await console.until(/fake web/);
    console.type('hello');
    await console.until(/size 100x30[^]*hello/);
    console.type('\u001dd');
    expect((await console.finished).code).toBe(0);
    expect(await stateOf('web')).toBe('running');
    expect((await cli.run('type', 'web', 'typed')).code).toBe(0);
    const again = cli.start('attach', 'web');
    await again.until(/hello[^]*typed/);
    again.child.kill('SIGKILL');
    await again.finished;
    expect(await stateOf('web')).toBe('running');
    expect(await ok('stop', 'web', '--force')).toBe('Stopped "web"\n');
  });

  it.each([
    [['show', 'nobody'], 3, /no machine "nobody"/],
    [['start'], 2, /it is "paravane start NAME"/],
    [['create', 'x'], 2, /needs a NAME and --kernel/],
    [['create', 'a/b', '--kernel', 'package.json'], 2, /name contains a slash/],
    [['stats', 'x', '--from', 'sometime'], 3, /no machine "x"/],
    [['serve', '--port', 'x'], 2, /--port is a number/],
    [['inspect', 'nothing'], 3, /does not exist/],
  ])('%j is refused', async (args, code, text) => {
    const result = await cli.run(...args);
    expect(result.stderr).toMatch(text);
    expect(result.code).toBe(code);
  });

  it('says what a file is', async () => {
    expect(await ok('inspect', 'package.json')).toMatch(/Unknown file/);
    expect(await json('host')).toMatchObject({ platform: process.platform });
    const report = path.join(cli.dataDirectory, 'r.zip');
    await ok('report', '--output', report);
    expect(fs.readFileSync(report).toString('latin1', 0, 2)).toBe('PK');
  });
});

describe('with a manager', () => {
  it('commands go through it, and it keeps history', async () => {
    const { server } = await serve();
    await create('web', 'spin', '--start');
    await new Promise((resolve) => setTimeout(resolve, 3500));
    expect(await ok('stats', 'web')).toMatch(/Guest instructions +[\d,]+ \/s/);
    expect(await ok('stats', 'web', '--csv')).toMatch(/^time,cpu,[^\r]*\r\n\d{4}-/);
    const { counters, sessions } = await json('diagnostics');
    expect(counters['command machine:create']).toBe(1);
    expect(sessions).toHaveLength(1);
    server.child.kill('SIGTERM');
    expect((await server.finished).code).toBe(0);
    expect(await stateOf('web')).toBe('running');
  });

  it('its death is survived by machines and commands, and the next one finds them', async () => {
    const { server, url } = await serve();
    await create('web', 'idle', '--start');
    const [{ pid }] = cli.entries();
    server.child.kill('SIGKILL');
    await server.finished;
    expect(await stateOf('web')).toBe('running');
    const next = await serve();
    expect(new URL(next.url).hash).toBe(new URL(url).hash);
    expect((await json('show', 'web')).pid).toBe(pid);
    process.kill(pid, 'SIGKILL');
    await eventually(() => cli.entries().length === 0, 'cleaned up');
    expect(await stateOf('web')).toBe('crashed');
    const second = await cli.run('serve', '--port', '0');
    expect(second.code).toBe(3);
    expect(second.stderr).toContain(next.url);
    next.server.child.kill('SIGINT');
    await next.server.finished;
  });

  it('a new token makes old addresses invalid', async () => {
    const first = await serve();
    first.server.child.kill('SIGTERM');
    await first.server.finished;
    const second = await serve('--new-token');
    expect(new URL(second.url).hash).not.toBe(new URL(first.url).hash);
    second.server.child.kill('SIGTERM');
    await second.server.finished;
  });
});
