// SPDX-License-Identifier: MIT
// The window's own shape: is the library shown, which machines does it list, where does the focus go.
import { tick } from 'svelte';
import { settings } from './settings.svelte.ts';

class View {
  /** Identifiers of the machines the library lists at the moment, in order. */
  shown = $state.raw<string[]>([]);
  /** In a narrow window the library lies over the page and is closed by default. */
  narrow = $state(false);
  drawerOpen = $state(false);
  /** Set by the library pane. */
  searchField: HTMLInputElement | null = null;
  list: HTMLElement | null = null;

  readonly libraryShown = $derived(this.narrow ? this.drawerOpen : settings.layout('libraryShown', true));

  toggleLibrary(): void {
    if (this.narrow) this.drawerOpen = !this.drawerOpen;
    else settings.keepLayout('libraryShown', !this.libraryShown);
  }

  focusSearch(): void {
    void this.#withLibrary(() => {
      this.searchField?.focus();
      this.searchField?.select();
    });
  }

  focusLibrary(): void {
    void this.#withLibrary(() => {
      const row = this.list?.querySelector<HTMLElement>('[tabindex="0"]');
      (row ?? this.searchField)?.focus();
    });
  }

  async #withLibrary(then: () => void): Promise<void> {
    if (!this.libraryShown) this.toggleLibrary();
    await tick();
    then();
  }
}

export const view = new View();
