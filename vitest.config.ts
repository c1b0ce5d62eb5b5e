// SPDX-License-Identifier: MIT
// Vitest: unit tests beside the code, tests across parts in tests/.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  // State of the window lives in modules with runes, which have to be compiled before they can be tested.
  plugins: [svelte({ configFile: 'renderer/svelte.config.js' })],
  test: {
    // Design tokens are tested as what they are: a style sheet.
    css: true,
    include: ['engine/**/*.test.ts', 'main/**/*.test.ts', 'renderer/**/*.test.ts', 'tests/**/*.test.ts'],
    // Pages in a real browser have a run of their own: `npm run test:e2e`.
    exclude: [
      '**/node_modules/**',
      ...(process.env.PARAVANE_E2E ? [] : ['tests/e2e/**', 'tests/electron/desktop.test.ts']),
    ],
    testTimeout: 30_000,
    hookTimeout: 120_000,
    maxWorkers: 2,
  },
});
