// SPDX-License-Identifier: MIT
// The contract through the preload script of a desktop shell, which offers `invoke` and `on` and nothing else.
import type { Bridge } from '../../main/contract/bridge.ts';
import type { CommandName, Reply, Request } from '../../main/contract/commands.ts';
import { CommandError } from '../../main/contract/wire.ts';
import type { Connection } from '../../main/contract/wire.ts';
import type { Link, LinkStatus } from './link.ts';

export class PreloadLink implements Link {
  /** The window and the manager live and die together. */
  readonly status: LinkStatus = 'open';
  readonly on: Connection['on'];
  readonly #bridge: Bridge;

  constructor(bridge: Bridge) {
    this.#bridge = bridge;
    this.on = bridge.on.bind(bridge);
  }

  async invoke<Name extends CommandName>(name: Name, request: Request<Name>): Promise<Reply<Name>> {
    // What crosses to the preload script is copied, and proxies of reactive state cannot be; what is sent is JSON anyway.
    const answer = await this.#bridge.invoke(name, JSON.parse(JSON.stringify(request)) as Request<Name>);
    if ('error' in answer) throw new CommandError(answer.error);
    return answer.reply;
  }

  onStatus(): () => void {
    return () => undefined;
  }

  retry(): void {
    // Nothing to connect.
  }
}
