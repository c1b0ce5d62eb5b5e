// SPDX-License-Identifier: MIT
// The contract through the preload script of a desktop shell, which offers `invoke` and `on` and nothing else.
import type { Connection } from '../../main/contract/wire.ts';
import type { Link, LinkStatus } from './link.ts';

export class PreloadLink implements Link {
  /** The window and the manager live and die together. */
  readonly status: LinkStatus = 'open';
  readonly invoke: Connection['invoke'];
  readonly on: Connection['on'];

  constructor(bridge: Connection) {
    this.invoke = bridge.invoke.bind(bridge);
    this.on = bridge.on.bind(bridge);
  }

  onStatus(): () => void {
    return () => undefined;
  }

  retry(): void {
    // Nothing to connect.
  }
}
