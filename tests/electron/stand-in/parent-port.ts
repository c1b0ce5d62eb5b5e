// SPDX-License-Identifier: MIT
// Loaded first in a process that stands for a utility process: it has `process.parentPort` instead of `process.send`, and ends with its parent.
import { EventEmitter } from 'node:events';
import { isMainThread } from 'node:worker_threads';

// Threads of the process load this too.
if (isMainThread) standIn();

function standIn(): void {
  const send = process.send!.bind(process);
  const port = Object.assign(new EventEmitter(), { postMessage: (message: unknown) => void send(message) });
  // Electron keeps what comes before somebody listens.
  const early: unknown[] = [];
  port.on('newListener', (event) => {
    if (event === 'message') setImmediate(() => early.splice(0).forEach((data) => port.emit('message', { data })));
  });
  process.on('message', (data) => {
    if (port.listenerCount('message') > 0) port.emit('message', { data });
    else early.push(data);
  });
  process.on('disconnect', () => process.exit(1));
  Object.assign(process, { parentPort: port, send: undefined });
}
