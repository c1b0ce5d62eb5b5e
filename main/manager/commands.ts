// SPDX-License-Identifier: MIT
// Which function answers which command.
import type { CheckedRequest, CommandName, Reply } from '../contract/commands.ts';
import { hostCommands } from './host-commands.ts';
import { libraryCommands } from './library-commands.ts';
import { machineCommands } from './machine-commands.ts';
import type { Manager } from './manager.ts';
import type { Session } from './session.ts';
import { shellCommands } from './shell.ts';
import { terminalCommands } from './terminal-commands.ts';

/** Handlers get checked requests only; what they throw becomes the error of the answer. */
export type Handlers = {
  [Name in CommandName]: (request: CheckedRequest<Name>, session: Session) => Reply<Name> | Promise<Reply<Name>>;
};

export function handlersOf(manager: Manager): Handlers {
  return {
    ...libraryCommands(manager),
    ...machineCommands(manager),
    ...hostCommands(manager),
    ...terminalCommands(manager),
    ...shellCommands(manager),
  };
}
