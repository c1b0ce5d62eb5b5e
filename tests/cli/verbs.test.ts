// SPDX-License-Identifier: MIT
// Every verb of the command line as a script uses it: JSON that can be parsed, exit codes, errors as data, and nothing that harms a terminal.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as net from 'node:net';
import * as os from 'node:os';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { verbs } from '../../main/cli/verbs.ts';
import { CommandLine, cpuSeconds, eventually, isAlive } from '../support/paravane.ts';
import type { RunningCommand } from '../support/paravane.ts';

let cli: CommandLine;
beforeEach(() => {
  cli = new CommandLine('fake');
});
afterEach(() => cli.dispose());

async function json(...args: string[]) {
  const { code, stdout, stderr } = await cli.run(...args, '--json');
  expect(stderr, args.join(' ')).toBe('');
  expect(code, args.join(' ')).toBe(0);
  return JSON.parse(stdout);
}

const create = (name: string, does: string, ...more: string[]) =>
  json('create', name, '--kernel', 'package.json', '--append', does, '--memory', '64M', ...more);

async function serve(...more: string[]): Promise<{ server: RunningCommand; url: string }> {
  const server = cli.start('serve', '--port', '0', '--json', ...more);
  await server.until(/"url":"[^"]+"/);
  return { server, url: JSON.parse(server.stdout).url };
}

async function end({ server }: { server: RunningCommand }): Promise<void> {
  server.child.kill('SIGTERM');
  expect((await server.finished).code).toBe(0);
}

describe.each(['directly', 'through a running manager'])('%s', (how) => {
  it('every verb answers in JSON', async () => {
    const manager = how === 'directly' ? null : await serve();
    const folder = path.join(cli.dataDirectory, 'elsewhere');
    const { machine, undo } = await create('web', 'idle', '--tag', 'a', '--notes', 'first');
    expect([machine.state, typeof undo.id]).toEqual(['off', 'string']);
    expect((await json('list')).machines).toHaveLength(1);
    expect((await json('list', 'FIRST')).machines).toHaveLength(1);
    expect((await json('list', 'nothing')).machines).toHaveLength(0);
    expect((await json('show', 'web')).configuration.notes).toBe('first');
    expect((await json('set', 'web', '--notes', 'second')).machine.notes).toBe('second');
    expect((await json('clone', 'web', 'copy')).machine.name).toBe('copy');
    expect((await json('rename', 'copy', 'other')).machine.name).toBe('other');
    expect((await json('move', 'other', folder)).machine.folder).toBe(folder);
    expect((await json('order', 'other')).undo.label).toBe('Changed the order');
    expect((await json('undo')).undone.label).toBe('Changed the order');
    expect((await json('rm', 'other')).undo.label).toBe('Removed "other"');
    const [{ id }] = (await json('trash', 'list')).machines;
    expect((await json('trash', 'restore', id)).machine.folder).toBe(folder);
    await json('rm', 'other');
    expect((await json('trash', 'empty')).removed).toEqual([id]);
    expect((await json('start', 'web')).state).toBe('running');
    expect((await json('pause', 'web')).state).toBe('paused');
    expect((await json('resume', 'web')).state).toBe('running');
    expect((await json('reset', 'web')).state).toBe('running');
    expect(await json('sysrq', 'web', 'h')).toEqual({});
    expect(await json('type', 'web', 'typed')).toEqual({});
    const shown = Buffer.from((await json('console', 'web', '--print')).scrollback, 'base64').toString();
    expect(shown).toContain('fake web');
    expect((await json('stats', 'web')).machine).toBe(machine.id);
    expect((await json('stats', 'web', '--counters')).instructions).toBeGreaterThanOrEqual(0);
    expect((await json('log', 'web')).entries.length).toBeGreaterThan(0);
    expect((await json('stop', 'web', '--wait')).state).toBe('off');
    expect((await json('inspect', 'package.json')).what).toBe('unknown');
    expect((await json('host')).platform).toBe(process.platform);
    expect((await json('settings')).zoom).toBe(100);
    expect((await json('diagnostics')).versions.node).toBe(process.versions.node);
    expect(fs.existsSync((await json('report', '--output', path.join(cli.dataDirectory, 'r.zip'))).file)).toBe(true);
    if (manager !== null) await end(manager);
  }, 180_000);
});

