// SPDX-License-Identifier: MIT
// Where pages come from: a private scheme that serves the built renderer and nothing else, with the headers `paravane serve` sends too.
import { protocol } from 'electron';
import type { Session as BrowserSession } from 'electron';
import { fileURLToPath } from 'node:url';
import { findFile, securityHeaders } from '../serve/static-files.ts';

const SCHEME = 'paravane';

/** The page, to which a place in it is appended as a fragment. */
export const PAGE_URL = `${SCHEME}://app/index.html`;

const RENDERER_DIRECTORY = fileURLToPath(new URL('../../build/renderer', import.meta.url));

/** Call before the application is ready. */
export function declareScheme(): void {
  protocol.registerSchemesAsPrivileged([
    { scheme: SCHEME, privileges: { standard: true, secure: true, supportFetchAPI: true } },
  ]);
}

/** Answers requests of pages. */
export function servePages(session: BrowserSession): void {
  const headers = securityHeaders([]);
  session.protocol.handle(SCHEME, (request) => {
    const { host, pathname } = new URL(request.url);
    const allowed = host === 'app' && (request.method === 'GET' || request.method === 'HEAD');
    const file = allowed ? findFile(RENDERER_DIRECTORY, pathname) : null;
    if (file === null) return new Response('not found\n', { status: 404, headers });
    return new Response(request.method === 'HEAD' ? null : new Uint8Array(file.content), {
      headers: { ...headers, 'Content-Type': file.type },
    });
  });
}

/** Is this one of our pages, whatever place in it? */
export function isPage(url: string): boolean {
  return url.replace(/#.*$/s, '') === PAGE_URL;
}
