// SPDX-License-Identifier: MIT
// Errors shown to the user: one table of codes, each with the sentence that says what happened and what to do next.

/** What the table holds per code. `{name}` in either text is replaced by the detail of that name. */
interface ErrorTexts {
  /** One sentence: what is wrong. */
  readonly message: string;
  /** One sentence: what the user can do about it. */
  readonly action: string;
}

/** Every error code of Paravane. Codes are stable: they appear in logs, exit reports and tests. Keep each family together. */
export const errorTable = {
  // Reading files given by the user (kernel, initrd, ...). `role` is the word for the file, e.g. "kernel".
  'file-missing': {
    message: 'The {role} file "{path}" does not exist.',
    action: 'Check the spelling of the path, or give the path of an existing file.',
  },
  'file-unreadable': {
    message: 'The {role} file "{path}" cannot be read ({reason}).',
    action:
      'Give your user read permission for the file (on Linux, kernels in /boot often belong to root), or copy it somewhere readable.',
  },
  'file-is-directory': {
    message: 'The {role} path "{path}" is a directory.',
    action: 'Give the path of the {role} file inside it.',
  },
  'file-not-regular': {
    message: 'The {role} path "{path}" is not a regular file.',
    action: 'Give the path of an ordinary file.',
  },
  'file-empty': {
    message: 'The {role} file "{path}" is empty.',
    action: 'Copy or download it again.',
  },
  'file-too-large': {
    message: 'The {role} file "{path}" has {size} bytes; at most {limit} bytes are accepted.',
    action: 'Check that this is really the {role} and not, for example, a disk image.',
  },

  // Compressed data (engine/formats/compression). Callers that know the file wrap these as a cause.
  'compressed-corrupt': {
    message: 'The {format} data is corrupt: {detail}.',
    action: 'Copy or download the file again; it was damaged.',
  },
  'compressed-truncated': {
    message: 'The {format} data ends too early.',
    action: 'Copy or download the file again; a part of it is missing.',
  },
  'compressed-too-large': {
    message: 'The {format} data unpacks to more than {limit} bytes.',
    action: 'Check that this is the right file; it is larger than anything that could be started.',
  },
  'compressed-unsupported': {
    message: 'The {format} data uses a feature that is not supported: {detail}.',
    action: 'Compress the data again with the usual settings of its tool.',
  },

  'archive-entry-invalid': {
    message: 'The path "{path}" cannot be put into an archive.',
    action: 'Use a relative path without "..".',
  },

  // Kernel images.
  'kernel-not-recognised': {
    message: '"{path}" is not a kernel: it is neither an ELF file nor a Linux bzImage.',
    action: 'Give a kernel file, for example /boot/vmlinuz-* of a Linux distribution.',
  },
  'kernel-is-program': {
    message: '"{path}" is a program for an operating system, not a kernel.',
    action: 'Give a kernel file, for example /boot/vmlinuz-* of a Linux distribution.',
  },
  'kernel-truncated': {
    message: 'The kernel file "{path}" is incomplete: {detail}.',
    action: 'Copy or download the kernel again.',
  },
  'kernel-bzimage-too-old': {
    message: 'The kernel "{path}" uses boot protocol {version}; Xen needs 2.08 (Linux 2.6.26) or newer.',
    action: 'Use its uncompressed ELF file (vmlinux or vmlinux.gz) instead of the bzImage.',
  },
  'kernel-compression-unknown': {
    message: 'The kernel inside "{path}" is packed with an unknown method (first bytes {magic}).',
    action:
      'Use a kernel packed with gzip, xz, lzma, bzip2, lz4, lzo or zstd; if it should be one of these, the file is damaged.',
  },
  'kernel-payload-corrupt': {
    message: 'The kernel inside "{path}" cannot be unpacked: its {compressor} data is damaged ({detail}).',
    action: 'Copy or download the kernel again.',
  },
  'kernel-payload-not-elf': {
    message: 'What "{path}" contains was unpacked ({compressor}), but it is not an ELF kernel.',
    action: 'Give a kernel file, for example /boot/vmlinuz-* of a Linux distribution.',
  },
  'kernel-elf-invalid': {
    message: 'The kernel is not a usable ELF file: {detail}.',
    action: 'Use a kernel built for x86; if this one was, copy or download it again.',
  },
  'kernel-no-pv-support': {
    message: 'The kernel "{path}" has no Xen PV notes: this kernel has no PV support; it can be started as a PC.',
    action: 'Start it as a PC, or use a kernel built with Xen PV support (Linux: CONFIG_XEN_PV).',
  },
  'kernel-xen-version': {
    message: 'The kernel asks for the Xen interface "{version}"; only "xen-3.0" is offered.',
    action: 'Use a kernel built for Xen 3.0 or newer.',
  },
  'kernel-feature-unknown': {
    message: 'The kernel requires the Xen feature "{feature}", which PV guests are not offered here.',
    action: 'Use another kernel, or start this one as a PC.',
  },
  'kernel-32-bit': {
    message: 'The kernel is a 32-bit PV kernel; only 64-bit PV kernels are supported so far.',
    action: 'Use the 64-bit (amd64) build of this kernel.',
  },
  'kernel-layout-invalid': {
    message: 'The kernel cannot be placed in memory: {detail}.',
    action: 'Use another build of this kernel; its Xen notes contradict its ELF headers.',
  },

  'examination-failed': {
    message: 'The file "{path}" could not be looked into: {detail}.',
    action: 'Check that it is really a kernel and not damaged; copy or download it again.',
  },

  'precompile-failed': {
    message: 'The kernel "{path}" could not be translated ahead: {detail}.',
    action: 'Start a machine with it all the same: what it needs is then translated while it runs.',
  },

  'interpreter-missing': {
    message: 'The engine has not been built, or its files in build/ are damaged.',
    action: 'Run "npm run build" in the Paravane folder.',
  },

  // Domain builder.
  'memory-too-small-for-kernel': {
    message: 'The kernel needs at least {needMiB} MiB of memory to start, but the machine has {haveMiB} MiB.',
    action: 'Give the machine more memory (--memory {needMiB}M or more).',
  },
  'initrd-larger-than-memory': {
    message:
      'The initrd ({initrdMiB} MiB) does not fit into the memory of the machine: {needMiB} MiB are needed, it has {haveMiB} MiB.',
    action: 'Give the machine more memory (--memory {needMiB}M or more), or use a smaller initrd.',
  },
  'memory-unavailable': {
    message: 'This computer cannot reserve {memoryMiB} MiB of address space for the machine.',
    action: 'Close other programs, or give the machine less memory.',
  },
  'memory-size-invalid': {
    message: 'A memory size of {size} bytes is not possible: {detail}.',
    action: 'Choose a memory size that is a multiple of 4 KiB and not above the limit.',
  },
  'command-line-too-long': {
    message: 'The kernel command line has {length} bytes; at most {limit} are possible.',
    action: 'Shorten the command line (--append).',
  },
  'command-line-invalid': {
    message: 'The kernel command line contains a NUL character.',
    action: 'Remove it from the command line (--append).',
  },

  // Command line and the processes of running machines (main/cli, main/vm).
  usage: {
    message: 'The command line cannot be used: {detail}.',
    action: 'Run "paravane help" to see the commands and their options.',
  },
  'runtime-directory-unsafe': {
    message: 'The directory "{path}" for running machines cannot be trusted: {detail}.',
    action: 'Remove it, or set PARAVANE_RUNTIME_DIR to a directory that only your user can enter.',
  },
  'vm-not-found': {
    message: 'No running machine is called "{name}".',
    action: 'Run "paravane list" to see the running machines.',
  },
  'vm-name-ambiguous': {
    message: 'Several running machines are called "{name}".',
    action: 'Use the identifier shown by "paravane list".',
  },
  'vm-not-answering': {
    message: 'The machine "{name}" does not answer ({detail}).',
    action: 'Try again; if it stays silent, end its process ({pid}).',
  },
  'vm-process-died': {
    message: 'The process of machine "{name}" ended unexpectedly ({detail}).',
    action: 'Start the machine again; what the process said last is in "{log}".',
  },
  'machine-failed': {
    message: 'Paravane itself failed while running the machine: {detail}.',
    action: 'Start the machine again, and report this with the log "{log}".',
  },

  // The library of machines (main/library).
  'machine-unknown': {
    message: 'There is no machine "{name}" in the library.',
    action: 'Run "paravane list" to see the machines.',
  },
  'machine-name-taken': {
    message: 'There is already a machine called "{name}".',
    action: 'Choose another name.',
  },
  'machine-file-invalid': {
    message: 'The machine file "{path}" cannot be used: {detail}.',
    action: 'Correct the file, or put back the copy "{path}.bak".',
  },
  'machine-file-newer': {
    message:
      'The machine file "{path}" was written by a newer Paravane (version {version} of the format; {known} is known).',
    action: 'Update Paravane, or make the machine anew.',
  },
  'machine-state': {
    message: 'The machine "{name}" is {state}; it cannot {verb} now.',
    action: 'Try this: {hint}.',
  },
  'machine-locked': {
    message: 'The machine "{name}" is in use by another program ({holder}).',
    action: 'Close the other program, or stop the machine there.',
  },
  'library-busy': {
    message: 'Another program has been changing the library "{path}" for some seconds.',
    action: 'Try again in a moment.',
  },
  'library-file-invalid': {
    message: 'The library file "{path}" cannot be used: {detail}.',
    action: 'Correct the file, or put back the copy "{path}.bak".',
  },
  'folder-not-empty': {
    message: 'The folder "{path}" exists and is not empty.',
    action: 'Choose a folder that does not exist yet.',
  },
  'folder-not-machine': {
    message: 'The folder "{path}" has no machine in it.',
    action: 'Choose a folder with a file machine.json.',
  },
  'folder-in-library': {
    message: 'The folder "{path}" is in the library already.',
    action: 'Use the machine that is there, or clone it.',
  },
  'folder-unusable': {
    message: 'The folder "{path}" cannot be used: {detail}.',
    action: 'Choose another folder, or give your user the right to write there.',
  },
  'path-not-absolute': {
    message: 'The path "{path}" is not absolute.',
    action: 'Give the whole path, from the root of the file system.',
  },
  'disk-full': {
    message: 'There is no room left on the disk of "{path}".',
    action: 'Free some space, or choose another place.',
  },
  'file-write-failed': {
    message: 'The file "{path}" cannot be written: {detail}.',
    action: 'Check the rights of its folder, then try again.',
  },
  'undo-nothing': {
    message: 'There is nothing to take back.',
    action: 'Go on; the latest change may have been taken back already.',
  },
  'undo-unknown': {
    message: 'The step "{id}" can no longer be taken back.',
    action: 'Make the change by hand.',
  },
  'settings-invalid': {
    message: 'The settings file "{path}" cannot be used: {detail}.',
    action: 'Correct or remove the file; until then the defaults are used.',
  },

  // The manager of running machines (main/manager).
  'guest-crashed': {
    message: 'The guest crashed: {reason}.',
    action: 'Look at what the console shows last, then start the machine again.',
  },
  'vm-silent': {
    message: 'The process of machine "{name}" does not answer.',
    action: 'Wait a moment; if it stays silent, stop the machine by force.',
  },
  'stop-timeout': {
    message: 'The guest of "{name}" was asked to power off and has not done so within {seconds} seconds.',
    action: 'Wait longer, or stop it by force; what the guest has not saved is then lost.',
  },
  'console-not-running': {
    message: 'The machine "{name}" is not running, so nobody reads what is typed.',
    action: 'Start the machine.',
  },
  'pty-missing': {
    message: 'Pseudo-terminals are not available: {detail}.',
    action:
      'Install a C++ compiler, make and Python 3, then run "npm install" in Paravane\u2019s folder and start it again.',
  },
  'pty-failed': {
    message: 'The console cannot be offered as a pseudo-terminal: {detail}.',
    action: 'Use "paravane console" instead; it needs none.',
  },
  'shell-missing': {
    message: 'This page is in a browser; windows, menus and dialogs of the desktop are not at hand.',
    action: 'Start Paravane as an application, or do without.',
  },
  'terminal-off': {
    message: 'Terminals on this computer are switched off.',
    action: 'Switch them on with "paravane settings hostTerminal on".',
  },
  'terminal-not-from-page': {
    message: 'A page in a browser cannot switch on terminals of this computer.',
    action: 'Run "paravane settings hostTerminal on" in a terminal on this computer, once.',
  },
  'terminal-failed': {
    message: 'The shell "{program}" could not be started: {detail}.',
    action: 'Set SHELL to a shell that works and start Paravane again.',
  },
  'terminal-not-running': {
    message: 'No shell runs in this terminal.',
    action: 'Start a new one.',
  },
  'task-running': {
    message: 'A task "{task}" is running already.',
    action: 'Wait for it, or cancel it.',
  },
  cancelled: {
    message: 'This was cancelled.',
    action: 'Start it again when you want to.',
  },
  'upload-unknown': {
    message: 'There is no such upload.',
    action: 'Choose the file again.',
  },
  'upload-out-of-order': {
    message: 'A part of the upload is missing: {expected} bytes have arrived, this part begins at {offset}.',
    action: 'Choose the file again.',
  },
  'upload-too-large': {
    message: 'The upload has more than {limit} bytes.',
    action: 'Use a smaller file, or copy it to this computer by other means.',
  },
  'measurement-failed': {
    message: 'The speed of guests could not be measured: {detail}.',
    action: 'Try again when the computer is less busy.',
  },

  // Messages to the manager, and its servers (main/manager/gate.ts, main/serve).
  'sender-unknown': {
    message: 'The manager does not know who sent this message.',
    action: 'Reload the page.',
  },
  'message-malformed': {
    message: 'The manager was sent something that is no message: {detail}.',
    action: 'Reload the page, or update the program that sent it.',
  },
  'message-too-large': {
    message: 'The manager was sent a message of {size} bytes; {limit} are possible.',
    action: 'Send less at a time.',
  },
  'message-rate': {
    message: 'The manager was sent too many messages at once.',
    action: 'Wait a moment and try again.',
  },
  'command-unknown': {
    message: 'The manager knows no command "{command}".',
    action: 'Reload the page, or update the program that sent it.',
  },
  'request-invalid': {
    message: 'The command {command} cannot be carried out: {detail}.',
    action: 'Correct the value and try again.',
  },
  'manager-failed': {
    message: 'Paravane itself failed ({command}): {detail}.',
    action: 'Try again, and report this with the diagnostics.',
  },
  'manager-lost': {
    message: 'The connection to the manager was lost.',
    action: 'Run "paravane serve" again if it has ended; running machines are not affected.',
  },
  'manager-running': {
    message: 'A manager for this library is running already ({where}).',
    action: 'Use that one, or end it first.',
  },
  'port-taken': {
    message: 'Port {port} is in use by another program.',
    action: 'Choose another port (--port), or none to let one be found.',
  },
  'port-unusable': {
    message: 'Port {port} cannot be used: {detail}.',
    action: 'Choose another port (--port) between 1024 and 65535.',
  },

  // Packages of Debian used by the welcome guest and the tests (main/debian).
  'debian-tools-missing': {
    message: 'This computer has no Debian package tools ({tool} was not found).',
    action: 'Use a Debian-like system for this guest, or give a kernel of your own (paravane run --kernel FILE).',
  },
  'debian-lists-unavailable': {
    message: 'The list of Debian packages could not be fetched: {detail}.',
    action: 'Check the network connection, or run "sudo apt-get update".',
  },
  'debian-package-unknown': {
    message: 'This system\'s package sources have no package "{name}".',
    action: 'Check the package sources in /etc/apt, then run "sudo apt-get update".',
  },
  'debian-download-failed': {
    message: 'The package "{name}" could not be downloaded: {detail}.',
    action: 'Check the network connection and try again.',
  },
  'debian-unpack-failed': {
    message: 'The package "{name}" could not be unpacked: {detail}.',
    action: 'Check that the disk with "{cache}" is not full, then try again.',
  },
  'cache-unwritable': {
    message: 'The cache directory "{path}" cannot be used: {detail}.',
    action: 'Make it writable, or set PARAVANE_CACHE to another directory.',
  },
} as const satisfies Record<string, ErrorTexts>;

