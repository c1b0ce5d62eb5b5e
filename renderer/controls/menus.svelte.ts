// SPDX-License-Identifier: MIT
// The one menu of the window: what is in it and where it opens.
import type { IconName } from './icons.ts';

export interface MenuItem {
  label: string;
  icon?: IconName;
  /** Chord that does the same. */
  keys?: string | null;
  /** Why it cannot be chosen; null or absent when it can. */
  reason?: string | null;
  danger?: boolean;
  /** For items that are on or off. */
  checked?: boolean;
  /** A line above this item. */
  separated?: boolean;
  /** The shell line that does the same; Ctrl+C copies it. */
  commandLine?: string | null;
  run: () => void;
}

interface OpenMenu {
  label: string;
  items: MenuItem[];
  /** Below this rectangle, or at this point. */
  at: { left: number; top: number; bottom: number; right: number };
  alignEnd: boolean;
  returnTo: HTMLElement | null;
}

class Menus {
  current = $state.raw<OpenMenu | null>(null);

  /** Under a button; a second press closes it. */
  below(anchor: HTMLElement, label: string, items: MenuItem[], alignEnd = false): void {
    if (this.current?.returnTo === anchor) this.close();
    else this.current = { label, items, at: anchor.getBoundingClientRect(), alignEnd, returnTo: anchor };
  }

  /** Where the pointer is, or under the element when the keyboard asked (such events have no position). */
  context(event: MouseEvent, anchor: HTMLElement, label: string, items: MenuItem[]): void {
    event.preventDefault();
    const byKeyboard = event.clientX === 0 && event.clientY === 0;
    const point = { left: event.clientX, right: event.clientX, top: event.clientY, bottom: event.clientY };
    this.current = {
      label,
      items,
      at: byKeyboard ? anchor.getBoundingClientRect() : point,
      alignEnd: false,
      returnTo: anchor,
    };
  }

  close(): void {
    const returnTo = this.current?.returnTo;
    this.current = null;
    returnTo?.focus();
  }
}

export const menus = new Menus();
