// SPDX-License-Identifier: MIT
// Terminals on the manager's computer as windows see them.
import * as v from 'valibot';
import { count, hostPath, timestamp } from './values.ts';

/** The program that runs in a terminal. */
export const hostShell = v.strictObject({
  program: hostPath,
  pid: count,
  /** Where it was started. */
  directory: hostPath,
  startedAt: timestamp,
});
export type HostShell = v.InferOutput<typeof hostShell>;
