// SPDX-License-Identifier: MIT
// The manager as the rest of the window sees it: ask it, listen to it, know whether it is there.
import type { CommandName, Reply, Request } from '../../main/contract/commands.ts';
import type { ErrorReport } from '../../main/contract/errors.ts';
import type { EventName, EventPayload } from '../../main/contract/events.ts';
import { CommandError } from '../../main/contract/wire.ts';
import type { Link, LinkStatus } from '../transport/link.ts';

let link: Link | null = null;
const connectListeners = new Set<() => void>();

/** Read-only outside this file. */
export const manager = $state<{ status: LinkStatus; everOpen: boolean }>({ status: 'connecting', everOpen: false });

/** Called once, by main.ts or by a test. */
export function useLink(chosen: Link): void {
  link = chosen;
  const follow = (status: LinkStatus): void => {
    manager.status = status;
    if (status !== 'open') return;
    manager.everOpen = true;
    for (const listener of [...connectListeners]) listener();
  };
  chosen.onStatus(follow);
  follow(chosen.status);
}

export function retryConnection(): void {
  link?.retry();
}

/** Rejects with `CommandError`. */
export function invoke<Name extends CommandName>(name: Name, request: Request<Name>): Promise<Reply<Name>> {
  return link!.invoke(name, request);
}

/** Returns a function that ends the subscription. */
export function on<Name extends EventName>(name: Name, listener: (payload: EventPayload<Name>) => void): () => void {
  return link!.on(name, listener);
}

/** Calls `listener` now if the manager is there, and again whenever it has come back; then everything known may be out of date. */
export function whenConnected(listener: () => void): () => void {
  connectListeners.add(listener);
  if (manager.status === 'open') listener();
  return () => connectListeners.delete(listener);
}

/** Whatever was thrown, as something that can be shown. */
export function reportOf(error: unknown): ErrorReport {
  if (error instanceof CommandError) return error.report;
  return {
    code: 'window-failed',
    message: 'Something in this window went wrong.',
    action: 'Reload the window. If it happens again, copy the report and tell us.',
    cause: error instanceof Error ? error.message : String(error),
  };
}
