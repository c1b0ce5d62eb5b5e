// SPDX-License-Identifier: MIT
// Svelte for the window: runes only, and TypeScript is left to Vite.
import { vitePreprocess } from '@sveltejs/vite-plugin-svelte';

export default {
  compilerOptions: { runes: true },
  preprocess: vitePreprocess({ script: true, style: false }),
};
