// SPDX-License-Identifier: MIT
// The command line: runs one command and turns errors into sentences and exit codes.
import * as fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { PvError, pvError } from '../../engine/errors.ts';
import { ExitCode } from '../vm/outcome.ts';
import type { MachineDetails, MachineSummary } from '../contract/machine.ts';
import { CommandError } from '../contract/wire.ts';
import { reportOf } from '../manager/endings.ts';
import { findRunning } from '../vm/runtime-directory.ts';
import { startVmProcess } from '../vm/start.ts';
import { prepareWelcomeGuest } from '../welcome/welcome.ts';
import type { Command, GuestOptions } from './arguments.ts';
import { HELP, helpOf, parseCommand } from './arguments.ts';
import { attachConsole, EXIT_BROKEN_PIPE } from './console-session.ts';
import { openManager, testMachineModule } from './manager-client.ts';
import type { ManagerClient } from './manager-client.ts';
import type { Served } from '../serve/serve.ts';
import { printable } from './tables.ts';
import { machineCalled } from './verb.ts';
import { verbs } from './verbs.ts';

/** Runs the command given by `args` (without the program's name) and resolves with the exit code. Never rejects. */
export async function main(args: readonly string[]): Promise<number> {
  // Whoever read our output has read enough; that is not an error to tell of.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exitCode = EXIT_BROKEN_PIPE;
  });
  try {
    return await execute(parseCommand(args));
  } catch (error) {
    return report(error, args.includes('--json'));
  }
}