export type ErrorCode = keyof typeof errorTable;

type PlaceholdersOf<Text extends string> = Text extends `${string}{${infer Name}}${infer Rest}`
  ? Name | PlaceholdersOf<Rest>
  : never;
type DetailName<Code extends ErrorCode> = PlaceholdersOf<
  (typeof errorTable)[Code]['message'] | (typeof errorTable)[Code]['action']
>;

/** The details a code's texts need: exactly the names between braces, so that no sentence is shown half filled in. */
export type ErrorDetails<Code extends ErrorCode> = Readonly<Record<DetailName<Code>, string | number>>;

/** An error with everything needed to tell the user: a stable code, a sentence, what to do next, and the cause if there is one. */
export class PvError extends Error {
  readonly code: ErrorCode;
  readonly action: string;
  /** The values that were put into the texts. */
  readonly details: Readonly<Record<string, string | number>>;

  constructor(code: ErrorCode, details: Readonly<Record<string, string | number>>, cause?: unknown) {
    super(fillIn(errorTable[code].message, details), cause === undefined ? undefined : { cause });
    this.name = 'PvError';
    this.code = code;
    this.action = fillIn(errorTable[code].action, details);
    this.details = details;
  }
}

/** Makes the error of `code`. TypeScript demands the details its texts need; a code without details takes `{}`. */
export function pvError<Code extends ErrorCode>(code: Code, details: ErrorDetails<Code>, cause?: unknown): PvError {
  return new PvError(code, details, cause);
}

function fillIn(text: string, details: Readonly<Record<string, string | number>>): string {
  // One pass over the template: a detail that itself contains braces (a path may) is not expanded again.
  return text.replace(/\{(\w+)\}/g, (whole, name: string) =>
    Object.hasOwn(details, name) ? String(details[name]) : whole,
  );
}
