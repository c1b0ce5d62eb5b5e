// SPDX-License-Identifier: MIT
// The command line: runs one command and turns errors into sentences and exit codes.
import * as fs from 'node:fs';
import { pathToFileURL } from 'node:url';
import { PvError } from '../../engine/errors.ts';
import { ExitCode } from '../vm/outcome.ts';
import { findRunning, listRunning } from '../vm/runtime-directory.ts';
import { startVmProcess } from '../vm/start.ts';
import { prepareWelcomeGuest } from '../welcome/welcome.ts';
import type { Command, GuestOptions } from './arguments.ts';
import { HELP, parseCommand } from './arguments.ts';
import { attachConsole } from './console-session.ts';

/** Runs the command given by `args` (without the program's name) and resolves with the exit code. Never rejects. */
export async function main(args: readonly string[]): Promise<number> {
  try {
    return await execute(parseCommand(args));
  } catch (error) {
    return report(error);
  }
}

async function execute(command: Command): Promise<number> {
  switch (command.command) {
    case 'help':
      process.stdout.write(HELP);
      return 0;
    case 'version': {
      const packageFile = new URL('../../package.json', import.meta.url);
      const { version } = JSON.parse(fs.readFileSync(packageFile, 'utf8')) as { version: string };
      process.stdout.write(`paravane ${version}\n`);
      return 0;
    }
    case 'list':
      return list();
    case 'attach':
      return attachConsole(await findRunning(command.name), { stats: command.stats });
    case 'run':
      return runGuest(
        { kernel: command.kernel, initrd: command.initrd, commandLine: command.guest.append },
        command.guest,
      );
    case 'welcome': {
      const guest = await prepareWelcomeGuest({ demo: command.demo, script: command.script });
      const commandLine = [guest.commandLine, command.guest.append].filter((part) => part !== '').join(' ');
      return runGuest({ ...guest, commandLine }, command.guest);
    }
  }
}

/** What the machine starts from. */
interface GuestFiles {
  kernel: string;
  initrd?: string | undefined;
  commandLine: string;
}

async function runGuest(files: GuestFiles, options: GuestOptions): Promise<number> {
  // Tests of the command line put their own machine in place of the engine's.
  const substitute = process.env.PARAVANE_TEST_MACHINE;
  const { identity, child } = await startVmProcess({
    machine: {
      kernel: files.kernel,
      ...(files.initrd !== undefined && { initrd: files.initrd }),
      commandLine: files.commandLine,
      memoryBytes: options.memoryBytes,
      mfnOrder: options.mfnOrder,
    },
    name: options.name,
    onReboot: options.onReboot,
    ...(substitute !== undefined && { machineModule: pathToFileURL(substitute).href }),
  });
  return attachConsole(identity, { stats: options.stats, child });
}

async function list(): Promise<number> {
  const running = await listRunning();
  if (running.length === 0) process.stderr.write('No machine is running.\n');
  else process.stdout.write(`${'ID'.padEnd(10)}${'NAME'.padEnd(26)}${'PROCESS'.padEnd(10)}STARTED\n`);
  for (const { id, name, pid, startedAt } of running) {
    const started = new Date(startedAt).toISOString().slice(0, 19).replace('T', ' ');
    process.stdout.write(`${id.padEnd(10)}${name.padEnd(26)}${String(pid).padEnd(10)}${started} UTC\n`);
  }
  return 0;
}

/** Says what went wrong and what to do; the stack of an unexpected error is shown with PARAVANE_DEBUG=1 only. */
function report(error: unknown): number {
  if (error instanceof PvError) {
    process.stderr.write(`paravane: ${error.message}\n${error.action}\n`);
    if (error.code === 'usage') return ExitCode.Usage;
    if (error.code === 'vm-process-died') return ExitCode.VmProcessDied;
    return ExitCode.BadInput;
  }
  const text = error instanceof Error ? error.message : String(error);
  process.stderr.write(
    `paravane: Paravane itself failed: ${text}\nSet PARAVANE_DEBUG=1 to see where, and report it.\n`,
  );
  if (process.env.PARAVANE_DEBUG && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  return ExitCode.InternalError;
}
