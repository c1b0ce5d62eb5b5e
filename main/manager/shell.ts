// SPDX-License-Identifier: MIT
// The desktop around the manager, where there is one: what its windows can ask of it. The manager itself knows no windows.
import { pvError } from '../../engine/errors.ts';
import type { DetachedWindow, FileChoice, MenuCommand } from '../contract/shell.ts';
import type { Handlers } from './commands.ts';
import type { Manager } from './manager.ts';
import type { Session } from './session.ts';

/** Implemented by the desktop shell. Each asks on behalf of one window. */
export interface Shell {
  /** Opens a window of its own, or brings the one there is to the front. */
  openWindow(what: DetachedWindow): void;
  /** What the menu bar has while this window is in front. */
  setMenu(session: Session, commands: readonly MenuCommand[]): void;
  /** Null when the user thought better of it. */
  chooseFile(session: Session, choice: FileChoice): Promise<string | null>;
}

/** The handlers of `window:` commands. Without a desktop they throw `shell-missing`. */
export function shellCommands(manager: Manager): Pick<Handlers, Extract<keyof Handlers, `window:${string}`>> {
  const shell = (session: Session): Shell => {
    // A page in a browser that talks to the desktop's manager has no window there.
    if (manager.shell === null || session.kind !== 'window') throw pvError('shell-missing', {});
    return manager.shell;
  };
  return {
    'window:open': (what, session) => {
      shell(session).openWindow(what);
      return {};
    },
    'window:setMenu': ({ commands }, session) => {
      shell(session).setMenu(session, commands);
      return {};
    },
    'window:chooseFile': async (choice, session) => ({ path: await shell(session).chooseFile(session, choice) }),
  };
}