describe('settings', () => {
  it('are shown, changed by name, in groups, and reset', async () => {
    expect(await json('settings', 'zoom', '150', 'console.fontSize', '20', 'theme', 'dark')).toMatchObject({
      zoom: 150,
      theme: 'dark',
      console: { fontSize: 20, scrollbackLines: 5000 },
    });
    expect((await cli.run('settings', 'console.fontSize')).stdout).toBe('20\n');
    expect((await cli.run('settings', 'confirmForceStop', 'off')).stdout).toMatch(/^confirmForceStop +false\n$/);
    expect((await cli.run('settings')).stdout).toMatch(/^theme +dark$[^]*^console.typingSpeed +200$/m);
    expect(await json('settings', 'console.fontSize', '--reset')).toMatchObject({
      zoom: 150,
      console: { fontSize: 13 },
    });
    expect(await json('settings', '--reset')).toMatchObject({ zoom: 100, theme: 'system', confirmForceStop: true });
  });

  it.each([
    [['settings', 'colour', 'red'], /no setting "colour"/],
    [['settings', 'zoom', '1'], /zoom/],
    [['settings', 'theme', 'pink'], /theme should be/],
    [['settings', 'zoom', '1', 'theme'], /"theme" has no value/],
  ])('%j is refused', async (args, text) => {
    const { code, stderr } = await cli.run(...args);
    expect(stderr).toMatch(text);
    expect(code).toBe(2);
  });
});

describe('stopping', () => {
  it('says when a guest does not stop in time, and what then', async () => {
    await create('deaf', 'idle deaf', '--start');
    const late = await cli.run('stop', 'deaf', '--timeout', '1');
    expect(late.code).toBe(15);
    expect(late.stderr).toMatch(/has not done so within 1 seconds\.\nWait longer, or stop it by force/);
    const forced = await cli.run('stop', 'deaf', '--timeout', '1', '--force');
    expect([forced.code, forced.stdout]).toEqual([0, 'Stopped "deaf"\n']);
  });

  it('Ctrl-C ends the waiting; the machine runs on', async () => {
    await create('deaf', 'idle deaf', '--start');
    const waiting = cli.start('stop', 'deaf', '--wait');
    await waiting.until(/Waiting for "deaf" to power off/);
    waiting.child.kill('SIGINT');
    const { code, stderr } = await waiting.finished;
    expect([code, stderr]).toEqual([3, expect.stringContaining('This was cancelled.')]);
    expect((await json('show', 'deaf')).summary.state).toBe('running');
  });
});

describe('a reset of a guest that does not come back', () => {
  const made = path.join(os.tmpdir(), `pv-made-${process.pid}`);
  afterEach(() => fs.rmSync(made, { force: true }));

  it('starts it anew when its thread can be ended', async () => {
    await create('web', `count=${made} hang`, '--start');
    await json('reset', 'web');
    await eventually(() => fs.readFileSync(made, 'utf8') === '++', 'made again');
    expect((await json('show', 'web')).summary.state).toBe('running');
  });

  it('ends its process otherwise', async () => {
    await create('web', 'stuck', '--start');
    const [{ pid }] = cli.entries();
    // Its first turn ends.
    await eventually(() => cpuSeconds(pid) > 0.5, 'stuck');
    expect((await cli.run('reset', 'web')).stderr).toMatch(/the vCPU could not be stopped/);
    await eventually(() => !isAlive(pid), 'VM ends');
    expect((await json('show', 'web')).summary.state).toBe('crashed');
    expect((await json('start', 'web')).state).toBe('running');
  });
});