async function execute(command: Command): Promise<number> {
  switch (command.command) {
    case 'help':
      process.stdout.write(command.verb === null ? HELP : helpOf(command.verb));
      return 0;
    case 'version': {
      const packageFile = new URL('../../package.json', import.meta.url);
      const { version } = JSON.parse(fs.readFileSync(packageFile, 'utf8')) as { version: string };
      process.stdout.write(`paravane ${version}\n`);
      return 0;
    }
    case 'verb':
      return runVerb(command);
    case 'console': {
      if (command.print) return withManager((client) => printConsole(client, command));
      if (command.pty) return withManager((client) => consolePty(client, command));
      const { id } = await withManager((client) => runningMachine(client, command.name));
      return attachConsole(await findRunning(id), { stats: false });
    }
    case 'serve':
      return runServer(command);
    case 'desktop': {
      const { openDesktop } = await import('../desktop/desktop.ts');
      const say = (text: string): void => void process.stderr.write(`${text}\n`);
      const code = command.browser ? null : await openDesktop(say);
      if (code !== null) return code;
      const { hasDisplay } = await import('../desktop/display.ts');
      return runServer({ command: 'serve', port: undefined, open: hasDisplay(), newToken: false, json: false });
    }
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

/** A machine of the library that runs; throws `machine-unknown`, `console-not-running`. */
async function runningMachine({ connection }: ManagerClient, name: string): Promise<MachineSummary> {
  const machine = await machineCalled(connection, name);
  if (machine.startedAt === null) throw pvError('console-not-running', { name: machine.name });
  return machine;
}

/** Writes what the console shows, byte for byte; as JSON in base64. */
async function printConsole(
  { connection }: ManagerClient,
  { name, json }: { name: string; json: boolean },
): Promise<number> {
  const { id } = await machineCalled(connection, name);
  const reply = await connection.invoke('console:scrollback', { machine: id });
  process.stdout.write(json ? `${JSON.stringify(reply)}\n` : Buffer.from(reply.scrollback, 'base64'));
  return 0;
}

/** How long a VM process may take to open a pseudo-terminal. */
const PTY_MS = 5000;

/** Offers the console as a pseudo-terminal, from now on whenever the machine runs, and says where it is. */
async function consolePty(client: ManagerClient, { name, json }: { name: string; json: boolean }): Promise<number> {
  const { connection } = client;
  const { id } = await runningMachine(client, name);
  const details = (): Promise<MachineDetails> => connection.invoke('machine:get', { machine: id });
  if (!(await details()).configuration.consolePty)
    await connection.invoke('machine:set', { machine: id, changes: { consolePty: true } });
  for (const end = Date.now() + PTY_MS; ; await sleep(50)) {
    const { consolePty: path, consolePtyProblem: problem } = await details();
    if (path !== null) {
      process.stdout.write(json ? `${JSON.stringify({ path })}\n` : `${path}\n`);
      return 0;
    }
    if (problem !== null) throw new CommandError(problem);
    if (Date.now() > end) throw pvError('vm-silent', { name });
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
  const machineModule = testMachineModule();
  const { identity, child } = await startVmProcess({
    machine: {
      kernel: files.kernel,
      ...(files.initrd !== undefined && { initrd: files.initrd }),
      commandLine: files.commandLine,
      memoryBytes: options.memoryBytes,
      mfnOrder: options.mfnOrder,
      tier: options.tier,
      blockStore: options.blockStore,
    },
    name: options.name,
    onReboot: options.onReboot,
    ...(machineModule !== undefined && { machineModule }),
  });
  return attachConsole(identity, { stats: options.stats, child });
}

async function withManager<T>(work: (client: ManagerClient) => Promise<T>): Promise<T> {
  const client = await openManager();
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

function runVerb({ verb, values, positionals, json }: Extract<Command, { command: 'verb' }>): Promise<number> {
  return withManager(async ({ connection }) => {
    await verbs[verb].run({
      connection,
      values,
      positionals,
      json,
      answer: (value, text) => process.stdout.write(json ? `${JSON.stringify(value, null, 2)}\n` : printable(text)),
      next: (value, text) => process.stdout.write(json ? `${JSON.stringify(value)}\n` : printable(text)),
    });
    return 0;
  });
}

/** Serves until it is interrupted; machines run on. */
async function runServer({ port, open, newToken, json }: Extract<Command, { command: 'serve' }>): Promise<number> {
  const { openInBrowser, serve, urlOfOther } = await import('../serve/serve.ts');
  const show = async (url: string): Promise<void> => {
    process.stdout.write(json ? `${JSON.stringify({ url })}\n` : `Paravane is at ${url}\n`);
    if (open && !(await openInBrowser(url))) process.stderr.write('Open this address in a browser.\n');
  };
  let served: Served;
  try {
    served = await serve({ port, newToken, machineModule: testMachineModule() });
  } catch (error) {
    const url = urlOfOther(error);
    // Who wants the window has it, whoever serves it.
    if (!open || newToken || url === null) throw error;
    await show(url);
    return 0;
  }
  // Whoever reads the address may end us at once.
  const interrupted = new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => resolve());
  });
  await show(served.url);
  await interrupted;
  await served.close();
  return 0;
}

/** Says what went wrong and what to do; the stack of an unexpected error is shown with PARAVANE_DEBUG=1 only. */
function report(error: unknown, json: boolean): number {
  if (error instanceof PvError || error instanceof CommandError) {
    const { code, message, action } = error instanceof CommandError ? error.report : error;
    if (json) {
      const full = error instanceof CommandError ? error.report : reportOf(error);
      process.stderr.write(`${JSON.stringify({ error: full })}\n`);
    } else process.stderr.write(printable(`paravane: ${message}\n${action}\n`));
    if (code === 'usage' || code === 'request-invalid') return ExitCode.Usage;
    if (code === 'manager-failed') return ExitCode.InternalError;
    if (code === 'stop-timeout') return ExitCode.StopTimeout;
    return code === 'vm-process-died' ? ExitCode.VmProcessDied : ExitCode.BadInput;
  }
  const text = error instanceof Error ? error.message : String(error);
  process.stderr.write(
    `paravane: Paravane itself failed: ${text}\nSet PARAVANE_DEBUG=1 to see where, and report it.\n`,
  );
  if (process.env.PARAVANE_DEBUG && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  return ExitCode.InternalError;
}
