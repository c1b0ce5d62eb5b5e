// SPDX-License-Identifier: MIT
// The starter as its VM process sees it: a channel for one configuration and one answer, over Node's IPC or a utility process's port.
import type { VmProcessConfig, VmProcessReady, VmProcessRefusal } from './process.ts';

export interface Starter {
  /** Calls `listener` with the configuration, once. */
  configured(listener: (config: VmProcessConfig) => void): void;
  /** The starter has gone or wants to hear no more. A utility process does not hear of it: it ends with its starter. */
  left(listener: () => void): void;
  /** `sent` is called when the answer is on its way. */
  answer(message: VmProcessReady | VmProcessRefusal, sent?: () => void): void;
}

/** As much of a utility process's port as is used; `process.parentPort` exists nowhere else. */
interface ParentPort {
  once(event: 'message', listener: (event: { data: VmProcessConfig }) => void): unknown;
  postMessage(message: VmProcessReady | VmProcessRefusal): void;
}

/** A port does not say when a message has left. */
const POST_MS = 200;

/** Null when this process was started by hand. */
export function starterOfThisProcess(): Starter | null {
  const { parentPort } = process as { parentPort?: ParentPort };
  if (parentPort !== undefined)
    return {
      configured: (listener) => parentPort.once('message', ({ data }) => listener(data)),
      left: () => undefined,
      answer(message, sent) {
        parentPort.postMessage(message);
        if (sent !== undefined) setTimeout(sent, POST_MS);
      },
    };
  if (process.send === undefined) return null;
  return {
    configured: (listener) => process.once('message', (config: VmProcessConfig) => listener(config)),
    left: (listener) => process.once('disconnect', listener),
    answer: (message, sent) => process.send?.(message, () => sent?.()),
  };
}