describe('output', () => {
  it('a log is followed until it is interrupted', async () => {
    await create('web', 'idle', '--start');
    const following = cli.start('log', 'web', '--follow', '--json');
    await following.until(/started as process/);
    await json('reset', 'web');
    await following.until(/"text":"reset"/);
    following.child.kill('SIGINT');
    const { code, stdout } = await following.finished;
    expect(code).toBe(0);
    for (const line of stdout.trimEnd().split('\n')) expect(JSON.parse(line)).toHaveProperty('level');
  });

  it('of a guest or a file does not command the terminal', async () => {
    await create('evil', 'crash=\u001b]0;owned\u0007\u001b[2J', '--start');
    await eventually(() => cli.entries().length === 0, 'crashed');
    for (const args of [['show', 'evil'], ['log', 'evil'], ['list']]) {
      const { stdout } = await cli.run(...args);
      // eslint-disable-next-line no-control-regex -- control characters are what is looked for
      expect(stdout).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/);
    }
    expect((await cli.run('show', 'evil')).stdout).toContain('owned');
  });

  it('may be cut off by its reader', () => {
    const script = `"${process.execPath}" main/cli/paravane.js help | head -c 10 >/dev/null; echo "\${PIPESTATUS[0]}"`;
    const root = fileURLToPath(new URL('../..', import.meta.url));
    const printed = execFileSync('bash', ['-c', script], { cwd: root, env: cli.environment, stdio: ['ignore', 'pipe', 'pipe'] }); // prettier-ignore
    expect(printed.toString()).toMatch(/^(0|141)\n$/);
  });

  it('help is there for all and for each', async () => {
    const { stdout } = await cli.run('help');
    for (const verb of [...Object.keys(verbs), 'console', 'serve', 'run', 'welcome'])
      expect(stdout).toMatch(new RegExp(`^  ${verb}\\b`, 'm'));
    expect((await cli.run('stop', '--help')).stdout).toMatch(/^Usage: paravane stop NAME[^]*--timeout VALUE[^]*--json/);
    expect((await cli.run('help', 'stop')).stdout).toBe((await cli.run('stop', '--help')).stdout);
  });
});

describe('errors', () => {
  it.each([
    [['show', 'nobody'], 3, 'machine-unknown'],
    [['start'], 2, 'usage'],
    [['set', 'x'], 2, 'usage'],
    [['create', 'a/b', '--kernel', 'package.json'], 2, 'request-invalid'],
    [['add', '/nonexistent'], 3, 'folder-not-machine'],
    [['undo'], 3, 'undo-nothing'],
    [['undo', 'x'.repeat(100)], 2, 'request-invalid'],
    [['fly'], 2, 'usage'],
  ])('%j', async (args, code, name) => {
    const result = await cli.run(...args, '--json');
    expect(result.stdout).toBe('');
    expect(JSON.parse(result.stderr).error).toMatchObject({
      code: name,
      message: expect.stringMatching(/\.$/),
      action: expect.stringMatching(/\.$/),
    });
    expect(result.code).toBe(code);
  });
});

describe('serve', () => {
  it('on a port that is taken says so, and leaves the library free', async () => {
    const other = net.createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as net.AddressInfo;
    const { code, stderr } = await cli.run('serve', '--port', String(port));
    expect(stderr).toMatch(new RegExp(`^paravane: Port ${port} is in use by another program.\\nChoose another port`));
    expect(code).toBe(3);
    other.close();
    await end(await serve());
  });

  it('twice is refused with the address of the first; the window of the first can be opened', async () => {
    const first = await serve();
    const { code, stderr } = await cli.run('serve');
    expect([code, stderr]).toEqual([3, expect.stringContaining(first.url)]);
    const opened = await cli.run('serve', '--open', '--json');
    expect(opened.code).toBe(0);
    expect(JSON.parse(opened.stdout).url).toBe(first.url);
    await end(first);
  });

  it('that is stopped and started again finds its guests and its pages, also after a crash of its own', async () => {
    const first = await serve();
    await create('web', 'idle', '--start');
    const { pid } = await json('show', 'web');
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGKILL'] as const) {
      const running = signal === 'SIGTERM' ? first : await serve();
      expect((await json('show', 'web')).pid).toBe(pid);
      expect(new URL(running.url).hash).toBe(new URL(first.url).hash);
      running.server.child.kill(signal);
      await running.server.finished;
    }
    expect((await json('stop', 'web', '--wait')).state).toBe('off');
  });

  it('starts what is to start by itself, once', async () => {
    await create('auto', 'idle', '--autostart');
    await create('manual', 'idle');
    const first = await serve();
    await eventually(() => cli.entries().length === 1, 'started');
    const [{ id, pid }] = cli.entries();
    await expect.poll(async () => (await json('show', 'auto')).summary.state, { timeout: 15_000 }).toBe('running');
    await end(first);
    const second = await serve();
    expect((await json('show', id)).pid).toBe(pid);
    expect((await json('show', 'manual')).summary.state).toBe('off');
    await end(second);
  });
});

it('"npx paravane" works in a checkout', () => {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const printed = execFileSync('npx', ['--no-install', 'paravane', 'version'], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  expect(printed.toString()).toMatch(/^paravane \d+\.\d+\.\d+\n$/);
});
