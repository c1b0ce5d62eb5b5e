// SPDX-License-Identifier: MIT
// Lets every store follow the manager; called once, before anything is drawn.
import type { Link } from '../transport/link.ts';
import { clock } from './clock.svelte.ts';
import { host } from './host.svelte.ts';
import { followPlace } from './last-place.svelte.ts';
import { library } from './library.svelte.ts';
import { useLink } from './manager.svelte.ts';
import { navigation } from './navigation.svelte.ts';
import { settings } from './settings.svelte.ts';
import { tasks } from './tasks.svelte.ts';

export function startStores(link: Link): void {
  useLink(link);
  navigation.follow();
  settings.follow();
  library.follow();
  host.follow();
  tasks.follow();
  clock.follow();
  followPlace();
}
