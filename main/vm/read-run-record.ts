// SPDX-License-Identifier: MIT
// Reads run.json. The folder it lies in may come from elsewhere, so each field is checked; VM processes only write it and need none of this.
import * as v from 'valibot';
import { runRecordFile } from './run-record.ts';
import type { RunRecord } from './run-record.ts';
import { readSmallFile } from './small-file.ts';

/** A record has one error text of the engine in it at most. */
const SIZE_LIMIT = 1024 * 1024;

const text = v.pipe(v.string(), v.maxLength(64 * 1024));
const time = v.pipe(v.number(), v.minValue(0), v.maxValue(8.64e15));
const error = v.object({ code: text, message: text, action: text });

const outcome = v.variant('kind', [
  v.object({ kind: v.picklist(['poweroff', 'reboot', 'suspend', 'forced']) }),
  v.object({ kind: v.literal('crash'), reason: text }),
  v.object({ kind: v.picklist(['refused', 'failed']), error }),
]);

/** Fields of later versions are left alone: a record is a report, and what is known of it is of use. */
const record = v.looseObject({
  version: v.literal(1),
  pid: v.pipe(v.number(), v.integer(), v.minValue(0)),
  startedAt: time,
  machine: v.looseObject({
    name: text,
    kernel: text,
    initrd: v.optional(text),
    commandLine: text,
    memoryBytes: v.number(),
    mfnOrder: v.picklist(['offset', 'permuted']),
    onReboot: v.picklist(['restart', 'exit']),
  }),
  endedAt: v.nullable(time),
  outcome: v.nullable(outcome),
  dismissed: v.optional(v.boolean()),
  instructions: v.nullable(v.pipe(v.number(), v.minValue(0))),
});

/** The record of a machine's folder, or null when there is none that can be read: it is a report, nothing depends on it. */
export function readRunRecord(folder: string): RunRecord | null {
  try {
    return v.parse(record, JSON.parse(readSmallFile(runRecordFile(folder), SIZE_LIMIT))) as RunRecord;
  } catch {
    return null;
  }
}
