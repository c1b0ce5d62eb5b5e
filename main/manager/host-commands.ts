// SPDX-License-Identifier: MIT
// Commands about the manager's computer: files, the welcome guest, long tasks, settings, diagnostics.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { pvError } from '../../engine/errors.ts';
import type { DirectoryEntry } from '../contract/inspection.ts';
import { cacheDirectory } from '../debian/cache-directory.ts';
import { requireDebianTools } from '../debian/apt.ts';
import type { Progress } from '../debian/progress.ts';
import { describeFileError } from '../kernel/files.ts';
import { absolutePath } from '../library/directories.ts';
import { writeFileAtomically } from '../vm/atomic-file.ts';
import { precompileKernel } from '../precompile/precompile.ts';
import { prepareWelcomeGuest } from '../welcome/welcome.ts';
import type { Handlers } from './commands.ts';
import { diagnosticsOf, hostInfoOf, speedFile } from './host-facts.ts';
import { inspectFile } from './inspect-file.ts';
import { libraryCommands } from './library-commands.ts';
import type { Manager } from './manager.ts';
import { measureSpeed } from './measure-speed.ts';
import { makeReport } from './report.ts';
import type { TellProgress } from './tasks.ts';

type HostCommand = `${'file' | 'kernel' | 'welcome' | 'task' | 'host' | 'settings' | 'diagnostics'}:${string}`;

const MIB = 2 ** 20;
const WELCOME_NOTES = 'The welcome guest. It has no disk: what you change in it is gone when it stops.';

/** The handlers of these commands for one manager. */
export function hostCommands(manager: Manager): Pick<Handlers, Extract<keyof Handlers, HostCommand>> {
  const { 'machine:create': create } = libraryCommands(manager);
  return {
    'file:inspect': ({ path: file, task }) => {
      if (task === undefined) return inspectFile(file);
      return manager.tasks.run(task, (tell, signal) => {
        tell({ text: `Looking into ${path.basename(file)}`, done: 0, total: null, unit: 'steps' });
        return inspectFile(file, signal);
      });
    },
    'file:browse': ({ directory }) => browse(directory === null ? os.homedir() : absolutePath(directory)),
    'file:uploadBegin': ({ name, size }, session) => {
      const upload = manager.uploads.begin(name, size, session);
      session.onClose(() => manager.uploads.cancelOf(session));
      return { upload };
    },
    'file:uploadChunk': ({ upload, offset, bytes }, session) => {
      manager.uploads.chunk(upload, offset, Buffer.from(bytes, 'base64'), session);
      return {};
    },
    'file:uploadEnd': ({ upload }, session) => ({ path: manager.uploads.end(upload, session) }),
    'file:uploadCancel': ({ upload }, session) => {
      manager.uploads.cancel(upload, session);
      return {};
    },

    'kernel:precompile': ({ kernel, commandLine, rehearse, task }) =>
      manager.tasks.run(task, (tell, signal) =>
        precompileKernel({
          ...{ kernel: absolutePath(kernel), signal },
          ...(commandLine !== undefined && { commandLine }),
          ...(rehearse !== undefined && { rehearse }),
          progress: (text, done, total) => tell({ text, done, total, unit: 'steps' }),
        }),
      ),

    'welcome:status': () => welcomeStatus(),
    'welcome:create': async ({ task, variant, name, folder, start }, session) => {
      const guest = await manager.tasks.run(task, (tell, signal) =>
        prepareWelcomeGuest({ demo: variant === 'demo', progress: progressOf(tell, signal) }),
      );
      return create(
        {
          name: name ?? freeName(manager, 'Welcome'),
          kernel: guest.kernel,
          initrd: guest.initrd ?? null,
          // The size of the terminal it was prepared on, if any, is not that of the console it will have.
          commandLine: guest.commandLine.replace(/\s*paravane\.size=\S+/, ''),
          memoryBytes: (guest.initrd === undefined ? 64 : 256) * MIB,
          notes: WELCOME_NOTES,
          tags: ['welcome'],
          folder,
          // The cache may be emptied at any time.
          copyFiles: true,
          start,
        },
        session,
      );
    },
    'task:cancel': ({ task }) => {
      manager.tasks.cancel(task);
      return {};
    },

    'host:info': () => hostInfoOf(manager),
    'host:measure': async ({ task }) => {
      const speed = await manager.tasks.run(task, (tell, signal) => measureSpeed(tell, signal, manager.machineModule));
      writeFileAtomically(speedFile(manager.dataDirectory), JSON.stringify(speed));
      return speed;
    },
    'settings:get': () => manager.settings.get(),
    'settings:set': ({ changes }, session) => {
      // A page in a browser may have been taken over; a shell is not for it to allow itself.
      if (changes.hostTerminal === true && session.kind === 'page' && !manager.settings.get().hostTerminal)
        throw pvError('terminal-not-from-page', {});
      const settings = manager.settings.set(changes);
      if (!settings.hostTerminal) manager.terminals.stopAll();
      manager.broadcast('settings:changed', { settings });
      return settings;
    },
    'diagnostics:get': () => diagnosticsOf(manager),
    'diagnostics:report': ({ machine }) => {
      const { fileName, bytes } = makeReport(manager, machine);
      return { fileName, bytes: bytes.toString('base64') };
    },
  };
}

