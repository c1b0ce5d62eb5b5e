// SPDX-License-Identifier: MIT
// The built renderer as files over HTTP, with headers that let the page do what it needs and nothing else.
import * as fs from 'node:fs';
import * as path from 'node:path';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.webmanifest': 'application/manifest+json; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
  '.woff2': 'font/woff2',
  '.wasm': 'application/wasm',
  '.map': 'application/json; charset=utf-8',
  '.txt': 'text/plain; charset=utf-8',
};

/**
 * `connectTo`: what the page may talk to beside where it comes from.
 * Styles may stand in the page because terminals and charts set them while running; nothing executable may.
 */
export function securityHeaders(connectTo: readonly string[]): Record<string, string> {
  return {
    'Content-Security-Policy': [
      "default-src 'none'",
      "script-src 'self' 'wasm-unsafe-eval'",
      "style-src 'self' 'unsafe-inline'",
      "img-src 'self' data: blob:",
      "font-src 'self' data:",
      ['connect-src', "'self'", ...connectTo].join(' '),
      "worker-src 'self' blob:",
      "manifest-src 'self'",
      "base-uri 'none'",
      "form-action 'none'",
      "frame-ancestors 'none'",
    ].join('; '),
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Embedder-Policy': 'require-corp',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
    'Referrer-Policy': 'no-referrer',
    'Permissions-Policy': 'camera=(), microphone=(), geolocation=(), usb=(), serial=(), payment=()',
  };
}

export interface StaticFile {
  type: string;
  content: Buffer;
  /** Files with a hash in their name never change. */
  immutable: boolean;
}

/** The file for a URL path, or null. Paths that lead out of the directory, and links that do, find nothing. */
export function findFile(directory: string, urlPath: string): StaticFile | null {
  let decoded: string;
  try {
    decoded = decodeURIComponent(urlPath);
  } catch {
    return null;
  }
  if (decoded.includes('\0') || decoded.includes('\\')) return null;
  const relative = decoded === '/' ? 'index.html' : decoded.slice(1);
  const type = TYPES[path.extname(relative)];
  if (type === undefined) return null;
  try {
    const root = fs.realpathSync(directory);
    const file = fs.realpathSync(path.join(root, relative));
    if (!file.startsWith(root + path.sep) || !fs.statSync(file).isFile()) return null;
    return { type, content: fs.readFileSync(file), immutable: /-[\w-]{8,}\.\w+$/.test(file) };
  } catch {
    return null;
  }
}

/** Shown while there is no renderer. */
export const NOT_BUILT_PAGE = `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Paravane</title>
<h1>Paravane</h1>
<p>The manager is running, but its window has not been built.</p>
<p>Run <code>npm run build</code> in the Paravane folder and reload this page.
Until then the command line does everything: <code>paravane help</code>.</p>
</html>
`;
