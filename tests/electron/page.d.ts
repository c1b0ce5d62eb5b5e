// SPDX-License-Identifier: MIT
// What the preload script gives a page, as functions that tests hand to pages see it.
import type { Bridge } from '../../main/contract/bridge.ts';

declare global {
  interface Window {
    paravane?: Bridge;
  }
}
