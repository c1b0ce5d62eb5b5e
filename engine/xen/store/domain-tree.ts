// SPDX-License-Identifier: MIT
// The nodes the toolstack writes for a new PV domain, in libxl's order and with its permissions (libxl_create.c's result).

import type { HostStore } from './host-store.ts';
import { domainPath } from './store.ts';

/** What the store tells a guest about itself. */
export interface DomainTreeOptions {
  readonly domid: number;
  readonly name: string;
  /** Lower-case with dashes. */
  readonly uuid: string;
  readonly vcpus: number;
  /** How many of the vCPUs the guest may bring up; default all. */
  readonly onlineVcpus?: number;
  readonly memoryKib: number;
  /** Upper limit for ballooning; default `memoryKib`. */
  readonly maxMemoryKib?: number;
  readonly storePort: number;
  readonly storeMfn: number;
  readonly consolePort: number;
  readonly consoleMfn: number;
}

/** Bytes of console output that the console daemon keeps. */
const CONSOLE_LIMIT = 1048576;

/** Writes the domain's directory, its /vm entry and the console's back-end directory. */
export function writeDomainTree(store: HostStore, options: DomainTreeOptions): void {
  const { domid } = options;
  const home = domainPath(domid);
  const vm = `/vm/${options.uuid}`;
  const guest = String(domid);
  const readable = ['n0', `r${guest}`];
  const owned = [`n${guest}`];
  const put = (path: string, value: string, permissions: readonly string[]): void => {
    store.write(path, value);
    store.setPermissions(path, permissions);
  };

  put(vm, '', readable);
  put(`${vm}/name`, options.name, readable);
  put(`${vm}/uuid`, options.uuid, readable);

  put(home, '', readable);
  put(`${home}/vm`, vm, readable);
  put(`${home}/name`, options.name, readable);
  put(`${home}/cpu`, '', readable);
  for (let cpu = 0; cpu < options.vcpus; cpu++) {
    const online = cpu < (options.onlineVcpus ?? options.vcpus);
    put(`${home}/cpu/${String(cpu)}`, '', readable);
    put(`${home}/cpu/${String(cpu)}/availability`, online ? 'online' : 'offline', readable);
  }
  put(`${home}/memory`, '', readable);
  put(`${home}/memory/static-max`, String(options.maxMemoryKib ?? options.memoryKib), readable);
  put(`${home}/memory/target`, String(options.memoryKib), readable);
  put(`${home}/memory/videoram`, '0', readable);
  put(`${home}/device`, '', readable);
  put(`${home}/device/suspend`, '', readable);
  put(`${home}/device/suspend/event-channel`, '', owned);
  put(`${home}/control`, '', readable);
  for (const key of ['shutdown', 'feature-poweroff', 'feature-reboot', 'feature-suspend', 'sysrq']) {
    put(`${home}/control/${key}`, '', owned);
  }
  put(`${home}/control/platform-feature-multiprocessor-suspend`, '1', readable);
  put(`${home}/control/platform-feature-xs_reset_watches`, '1', readable);
  for (const key of ['data', 'drivers', 'feature', 'attr', 'error']) put(`${home}/${key}`, '', owned);
  put(`${home}/domid`, guest, readable);
  put(`${home}/store`, '', readable);
  put(`${home}/store/port`, String(options.storePort), readable);
  put(`${home}/store/ring-ref`, String(options.storeMfn), readable);
  writeConsole(store, options, readable);
}

/** The console's front end and back end. */
function writeConsole(store: HostStore, options: DomainTreeOptions, readable: readonly string[]): void {
  const front = `${domainPath(options.domid)}/console`;
  const back = `${domainPath(0)}/backend/console/${String(options.domid)}/0`;
  const put = (path: string, value: string): void => {
    store.write(path, value);
    store.setPermissions(path, readable);
  };
  put(back, '');
  put(`${back}/frontend`, front);
  put(`${back}/frontend-id`, String(options.domid));
  put(`${back}/online`, '1');
  put(`${back}/state`, '1');
  put(`${back}/protocol`, 'vt100');
  put(front, '');
  put(`${front}/backend`, back);
  put(`${front}/backend-id`, '0');
  put(`${front}/limit`, String(CONSOLE_LIMIT));
  put(`${front}/type`, 'xenconsoled');
  put(`${front}/output`, 'pty');
  put(`${front}/tty`, '');
  put(`${front}/port`, String(options.consolePort));
  put(`${front}/ring-ref`, String(options.consoleMfn));
}
