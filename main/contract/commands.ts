// SPDX-License-Identifier: MIT
// Everything a window or a command line can ask of the manager: name -> schema of the request and schema of the reply.
// Names are `noun:verb`. A request is one object, unknown fields are refused. Errors come back as `ErrorReport`.
import * as v from 'valibot';
import { diagnostics, hostInfo, hostSpeed, logEntry, settings, settingsChanges } from './host.ts';
import { directoryEntry, fileInspection } from './inspection.ts';
import {
  machineChanges,
  machineConfiguration,
  machineDetails,
  machineSummary,
  trashedMachine,
  undoStep,
} from './machine.ts';
import { machineCounters, metricHistory } from './metrics.ts';
import { detachedWindow, fileChoice, menuCommand } from './shell.ts';
import { hostShell } from './terminal.ts';
import { precompilation, precompilationRequest } from './precompilation.ts';
import {
  base64,
  CONSOLE_INPUT_BYTES,
  consoleSize,
  count,
  hostPath,
  machineId,
  machineName,
  MACHINES_LIMIT,
  taskId,
  timestamp,
  UPLOAD_CHUNK_BYTES,
} from './values.ts';

const machineIds = v.pipe(v.array(machineId), v.maxLength(MACHINES_LIMIT, 'names too many machines'));
const nothing = v.strictObject({});
const oneMachine = v.strictObject({ machine: machineId });
/** `answer`: the terminal says this by itself, to a question of the program; of several windows only the one worked in is heard. */
const terminalInput = v.strictObject({
  machine: machineId,
  bytes: base64(CONSOLE_INPUT_BYTES),
  answer: v.optional(v.boolean(), false),
});
const undoable = v.strictObject({ undo: undoStep });
const changed = v.strictObject({ machine: machineSummary, undo: undoStep });

/** Where the machine's folder is to be; absent means a new folder, named after the machine, in the usual place. */
const folder = v.optional(hostPath);

const someChanges = v.pipe(
  machineChanges,
  v.check((changes) => Object.keys(changes).length > 0, 'says nothing to change'),
);
/** Copying files may take long: with this its progress can be followed, and it can be cancelled. */
const copyTask = v.optional(taskId);