function freeName(manager: Manager, wanted: string): string {
  const taken = new Set(manager.library.machines().map(({ file }) => file.configuration.name.toLocaleLowerCase('en')));
  for (let n = 1; ; n++) {
    const name = n === 1 ? wanted : `${wanted} ${n}`;
    if (!taken.has(name.toLocaleLowerCase('en'))) return name;
  }
}

function welcomeStatus(): { variant: 'debian' | 'demo'; cached: boolean } {
  try {
    requireDebianTools();
  } catch {
    return { variant: 'demo', cached: true };
  }
  const directory = path.join(cacheDirectory(), 'debian');
  const names = fs.existsSync(directory) ? fs.readdirSync(directory) : [];
  const has = (pattern: RegExp): boolean => names.some((name) => pattern.test(name));
  return { variant: 'debian', cached: has(/^linux-image-\d.*-cloud-amd64_/) && has(/^busybox-static_/) };
}

/** Progress of the download for whoever follows the task. */
function progressOf(tell: TellProgress, signal: AbortSignal): Progress {
  return {
    signal,
    say: (text) => tell({ text, done: 0, total: null, unit: 'steps' }),
    transfer(name, size) {
      const total = size > 0 ? size : null;
      const text = `Downloading ${name}`;
      tell({ text, done: 0, total, unit: 'bytes' });
      return {
        at: (bytes) => tell({ text, done: bytes, total, unit: 'bytes' }),
        done: () => tell({ text, done: size, total, unit: 'bytes' }),
      };
    },
  };
}

const MAX_ENTRIES = 2000;

async function browse(directory: string) {
  let found: fs.Dirent[];
  try {
    found = await fs.promises.readdir(directory, { withFileTypes: true });
  } catch (error) {
    throw describeFileError(error, directory, 'chosen');
  }
  const visible = found.filter(({ name }) => !name.startsWith('.'));
  const entries = await Promise.all(visible.slice(0, MAX_ENTRIES).map((entry) => describeEntry(directory, entry.name)));
  entries.sort(
    (a, b) => Number(b.directory) - Number(a.directory) || a.name.localeCompare(b.name, 'en', { numeric: true }),
  );
  const parent = path.dirname(directory);
  return { directory, parent: parent === directory ? null : parent, entries, truncated: visible.length > MAX_ENTRIES };
}

async function describeEntry(directory: string, name: string): Promise<DirectoryEntry> {
  const file = path.join(directory, name);
  const status = await fs.promises.stat(file).catch(() => null);
  const readable = await fs.promises.access(file, fs.constants.R_OK).then(
    () => true,
    () => false,
  );
  return {
    name,
    path: file,
    directory: status?.isDirectory() ?? false,
    size: status?.isFile() ? status.size : null,
    modified: status?.mtimeMs ?? null,
    readable,
  };
}
