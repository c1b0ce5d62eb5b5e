// SPDX-License-Identifier: MIT
// Errors as they cross from the manager: always a code of the table in engine/errors.ts, a sentence, and what to do next.
import * as v from 'valibot';

/** `cause` is the sentence of what lies behind, if there is something; never a stack. */
export const errorReport = v.strictObject({
  code: v.string(),
  message: v.string(),
  action: v.string(),
  cause: v.optional(v.string()),
});
export type ErrorReport = v.InferOutput<typeof errorReport>;
