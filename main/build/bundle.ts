// SPDX-License-Identifier: MIT
// Puts the modules of a vCPU's thread together into build/vm: finding and linking 200 of them is a tenth of a second at every start of a VM.
import { rmSync, statSync, writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Plugin } from 'vite';
import { machineEntry, stampsFile, vmModulesFolder, workerEntry, type SourceStamp } from './vm-modules.ts';

const ENTRIES = [workerEntry, machineEntry];

/** Addresses relative to a module still mean the module's own place; notes the size and age of everything that is taken in. */
function keepPlaces(folder: string, stamps: Map<string, SourceStamp>): Plugin {
  return {
    name: 'keep-places',
    transform(code, file) {
      if (!/\.ts$/.test(file)) return undefined;
      const { size, mtimeMs } = statSync(file);
      const path = relative(folder, file).replaceAll('\\', '/');
      stamps.set(file, [path, size, mtimeMs]);
      const place = `new URL(${JSON.stringify(path)}, import.meta.url).href`;
      return { code: code.replaceAll('import.meta.url', place), map: null };
    },
  };
}

/** Makes the bundles anew. While that lasts, VMs start from the sources. */
export async function bundleVmModules(folder = vmModulesFolder): Promise<void> {
  const stampsAt = new URL(stampsFile, folder);
  rmSync(stampsAt, { force: true });
  const outDir = fileURLToPath(folder);
  const stamps = new Map<string, SourceStamp>();
  const entries = ENTRIES.map((name) => [name, fileURLToPath(new URL(`../vm/${name}.ts`, import.meta.url))]);
  await build({
    configFile: false,
    root: fileURLToPath(new URL('../..', import.meta.url)),
    logLevel: 'warn',
    publicDir: false,
    plugins: [keepPlaces(outDir, stamps)],
    build: {
      ssr: true,
      outDir,
      emptyOutDir: true,
      target: 'esnext',
      minify: false,
      reportCompressedSize: false,
      rolldownOptions: {
        input: Object.fromEntries(entries) as Record<string, string>,
        output: { entryFileNames: '[name].js', chunkFileNames: '[name]-[hash].js' },
      },
    },
  });
  writeFileSync(stampsAt, JSON.stringify([...stamps.values()]));
}
