// SPDX-License-Identifier: MIT
// A machine without an engine for tests of the command line and the VM process. The command line says what its "guest" does:
//   poweroff, reboot, suspend, crash=REASON   end so          throw, refuse   fail while running, while being made
//   lines=N    write N numbered lines, then the next word      idle, tick      sleep for ever, with a timer
//   clock      write the guest's time every 100 ms
//   spin       use the CPU without end                         hang            never return from run
//   eat        use memory without end                      quit            end the thread it runs in
//   stuck      never return from WebAssembly
//   count=FILE (anywhere) add a character to the file when it is made
//   closed=FILE (anywhere) write to the file how it was closed
//   deaf       (anywhere) ignore requests to power off
// Input is echoed; Ctrl-D in it powers the guest off.
import * as fs from 'node:fs';
import * as v8 from 'node:v8';
import { pvError } from '../../engine/errors.ts';
import type { MachineHost } from '../../engine/host.ts';
import type { GuestOutcome, Machine, MachineConfig, RunResult } from '../../main/vm/machine.ts';

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);

/** (module (func (export "f") (loop (br 0)))) */
const ENDLESS = '0061736d0100000001040160000003020100070501016600000a0901070003400c000b0b';

class FakeMachine implements Machine {
  readonly #host: MachineHost;
  readonly #words: string[];
  readonly #deaf: boolean;
  readonly #closedFile: string | undefined;
  #line = 0;
  #slices = 0;
  #asked: GuestOutcome | null = null;

  constructor(config: MachineConfig, host: MachineHost) {
    this.#host = host;
    const words = config.commandLine.split(' ').filter((word) => word !== '');
    this.#deaf = words.includes('deaf');
    const count = words.find((word) => word.startsWith('count='));
    if (count !== undefined) fs.appendFileSync(count.slice('count='.length), '+');
    const closed = words.find((word) => word.startsWith('closed='));
    this.#closedFile = closed?.slice('closed='.length);
    this.#words = words.filter((word) => word !== 'deaf' && word !== count && word !== closed);
    host.consoleOut(encode(`fake ${config.name} ${config.memoryBytes} ${config.mfnOrder}\n`));
  }

  run(sliceNs: number): RunResult {
    this.#slices++;
    if (this.#asked !== null) return { state: 'ended', outcome: this.#asked };
    const [word, argument] = (this.#words[0] ?? 'poweroff').split('=');
    switch (word) {
      case 'poweroff':
      case 'reboot':
      case 'suspend':
        return { state: 'ended', outcome: { kind: word } };
      case 'crash':
        return { state: 'ended', outcome: { kind: 'crash', reason: argument } };
      case 'throw':
        throw new Error('the fake broke');
      case 'idle':
        return { state: 'idle', wakeAtNs: Infinity };
      case 'tick':
        // An idle guest with a timer, as real ones have.
        return { state: 'idle', wakeAtNs: this.#host.monotonicNs() + 1e8 };
      case 'clock': {
        const now = this.#host.monotonicNs();
        this.#host.consoleOut(encode(`clock ${Math.round(now / 1e6)}\n`));
        return { state: 'idle', wakeAtNs: now + 1e8 };
      }
      case 'hang':
        // The first slice ends so that the greeting is seen.
        if (this.#slices === 1) return { state: 'running' };
        for (;;);
      case 'stuck': {
        // The first slice ends so that the greeting is seen.
        if (this.#slices === 1) return { state: 'running' };
        // Unoptimised loops are interrupted where they count their turns.
        v8.setFlagsFromString('--no-liftoff');
        const { f } = new WebAssembly.Instance(new WebAssembly.Module(Buffer.from(ENDLESS, 'hex'))).exports;
        return (f as () => never)();
      }
      case 'eat': {
        // The first slice ends so that the greeting is seen.
        if (this.#slices === 1) return { state: 'running' };
        const eaten: object[] = [];
        for (;;) eaten.push(new Array(1000).fill(eaten));
      }
      case 'quit':
        return process.exit(7);
      case 'spin': {
        const end = this.#host.monotonicNs() + sliceNs;
        while (this.#host.monotonicNs() < end);
        return { state: 'running' };
      }
      case 'lines':
        for (let i = 0; i < 1000 && this.#line < Number(argument); i++) {
          this.#host.consoleOut(encode(`line ${this.#line++}\n`));
        }
        if (this.#line >= Number(argument)) this.#words.shift();
        return { state: 'running' };
      default:
        throw new Error(`the fake machine does not know "${word}"`);
    }
  }

  consoleInput(bytes: Uint8Array): number {
    // Takes little at a time, as a console ring that is nearly full does.
    const taken = bytes.slice(0, 100);
    this.#host.consoleOut(taken);
    if (taken.includes(0x04)) this.#asked = { kind: 'poweroff' };
    return taken.length;
  }

  setConsoleSize(columns: number, rows: number): void {
    this.#host.consoleOut(encode(`size ${columns}x${rows}\n`));
  }

  requestShutdown(kind: 'poweroff' | 'reboot'): void {
    this.#host.consoleOut(encode(`asked to ${kind}\n`));
    if (!this.#deaf) this.#asked = { kind };
  }

  close(isForced: boolean): Promise<void> {
    if (this.#closedFile !== undefined) fs.writeFileSync(this.#closedFile, isForced ? 'at once' : 'in peace');
    return Promise.resolve();
  }

  counts() {
    return { instructions: this.#slices * 1000, hypercalls: { sched_op: 3 }, faults: { 14: 7 }, tlbMisses: 5 };
  }
}

/** The function that machine modules export. */
export async function createMachine(config: MachineConfig, host: MachineHost): Promise<Machine> {
  if (config.commandLine === 'refuse') throw pvError('file-missing', { role: 'kernel', path: config.kernel });
  return new FakeMachine(config, host);
}
