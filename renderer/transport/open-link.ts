// SPDX-License-Identifier: MIT
// Picks the transport: the preload bridge where there is one, else a WebSocket with the key from the page's address.
import type { Bridge } from '../../main/contract/bridge.ts';
import type { Link } from './link.ts';
import { PreloadLink } from './preload-link.ts';
import { WebSocketLink } from './web-socket-link.ts';

declare global {
  interface Window {
    /** Set by the preload script of the desktop shell. */
    paravane?: Bridge;
  }
}

const STORED_AS = 'paravane.token';

export function openLink(): Link {
  return window.paravane === undefined ? new WebSocketLink(takeToken()) : new PreloadLink(window.paravane);
}

/**
 * The address `paravane serve` prints ends in `#token=...`. The token is taken out of the address at once, so that it does not stay in
 * the history or in a copied link, and is kept for this tab so that reloading works.
 */
function takeToken(): string {
  const match = /(?:^#|[#&?])token=([\w-]+)/.exec(location.hash);
  if (match !== null) {
    sessionStorage.setItem(STORED_AS, match[1]);
    const rest = location.hash.replace(/[#&?]token=[\w-]+/, '');
    history.replaceState(
      null,
      '',
      location.pathname + location.search + (rest === '' ? '' : `#${rest.replace(/^[#&]/, '')}`),
    );
  }
  return sessionStorage.getItem(STORED_AS) ?? '';
}
