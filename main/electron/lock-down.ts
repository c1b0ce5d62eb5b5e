// SPDX-License-Identifier: MIT
// What pages may not do: go elsewhere, open windows by themselves, embed others, or be granted anything but the clipboard.
import { app } from 'electron';
import type { Session as BrowserSession, WebContents, WebPreferences } from 'electron';
import { isPage } from './page-scheme.ts';

/** Consoles copy and paste; everything else a browser could grant stays refused. */
const GRANTED: ReadonlySet<string> = new Set(['clipboard-read', 'clipboard-sanitized-write', 'fullscreen']);

/** Of every window; none may ask for less. */
export function webPreferences(preload: string): WebPreferences {
  return {
    preload,
    contextIsolation: true,
    sandbox: true,
    nodeIntegration: false,
    nodeIntegrationInWorker: false,
    nodeIntegrationInSubFrames: false,
    webSecurity: true,
    webviewTag: false,
    allowRunningInsecureContent: false,
    experimentalFeatures: false,
    navigateOnDragDrop: false,
    spellcheck: false,
  };
}

/** Holds for all pages there are and will be; `refused` hears of each attempt. */
export function lockDown(session: BrowserSession, refused: (what: string) => void): void {
  session.setPermissionRequestHandler((contents, permission, answer) => {
    const granted = GRANTED.has(permission) && isPage(contents.getURL());
    if (!granted) refused('permission');
    answer(granted);
  });
  session.setPermissionCheckHandler(
    (contents, permission) => contents !== null && GRANTED.has(permission) && isPage(contents.getURL()),
  );
  session.setDevicePermissionHandler(() => false);
  app.on('web-contents-created', (_event, contents) => lockContents(contents, refused));
}

function lockContents(contents: WebContents, refused: (what: string) => void): void {
  contents.setWindowOpenHandler(() => {
    refused('window');
    return { action: 'deny' };
  });
  contents.on('will-frame-navigate', (event) => {
    // Reloading is no journey.
    if (event.isMainFrame && isPage(event.url) && isPage(contents.getURL())) return;
    refused('navigation');
    event.preventDefault();
  });
  contents.on('will-redirect', (event) => {
    refused('navigation');
    event.preventDefault();
  });
  contents.on('will-attach-webview', (event) => {
    refused('webview');
    event.preventDefault();
  });
}
