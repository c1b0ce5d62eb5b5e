// SPDX-License-Identifier: MIT
// Unit tests of the memory shared between a VM process and its vCPU worker.
import { describe, expect, it } from 'vitest';
import { Request, SharedControl } from './shared-control.ts';

/** Both sides of one area. */
function pair(): { main: SharedControl; worker: SharedControl } {
  const main = new SharedControl();
  return { main, worker: new SharedControl(main.buffer) };
}

describe('SharedControl', () => {
  it('carries input in order through many turns of the ring', () => {
    const { main, worker } = pair();
    let sent = 0;
    let received = 0;
    while (received < 1_000_000) {
      sent += main.putInput(Uint8Array.from({ length: 977 }, (_, i) => (sent + i) % 251));
      const bytes = worker.peekInput(1013);
      bytes.forEach((byte, i) => {
        if (byte !== (received + i) % 251) throw new Error(`byte ${received + i} is wrong`);
      });
      worker.consumeInput(bytes.length);
      received += bytes.length;
    }
    expect(received).toBeLessThanOrEqual(sent);
  });

  it('takes only what fits', () => {
    const { main, worker } = pair();
    expect(main.putInput(new Uint8Array(100_000))).toBe(65_536);
    expect(main.putInput(new Uint8Array(1))).toBe(0);
    worker.consumeInput(10);
    expect(main.putInput(new Uint8Array(100))).toBe(10);
  });

  it('gives each request once and wakes a sleeper that looked before it', () => {
    const { main, worker } = pair();
    const seen = worker.signalCount();
    main.request(Request.PowerOff);
    main.setConsoleSize(132, 50);
    worker.sleep(seen, Infinity);
    expect(worker.takeRequests()).toBe(Request.PowerOff | Request.Resize);
    expect(worker.takeRequests()).toBe(0);
    expect(worker.consoleSize()).toEqual({ columns: 132, rows: 50 });
  });

  it('holds output back until enough is delivered', () => {
    const { main, worker } = pair();
    worker.outputPosted(2 ** 21);
    expect(worker.awaitOutputRoom(1)).toBe(false);
    main.outputDelivered(2 ** 20);
    expect(worker.awaitOutputRoom(1)).toBe(true);
  });
});
