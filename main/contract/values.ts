// SPDX-License-Identifier: MIT
// The small values that commands and events are made of: identifiers, names, paths, byte strings, each with its limit.
import * as v from 'valibot';

/** Longest message of either direction in bytes of JSON; a file chunk or a console chunk fits with room to spare. */
export const MESSAGE_BYTES_LIMIT = 1024 * 1024;

/** Most bytes of a file in one `file:uploadChunk`. */
export const UPLOAD_CHUNK_BYTES = 384 * 1024;

/** Most bytes of console input in one message. */
export const CONSOLE_INPUT_BYTES = 64 * 1024;

/** Identifier of a machine in the library: made once, never reused, the same after rename and move. */
export const machineId = v.pipe(v.string(), v.regex(/^[0-9a-f]{8,32}$/, 'is no machine identifier'));

/** Name of a machine as people see it; the command line accepts it too, so it has no control characters and no slash. */
export const machineName = v.pipe(
  v.string(),
  v.trim(),
  v.minLength(1, 'must not be empty'),
  v.maxLength(64, 'has more than 64 characters'),
  // eslint-disable-next-line no-control-regex -- control characters are what is refused
  v.regex(/^[^\u0000-\u001f\u007f/\\]+$/, 'contains a slash or a control character'),
);

export const tag = v.pipe(
  v.string(),
  v.trim(),
  v.minLength(1, 'must not be empty'),
  v.maxLength(32, 'has more than 32 characters'),
  // eslint-disable-next-line no-control-regex -- control characters are what is refused
  v.regex(/^[^\u0000-\u001f\u007f,]+$/, 'contains a comma or a control character'),
);
export const tags = v.pipe(v.array(tag), v.maxLength(32, 'has more than 32 tags'));

export const notes = v.pipe(v.string(), v.maxLength(20_000, 'has more than 20000 characters'));

/** An absolute path on the computer the manager runs on; that it is absolute is checked there, where the platform is known. */
export const hostPath = v.pipe(
  v.string(),
  v.minLength(1, 'must not be empty'),
  v.maxLength(4096, 'has more than 4096 characters'),
  // eslint-disable-next-line no-control-regex -- a NUL would end the path early in system calls
  v.regex(/^[^\u0000]+$/, 'contains a NUL'),
);

/** The kernel's own limit is checked by the domain builder; this one keeps messages small. */
export const commandLine = v.pipe(v.string(), v.maxLength(4096, 'has more than 4096 characters'));

const MIB = 2 ** 20;
export const memoryBytes = v.pipe(
  v.number(),
  v.integer('is no whole number'),
  v.minValue(4 * MIB, 'is less than 4 MiB'),
  v.maxValue(4096 * MIB, 'is more than 4 GiB'),
  v.multipleOf(4096, 'is no multiple of 4 KiB'),
);

/** PV guests have one vCPU so far. */
export const vcpus = v.pipe(v.number(), v.integer(), v.minValue(1, 'must be 1'), v.maxValue(1, 'must be 1'));

/** Farthest time from 1970 that a `Date` can hold (ECMA-262, 21.4.1.1). */
const DATE_LIMIT = 8.64e15;

/** Milliseconds since 1970-01-01 UTC. */
export const timestamp = v.pipe(
  v.number(),
  v.minValue(-DATE_LIMIT, 'is no time'),
  v.maxValue(DATE_LIMIT, 'is no time'),
);

/** A count or a size that is never negative. */
export const count = v.pipe(
  v.number(),
  v.minValue(0, 'is negative'),
  v.maxValue(Number.MAX_SAFE_INTEGER, 'is too large'),
);

/** Most machines that one message may name. */
export const MACHINES_LIMIT = 10_000;

/** Bytes in base64 (RFC 4648, with padding), at most `limit` of them. */
export const base64 = (limit: number) =>
  v.pipe(v.string(), v.maxLength(Math.ceil(limit / 3) * 4, `has more than ${limit} bytes`), v.base64('is not base64'));

export const consoleSize = v.strictObject({
  columns: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(1000)),
  rows: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(1000)),
});

/** Chosen by whoever starts something long, so that its progress can be followed and cancelled before there is a reply. */
export const taskId = v.pipe(v.string(), v.regex(/^[\w-]{1,64}$/, 'is no task identifier'));

export const onReboot = v.picklist(['restart', 'exit']);
export const mfnOrder = v.picklist(['offset', 'permuted']);
