// SPDX-License-Identifier: MIT
// How a VM process that this manager started has ended.
import type { VmChild } from '../vm/vm-child.ts';

/** How long the end of a child may take to be reported after its socket has closed. */
const EXIT_REPORT_MS = 400;

export type Exit = { code: number | null; signal: NodeJS.Signals | null } | null;

/** How a child ended; null when it is not ours or does not say soon. */
export function exitOf(child: VmChild | null): Promise<Exit> {
  if (child === null) return Promise.resolve(null);
  const known = (): Exit =>
    child.exitCode === null && child.signalCode === null ? null : { code: child.exitCode, signal: child.signalCode };
  if (known() !== null) return Promise.resolve(known());
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(known()), EXIT_REPORT_MS);
    child.once('exit', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal });
    });
  });
}
