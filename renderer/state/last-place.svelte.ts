// SPDX-License-Identifier: MIT
// Opens the window where it was left: the last page or machine is kept with the settings.
import { library } from './library.svelte.ts';
import { hashOf, navigation, placeOf } from './navigation.svelte.ts';
import { settings } from './settings.svelte.ts';

/** Walking through the list is not worth a file that is written at every step. */
const KEEP_AFTER_MS = 1000;
const NAME = 'place';

/** Called once; an address that says where to go wins. */
export function followPlace(): void {
  let asked = location.hash !== '';
  $effect.root(() => {
    $effect(() => {
      if (asked || !settings.loaded || !library.loaded) return;
      asked = true;
      const place = placeOf(settings.layout(NAME, ''));
      const there = place.page !== 'machine' || library.get(place.machine) !== null;
      // Somebody may have chosen something while the manager was being waited for.
      if (navigation.place.page === 'start' && there) navigation.go(place, 'replace');
    });
    $effect(() => {
      const { place } = navigation;
      if (!settings.loaded || place.page === 'detached' || place.page === 'start') return;
      const timer = setTimeout(() => settings.keepLayout(NAME, hashOf(place)), KEEP_AFTER_MS);
      return () => clearTimeout(timer);
    });
  });
}
