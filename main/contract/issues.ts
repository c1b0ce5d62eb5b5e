// SPDX-License-Identifier: MIT
// What a schema found wrong, as one clause for an error sentence.
import * as v from 'valibot';

type AnyIssue = v.BaseIssue<unknown>;

/** `memoryBytes is less than 4 MiB; there is no field "colour"`: at most three issues are named. */
export function describeIssues(issues: readonly AnyIssue[]): string {
  const texts = issues.slice(0, 3).map(describeIssue);
  if (issues.length > 3) texts.push(`and ${issues.length - 3} more`);
  return texts.join('; ');
}

function describeIssue(issue: AnyIssue): string {
  const path = v.getDotPath(issue) ?? 'it';
  if (issue.type === 'strict_object' && issue.expected === 'never') return `there is no field "${path}"`;
  if (issue.input === undefined && issue.kind === 'schema') return `the field "${path}" is missing`;
  // Our own messages are clauses without a subject; valibot's are sentences that begin with "Invalid".
  const text = issue.message.startsWith('Invalid')
    ? `should be ${issue.expected ?? 'something else'}, not ${shortened(issue.received)}`
    : issue.message;
  return `${path} ${text}`;
}

function shortened(text: string): string {
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
