// SPDX-License-Identifier: MIT
// `paravane console` through a running manager, in a real terminal that changes its size: raw mode, keys, what is left behind, exit codes.
import { spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadPtyLibrary } from '../../main/terminal/pty-library.ts';
import type { PtyProcess } from '../../main/terminal/pty-library.ts';
import { CommandLine, eventually } from '../support/paravane.ts';
import { hidePty, noPty, ptyTest } from '../support/pseudo-terminals.ts';
import type { RunningCommand } from '../support/paravane.ts';

let cli: CommandLine;
let server: RunningCommand;
async function serve(): Promise<void> {
  server = cli.start('serve', '--port', '0');
  await server.until(/Paravane is at/);
}
beforeEach(async () => {
  cli = new CommandLine('fake');
  await serve();
});
afterEach(async () => {
  server.child.kill('SIGTERM');
  await server.finished;
  cli.dispose();
});

const LAUNCHER = 'main/cli/paravane.js';

async function make(does: string, start = true): Promise<void> {
  const { code, stderr } = await cli.run('create', 'web', '--kernel', 'package.json', '--append', does, ...(start ? ['--start'] : [])); // prettier-ignore
  expect(stderr).toBe('');
  expect(code).toBe(0);
}
const state = async (): Promise<string> => JSON.parse((await cli.run('show', 'web', '--json')).stdout).summary.state;

/** The command in a terminal of its own. */
class InTerminal {
  output = '';
  code: number | null = null;
  readonly process: PtyProcess;

  static async open(...args: string[]): Promise<InTerminal> {
    const { spawn: inPty } = await loadPtyLibrary();
    const environment = Object.fromEntries(
      Object.entries(cli.environment).filter((entry): entry is [string, string] => entry[1] !== undefined),
    );
    return new InTerminal(
      inPty(process.execPath, [LAUNCHER, ...args], {
        name: 'xterm',
        cols: 90,
        rows: 25,
        cwd: process.cwd(),
        env: environment,
        encoding: null,
      }),
    );
  }

  private constructor(started: PtyProcess) {
    this.process = started;
    started.onData((bytes) => (this.output += bytes.toString()));
    started.onExit(({ exitCode }) => (this.code = exitCode));
  }

  until = (pattern: RegExp): Promise<void> => eventually(() => pattern.test(this.output), `${pattern}`);
  type = (text: string): void => this.process.write(Buffer.from(text));
  async end(): Promise<number | null> {
    await eventually(() => this.code !== null, 'its end');
    return this.code;
  }
}

describe.skipIf(noPty)(ptyTest('in a terminal'), () => {
  it('is raw, follows the size, and leaves the machine and the terminal as they were', async () => {
    await make('idle');
    const seen = await InTerminal.open('console', 'web');
    await seen.until(/fake web[^]*size 90x25/);
    seen.type('\x03\x1a\x1c');
    // The fake guest echoes each byte: none of them became a signal.
    await eventually(() => seen.output.includes('\x03\x1a\x1c'), 'they are echoed');
    seen.process.resize(120, 40);
    await seen.until(/size 120x40/);
    seen.type('\x1d?');
    await seen.until(/Ctrl-\] d detaches/);
    seen.type('\x1d\x1d');
    await eventually(() => seen.output.includes('\x1d'), 'the key itself');
    seen.type('\x1dd');
    expect(await seen.end()).toBe(0);
    expect(seen.output).toMatch(/detached; the machine runs on\. Back to it: paravane console [0-9a-f]+/);
    expect(await state()).toBe('running');
  });

  it('gives the terminal back when it ends', async () => {
    await make('idle');
    const command = `stty -a > "$1"; "$2" ${LAUNCHER} console web; stty -a > "$1.after"`;
    const file = `${cli.dataDirectory}/stty`;
    const { spawn: inPty } = await loadPtyLibrary();
    const env = Object.fromEntries(Object.entries(cli.environment).filter((e): e is [string, string] => !!e[1]));
    const shell = inPty('/bin/sh', ['-c', command, 'sh', file, process.execPath], {
      name: 'xterm', cols: 80, rows: 24, cwd: process.cwd(), env, encoding: null,
    }); // prettier-ignore
    let output = '';
    let ended = false;
    shell.onData((bytes) => (output += bytes.toString()));
    shell.onExit(() => (ended = true));
    await eventually(() => /fake web/.test(output), 'attached');
    shell.write(Buffer.from('\x1dd'));
    await eventually(() => ended, 'detached');
    expect(fs.readFileSync(`${file}.after`, 'utf8')).toBe(fs.readFileSync(file, 'utf8'));
  });

  it.each([
    ['the guest powers off', 'idle', '\x04', 0],
    ['it is forced off', 'spin deaf', '\x1dq', 13],
  ])('when %s, says so by its exit code', async (_what, does, keys, code) => {
    await make(does);
    const seen = await InTerminal.open('console', 'web');
    await seen.until(/fake web/);
    seen.type(keys);
    expect(await seen.end()).toBe(code);
    await eventually(() => cli.entries().length === 0, 'the machine is gone');
  });

  it('says when the process of the machine died', async () => {
    await make('idle');
    const seen = await InTerminal.open('console', 'web');
    await seen.until(/fake web/);
    process.kill(cli.entries()[0].pid, 'SIGKILL');
    const code = await seen.end();
    expect({ code, said: seen.output }).toMatchObject({
      code: 14,
      said: expect.stringMatching(/of machine "web" ended unexpectedly/) as string,
    });
  });

  it('is closed without ending the machine', async () => {
    await make('idle');
    const seen = await InTerminal.open('console', 'web');
    await seen.until(/fake web/);
    seen.process.kill('SIGHUP');
    await seen.end();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await state()).toBe('running');
  });
});