export const commands = {
  // The library.
  'machine:list': {
    request: nothing,
    /** In the user's order. */
    reply: v.strictObject({ machines: v.array(machineSummary) }),
  },
  'machine:get': { request: oneMachine, reply: machineDetails },
  'machine:create': {
    request: v.strictObject({
      ...v.partial(machineConfiguration, [
        'kind',
        'initrd',
        'commandLine',
        'vcpus',
        'onReboot',
        'mfnOrder',
        'tags',
        'notes',
        'autostart',
        'consolePty',
      ]).entries,
      folder,
      /** Copy kernel and initrd into the machine's folder instead of using them where they are. */
      copyFiles: v.optional(v.boolean()),
      /** Start it at once. */
      start: v.optional(v.boolean()),
      task: copyTask,
    }),
    reply: changed,
  },
  'machine:clone': {
    request: v.strictObject({ machine: machineId, name: machineName, folder, task: copyTask }),
    reply: changed,
  },
  'machine:rename': { request: v.strictObject({ machine: machineId, name: machineName }), reply: changed },
  /** Moves the folder; the machine must be off. */
  'machine:move': {
    request: v.strictObject({ machine: machineId, folder: hostPath, task: copyTask }),
    reply: changed,
  },
  'machine:set': { request: v.strictObject({ machine: machineId, changes: someChanges }), reply: changed },
  /** To the trash; the machine must be off or crashed. */
  'machine:remove': { request: oneMachine, reply: undoable },
  /** The whole order of the library; machines that are not named keep their order behind those that are. */
  'machine:order': { request: v.strictObject({ machines: machineIds }), reply: undoable },
  'library:add': {
    /** Takes a machine folder that is not in the library, where it is. */
    request: v.strictObject({ folder: hostPath }),
    reply: changed,
  },
  'library:undo': {
    /** Takes back the step with this identifier, or the latest. */
    request: v.strictObject({ undo: v.optional(v.pipe(v.string(), v.maxLength(64))) }),
    reply: v.strictObject({ undone: undoStep }),
  },
  'trash:list': { request: nothing, reply: v.strictObject({ machines: v.array(trashedMachine) }) },
  'trash:restore': { request: oneMachine, reply: v.strictObject({ machine: machineSummary }) },
  /** Deletes for good: one machine, or everything. */
  'trash:empty': {
    request: v.strictObject({ machine: v.optional(machineId) }),
    reply: v.strictObject({ removed: v.array(machineId) }),
  },

  // Lifecycle. Replies come when the verb has been accepted and the state has changed; `machine:changed` tells everyone.
  'machine:start': { request: oneMachine, reply: machineSummary },
  'machine:pause': { request: oneMachine, reply: machineSummary },
  'machine:resume': { request: oneMachine, reply: machineSummary },
  /** Ends the guest at once and starts it again, in the same process. */
  'machine:reset': { request: oneMachine, reply: machineSummary },
  /**
   * `force` ends the guest and replies when it is off. `ask` requests a shutdown and replies at once; with `task` it replies when the guest
   * is off or fails with `stop-timeout`, and cancelling the task ends the waiting (the guest has been asked all the same).
   */
  'machine:stop': {
    request: v.strictObject({
      machine: machineId,
      how: v.picklist(['ask', 'force']),
      /** How long a guest that was asked may take; then `stopAsked.overdue` says so. Absent: STOP_SECONDS. */
      seconds: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(86_400))),
      /** After that time it is ended by force. */
      thenForce: v.optional(v.boolean()),
      task: v.optional(taskId),
    }),
    reply: machineSummary,
  },
  /** Takes note of a crash: the machine is `off` afterwards. */
  'machine:dismiss': { request: oneMachine, reply: machineSummary },
  /** Linux magic SysRq by way of xenstore; `key` is its letter. */
  'machine:sysrq': {
    request: v.strictObject({ machine: machineId, key: v.pipe(v.string(), v.regex(/^[0-9a-z]$/, 'is no SysRq key')) }),
    reply: nothing,
  },

  // Consoles. Output comes as `console:output` to those attached. Offsets count all bytes since the run began.
  'console:attach': {
    request: oneMachine,
    reply: v.strictObject({
      /** Offset of the first byte of `scrollback`. */
      offset: count,
      /** What is kept of the past, in base64; output after it follows as events without a gap. */
      scrollback: v.string(),
      size: v.nullable(consoleSize),
      /** False when the machine is not running: the scrollback is then what is left of the last run. */
      live: v.boolean(),
    }),
  },
  'console:detach': { request: oneMachine, reply: nothing },
  'console:input': {
    request: terminalInput,
    reply: nothing,
  },
  /** The last one wins; everyone attached hears of it by `console:resized`. */
  'console:resize': { request: v.strictObject({ machine: machineId, size: consoleSize }), reply: nothing },
  'console:scrollback': {
    request: oneMachine,
    reply: v.strictObject({ offset: count, scrollback: v.string() }),
  },
  /** Types text at the pace of `settings.console.typingSpeed`; replies when all is typed. */
  'console:type': {
    request: v.strictObject({
      machine: machineId,
      text: v.pipe(v.string(), v.maxLength(100_000, 'has more than 100000 characters')),
      task: taskId,
    }),
    reply: nothing,
  },

  // Terminals on the manager's computer, one for each machine: the user's shell in the machine's folder. Refused with `terminal-off` unless
  // `settings.hostTerminal` allows them. Output comes as `terminal:output` to those attached.
  'terminal:attach': {
    /** Starts nothing. */
    request: oneMachine,
    reply: v.strictObject({
      offset: count,
      scrollback: v.string(),
      size: consoleSize,
      /** null: no shell runs. */
      shell: v.nullable(hostShell),
    }),
  },
  'terminal:detach': { request: oneMachine, reply: nothing },
  /** Starts the shell; nothing new happens when it runs already. */
  'terminal:start': {
    request: v.strictObject({ machine: machineId, size: consoleSize }),
    reply: v.strictObject({ shell: hostShell }),
  },
  'terminal:input': { request: terminalInput, reply: nothing },
  'terminal:resize': { request: v.strictObject({ machine: machineId, size: consoleSize }), reply: nothing },
  /** Hangs up, as closing a terminal window does. */
  'terminal:stop': { request: oneMachine, reply: nothing },

  // Files on the manager's computer.
  /** Unpacking a kernel may take seconds: with `task` it can be cancelled. */
  'file:inspect': { request: v.strictObject({ path: hostPath, task: v.optional(taskId) }), reply: fileInspection },
  'file:browse': {
    /** null: the user's home directory. */
    request: v.strictObject({ directory: v.nullable(hostPath) }),
    reply: v.strictObject({
      directory: hostPath,
      parent: v.nullable(hostPath),
      /** Directories first, by name; at most 2000. */
      entries: v.array(directoryEntry),
      truncated: v.boolean(),
    }),
  },
  /** For pages in a browser, which see the bytes of a dropped file but not its path. Chunks follow each other in order. */
  'file:uploadBegin': {
    request: v.strictObject({ name: v.pipe(v.string(), v.minLength(1), v.maxLength(255)), size: count }),
    reply: v.strictObject({ upload: v.string() }),
  },
  'file:uploadChunk': {
    request: v.strictObject({
      upload: v.pipe(v.string(), v.maxLength(64)),
      offset: count,
      bytes: base64(UPLOAD_CHUNK_BYTES),
    }),
    reply: nothing,
  },
  'file:uploadEnd': {
    request: v.strictObject({ upload: v.pipe(v.string(), v.maxLength(64)) }),
    reply: v.strictObject({ path: hostPath }),
  },
  'file:uploadCancel': { request: v.strictObject({ upload: v.pipe(v.string(), v.maxLength(64)) }), reply: nothing },

  /** Fills the store of precompiled blocks ahead of a kernel's first boot. Takes some seconds of one core. */
  'kernel:precompile': { request: precompilationRequest, reply: precompilation },

  // The welcome guest.
  'welcome:status': {
    request: nothing,
    reply: v.strictObject({
      /** What `welcome:create` with variant `best` will make on this computer. */
      variant: v.picklist(['debian', 'demo']),
      /** True when nothing has to be downloaded. */
      cached: v.boolean(),
    }),
  },
  'welcome:create': {
    request: v.strictObject({
      task: taskId,
      variant: v.picklist(['best', 'debian', 'demo']),
      name: v.optional(machineName),
      folder,
      start: v.optional(v.boolean()),
    }),
    reply: changed,
  },
  /** Ends a task soon; what waits for it gets the error `cancelled`. Unknown tasks are no error: it may just have ended. */
  'task:cancel': { request: v.strictObject({ task: taskId }), reply: nothing },

  // Measurements.
  /** From now on this session gets `metrics:sampled` of these machines and of no others. */
  'metrics:watch': {
    request: v.strictObject({ machines: v.pipe(v.array(machineId), v.maxLength(64)) }),
    reply: nothing,
  },
  'metrics:history': {
    /** The finest tier that reaches back to `from` is used, unless `tier` (0 = finest) says which. */
    request: v.strictObject({
      machine: machineId,
      from: timestamp,
      to: timestamp,
      tier: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(3))),
    }),
    reply: metricHistory,
  },
  'metrics:counters': { request: oneMachine, reply: machineCounters },
  'log:read': {
    /** The newest lines, or those before `before` (a position from an earlier reply). */
    request: v.strictObject({
      machine: machineId,
      lines: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(2000)),
      before: v.optional(count),
    }),
    reply: v.strictObject({
      entries: v.array(logEntry),
      /** Where the first of these lines begins; null when there is nothing older. */
      before: v.nullable(count),
    }),
  },

  // The desktop around the window; `shell-missing` in a browser.
  'window:open': { request: detachedWindow, reply: nothing },
  /** The registry's commands for the menu bar; `menu:clicked` tells which one was chosen. */
  'window:setMenu': {
    request: v.strictObject({ commands: v.pipe(v.array(menuCommand), v.maxLength(400)) }),
    reply: nothing,
  },
  /** The native dialog; null when it was cancelled. */
  'window:chooseFile': { request: fileChoice, reply: v.strictObject({ path: v.nullable(hostPath) }) },

  // The manager and its computer.
  'host:info': { request: nothing, reply: hostInfo },
  /** Runs a small guest for some seconds to find out how fast guests are here. */
  'host:measure': { request: v.strictObject({ task: taskId }), reply: hostSpeed },
  'settings:get': { request: nothing, reply: settings },
  'settings:set': { request: v.strictObject({ changes: settingsChanges }), reply: settings },
  'diagnostics:get': { request: nothing, reply: diagnostics },
  /** A zip file for a bug report, in base64; personal paths are replaced. */
  'diagnostics:report': {
    request: v.strictObject({ machine: v.optional(machineId) }),
    reply: v.strictObject({ fileName: v.string(), bytes: v.string() }),
  },
} as const;

export type CommandName = keyof typeof commands;
export const commandNames = Object.keys(commands) as CommandName[];

/** What may be sent. */
export type Request<Name extends CommandName> = v.InferInput<(typeof commands)[Name]['request']>;
/** What the handler gets: checked, trimmed. */
export type CheckedRequest<Name extends CommandName> = v.InferOutput<(typeof commands)[Name]['request']>;
export type Reply<Name extends CommandName> = v.InferOutput<(typeof commands)[Name]['reply']>;

export function isCommandName(name: unknown): name is CommandName {
  return typeof name === 'string' && Object.hasOwn(commands, name);
}
