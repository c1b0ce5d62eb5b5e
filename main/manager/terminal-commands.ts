// SPDX-License-Identifier: MIT
// Commands of terminals on the manager's computer.
import type { TerminalPlace } from '../terminal/host-terminals.ts';
import type { Handlers } from './commands.ts';
import type { Manager } from './manager.ts';

/** The handlers of these commands for one manager. */
export function terminalCommands(manager: Manager): Pick<Handlers, Extract<keyof Handlers, `terminal:${string}`>> {
  const { terminals } = manager;
  const place = (machine: string): TerminalPlace => {
    const { id, name, machine: { folder } } = manager.control(machine); // prettier-ignore
    return { id, name, folder };
  };
  return {
    'terminal:attach': async ({ machine }, session) => {
      const { bytes, ...rest } = await terminals.attach(place(machine), session);
      return { ...rest, scrollback: Buffer.from(bytes).toString('base64') };
    },
    'terminal:detach': ({ machine }, session) => {
      terminals.detach(machine, session);
      return {};
    },
    'terminal:start': async ({ machine, size }) => ({ shell: await terminals.start(place(machine), size) }),
    'terminal:input': ({ machine, bytes, answer }, session) => {
      terminals.input(machine, Buffer.from(bytes, 'base64'), session, answer);
      return {};
    },
    'terminal:resize': ({ machine, size }, session) => {
      terminals.resize(machine, size, session);
      return {};
    },
    'terminal:stop': ({ machine }) => {
      terminals.stop(machine);
      return {};
    },
  };
}