describe('without a terminal', () => {
  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s ends the command and not the machine', async (signal, code) => {
    await make('idle');
    const command = cli.start('console', 'web');
    await command.until(/fake web/);
    command.child.kill(signal);
    expect((await command.finished).code).toBe(code);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await state()).toBe('running');
  });

  it('refuses what is not there, or not running', async () => {
    expect(await cli.run('console', 'web')).toMatchObject({
      code: 3,
      stderr: expect.stringMatching(/"web"/) as string,
    });
    await make('idle', false);
    expect(await cli.run('console', 'web')).toMatchObject({
      code: 3,
      stderr: expect.stringMatching(/is not running/) as string,
    });
    expect(await cli.run('console', 'web', '--pty')).toMatchObject({ code: 3 });
  });
});

describe.skipIf(noPty)(ptyTest('as a device'), () => {
  it('is printed, stays for the next run, and can be opened by others', async () => {
    await make('idle');
    const { stdout, code } = await cli.run('console', 'web', '--pty');
    expect(code).toBe(0);
    const device = stdout.trim();
    expect(fs.statSync(device).isCharacterDevice()).toBe(true);
    expect(JSON.parse((await cli.run('console', 'web', '--pty', '--json')).stdout)).toEqual({ path: device });
    const shown = JSON.parse((await cli.run('show', 'web', '--json')).stdout);
    expect(shown).toMatchObject({ consolePty: device, consolePtyProblem: null, configuration: { consolePty: true } });
    const cat = spawn('cat', [device]);
    let seen = '';
    cat.stdout.on('data', (bytes: Buffer) => (seen += bytes.toString()));
    spawnSync('sh', ['-c', `printf hello > ${device}`]);
    await eventually(() => seen.includes('hello'), 'echoed by the guest');
    await cli.run('stop', 'web', '--force', '--wait');
    await eventually(() => cat.exitCode !== null, 'the reader is told');
    await cli.run('start', 'web');
    const again = (await cli.run('console', 'web', '--pty')).stdout.trim();
    expect(fs.statSync(again).isCharacterDevice()).toBe(true);
  });
});

// The same whether it is installed here or not.
it('where there is no node-pty, the device cannot be had, says why and what to do, and the machine runs on', async () => {
  server.child.kill('SIGTERM');
  await server.finished;
  cli.environment.NODE_OPTIONS = hidePty;
  await serve();
  await make('idle');
  const message = 'Pseudo-terminals are not available: node-pty is not installed.';
  const action = expect.stringContaining('run "npm install"') as string;
  const { code, stdout, stderr } = await cli.run('console', 'web', '--pty');
  expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
  const [said, advice] = stderr.split('\n');
  expect(said).toBe(`paravane: ${message}`);
  expect(advice).toEqual(action);
  const shown = JSON.parse((await cli.run('show', 'web', '--json')).stdout);
  expect(shown).toMatchObject({ consolePty: null, consolePtyProblem: { code: 'pty-missing', message, action } });
  expect(await state()).toBe('running');
});
