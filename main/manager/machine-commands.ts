// SPDX-License-Identifier: MIT
// Commands of running machines: the verbs of their life, their consoles, what is measured of them, their logs.
import * as path from 'node:path';
import { readEvents } from '../metrics/event-file.ts';
import { tierFor } from '../metrics/ring-file.ts';
import { machineLogFile, readLogPage } from '../vm/machine-log.ts';
import type { Handlers } from './commands.ts';
import type { MachineControl } from './machine-control.ts';
import type { Manager } from './manager.ts';
import { typeInto } from './typing.ts';
import { followStop } from './stop-request.ts';

type MachineCommand =
  | `console:${string}`
  | `metrics:${string}`
  | `log:${string}`
  | `machine:${'start' | 'pause' | 'resume' | 'reset' | 'stop' | 'dismiss' | 'sysrq'}`;

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

/** The handlers of these commands for one manager. */
export function machineCommands(manager: Manager): Pick<Handlers, Extract<keyof Handlers, MachineCommand>> {
  const verb = async (id: string, act: (control: MachineControl) => void | Promise<void>) => {
    const control = manager.control(id);
    await act(control);
    return manager.summary(control);
  };

  return {
    'machine:start': ({ machine }) => verb(machine, (control) => control.start(manager.machineModule)),
    'machine:pause': ({ machine }) => verb(machine, (control) => control.pause()),
    'machine:resume': ({ machine }) => verb(machine, (control) => control.resume()),
    'machine:reset': ({ machine }) => verb(machine, (control) => control.reset()),
    'machine:stop': ({ machine, how, seconds, thenForce = false, task }) =>
      verb(machine, async (control) => {
        if (how === 'force') return control.force();
        await control.ask(seconds, thenForce);
        if (task === undefined) return;
        const text = `Waiting for "${control.name}" to power off`;
        await manager.tasks.run(task, (tell, signal) =>
          followStop(control, thenForce, (done, total) => tell({ text, done, total, unit: 'seconds' }), signal),
        );
      }),
    'machine:dismiss': ({ machine }) => verb(machine, (control) => control.dismiss()),
    'machine:sysrq': ({ machine, key }) => {
      manager.control(machine).sysrq(key);
      return {};
    },

    'console:attach': ({ machine }, session) => {
      const control = manager.control(machine);
      const { offset, bytes } = control.console.attach(session);
      return { offset, scrollback: base64(bytes), size: control.size, live: control.live };
    },
    'console:detach': ({ machine }, session) => {
      manager.control(machine).console.detach(session);
      return {};
    },
    'console:input': ({ machine, bytes, answer }, session) => {
      const control = manager.control(machine);
      if (control.console.mayWrite(session, answer)) control.input(Buffer.from(bytes, 'base64'));
      return {};
    },
    'console:resize': ({ machine, size }, session) => {
      const control = manager.control(machine);
      control.console.lead(session);
      control.resize(size);
      return {};
    },
    'console:scrollback': ({ machine }) => {
      const { offset, bytes } = manager.control(machine).console.kept();
      return { offset, scrollback: base64(bytes) };
    },
    'console:type': async ({ machine, text, task }) => {
      await typeInto(manager, manager.control(machine), text, task);
      return {};
    },

    'metrics:watch': ({ machines }, session) => {
      session.watched = new Set(machines);
      return {};
    },
    'metrics:history': ({ machine, from, to, tier }) => {
      const { id, machine: { folder } } = manager.control(machine); // prettier-ignore
      const stretch = manager.ring(id, folder).read(from, Math.max(from, to), tier ?? tierFor(from, Date.now()));
      return { machine, ...stretch, events: readEvents(path.join(folder, 'events.jsonl'), from, to) };
    },
    'metrics:counters': ({ machine }) => {
      const control = manager.control(machine);
      const { at, stats } = control.totals ?? { at: Date.now(), stats: null };
      return {
        at,
        instructions: stats?.instructions ?? 0,
        hypercalls: stats?.hypercalls ?? {},
        faults: stats?.faults ?? {},
        other: { ...stats?.other, ...(stats && { tlbMisses: stats.tlbMisses }) },
      };
    },
    'log:read': ({ machine, lines, before }) => {
      const { folder } = manager.control(machine).machine;
      const page = readLogPage(machineLogFile(folder), lines, before);
      return { entries: page.lines, before: page.start > 0 ? page.start : null };
    },
  };
}
