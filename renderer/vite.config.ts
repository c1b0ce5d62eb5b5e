// SPDX-License-Identifier: MIT
// Builds the window into build/renderer: plain files with relative addresses, nothing inline, so a strict content policy holds.
import { fileURLToPath } from 'node:url';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

const at = (place: string): string => fileURLToPath(new URL(place, import.meta.url));

export default defineConfig({
  root: at('.'),
  base: './',
  cacheDir: at('../build/cache/vite'),
  plugins: [svelte({ configFile: at('svelte.config.js') })],
  build: {
    outDir: at('../build/renderer'),
    emptyOutDir: true,
    target: 'chrome140',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    chunkSizeWarningLimit: 1200,
  },
});
