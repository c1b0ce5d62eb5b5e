// SPDX-License-Identifier: MIT
// What a window asks of the desktop it runs in: windows of their own, the menu bar, native dialogs. In a browser there is no desktop to ask.
import * as v from 'valibot';
import { hostPath, machineId } from './values.ts';

/** What can be looked at in a window of its own. */
export const detachedTab = v.picklist(['console', 'performance', 'terminal']);

/** A command of the window's registry, as an entry of the menu bar. */
export const menuCommand = v.strictObject({
  id: v.pipe(v.string(), v.minLength(1), v.maxLength(64)),
  group: v.pipe(v.string(), v.minLength(1), v.maxLength(32)),
  label: v.pipe(v.string(), v.minLength(1), v.maxLength(120)),
  /** As the registry writes chords: "Mod+Shift+P". */
  keys: v.nullable(v.pipe(v.string(), v.maxLength(64))),
  enabled: v.boolean(),
});
export type MenuCommand = v.InferOutput<typeof menuCommand>;

/** What is put to the native dialog for files. */
export const fileChoice = v.strictObject({
  title: v.pipe(v.string(), v.minLength(1), v.maxLength(120)),
  pick: v.picklist(['file', 'directory']),
  /** Where to begin. */
  start: v.nullable(hostPath),
});
export type FileChoice = v.InferOutput<typeof fileChoice>;

export const detachedWindow = v.strictObject({ machine: machineId, tab: detachedTab });
export type DetachedWindow = v.InferOutput<typeof detachedWindow>;
