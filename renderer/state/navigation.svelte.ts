// SPDX-License-Identifier: MIT
// Where the window is: kept in the address's hash, so that reload, back and "open in a new window" work.

export const MACHINE_TABS = ['overview', 'console', 'terminal', 'performance', 'settings', 'log'] as const;
export type MachineTab = (typeof MACHINE_TABS)[number];
/** Tabs that can have a window of their own. */
const DETACHED_TABS = ['console', 'terminal', 'performance'] as const;
export type DetachedTab = (typeof DETACHED_TABS)[number];

export type Place =
  | { page: 'start' }
  | { page: 'machine'; machine: string; tab: MachineTab }
  /** A console or a tab alone in its own window. */
  | { page: 'detached'; machine: string; tab: DetachedTab }
  | { page: 'overview' | 'settings' | 'diagnostics' | 'trash' };

export function placeOf(hash: string): Place {
  const [page, machine, tab] = hash.replace(/^#?\/?/, '').split('/');
  switch (page) {
    case 'machine': {
      if (!/^[0-9a-f]{8,32}$/.test(machine ?? '')) return { page: 'start' };
      const known = MACHINE_TABS.find((name) => name === tab);
      return { page: 'machine', machine, tab: known ?? 'overview' };
    }
    case 'detached':
      if (!/^[0-9a-f]{8,32}$/.test(machine ?? '')) return { page: 'start' };
      return { page: 'detached', machine, tab: DETACHED_TABS.find((name) => name === tab) ?? 'console' };
    case 'overview':
    case 'settings':
    case 'diagnostics':
    case 'trash':
      return { page };
    default:
      return { page: 'start' };
  }
}

export function hashOf(place: Place): string {
  switch (place.page) {
    case 'machine':
    case 'detached':
      return `#/${place.page}/${place.machine}/${place.tab}`;
    case 'start':
      return '#/';
    default:
      return `#/${place.page}`;
  }
}

class Navigation {
  place = $state<Place>({ page: 'start' });
  /** The tab a machine was last seen with, so that walking through the list stays on consoles when one looks at consoles. */
  #lastTab: MachineTab = 'overview';

  readonly machine = $derived(
    this.place.page === 'machine' || this.place.page === 'detached' ? this.place.machine : null,
  );

  follow(): void {
    const read = (): void => {
      this.place = placeOf(location.hash);
    };
    addEventListener('hashchange', read);
    addEventListener('popstate', read);
    read();
  }

  go(place: Place, how: 'push' | 'replace' = 'push'): void {
    if (place.page === 'machine') this.#lastTab = place.tab;
    this.place = place;
    const hash = hashOf(place);
    if (location.hash === hash) return;
    if (how === 'push') history.pushState(null, '', hash);
    else history.replaceState(null, '', hash);
  }

  toMachine(machine: string, tab?: MachineTab): void {
    const here = this.place;
    // Walking through the list should not fill the history with one entry a step.
    this.go({ page: 'machine', machine, tab: tab ?? this.#lastTab }, here.page === 'machine' ? 'replace' : 'push');
  }
}

export const navigation = new Navigation();
