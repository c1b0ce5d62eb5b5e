// SPDX-License-Identifier: MIT
// The thread that writes a block store.
import { workerData } from 'node:worker_threads';
import { systemEnvironment } from './directory.ts';
import { WAITING_OVERHEAD_BYTES } from './record-sink.ts';
import type { FromWriter, ToWriter, WriterThreadData } from './record-sink.ts';
import { StoreWriter } from './store-writer.ts';

const { options, port } = workerData as WriterThreadData;
const post = (message: FromWriter): void => port.postMessage(message);
const writer = new StoreWriter(options, systemEnvironment, (level, text) => post({ type: 'log', level, text }));
let done = 0;
let reportPending: NodeJS.Immediate | null = null;

function report(): void {
  reportPending = null;
  post({ type: 'report', done, report: writer.report() });
  done = 0;
}

port.on('message', (message: ToWriter) => {
  switch (message.type) {
    case 'put':
      writer.put(message.key, message.value);
      done += message.value.length + WAITING_OVERHEAD_BYTES;
      // One report for all values of a burst.
      reportPending ??= setImmediate(report);
      break;
    case 'touch':
      writer.touch(message.uses);
      break;
    case 'close':
      writer.close();
      if (reportPending !== null) clearImmediate(reportPending);
      report();
      port.close();
      break;
  }
});
