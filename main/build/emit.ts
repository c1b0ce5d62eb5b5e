// SPDX-License-Identifier: MIT
// Emits the application for Electron into build/app: JavaScript of main/ and engine/ in the same tree, so that every address relative to a
// module still holds; the preload script in one file, as a sandboxed one has to be; the built renderer and interpreter beside them.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { build } from 'vite';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** Where the emitted application is; its entry is the `main` of its package.json. */
export const APP_DIRECTORY = path.join(ROOT, 'build/app');

const SOURCES = ['main', 'engine'];
const PRELOAD = 'main/electron/preload.ts';
/** Run in a checkout only. */
const NOT_EMITTED = [
  /\.test\.ts$/,
  /\.d\.ts$/,
  /(^|\/)(testing|fixtures|expect)\//,
  /tsconfig\.json$/,
  /^main\/(build\/(build|bundle|emit)|machine-code\/build)\.ts$/,
  /\.cc$/,
  /^main\/electron\/preload\.ts$/,
];
/** Built before: what the application reads below build/. */
const BUILT = ['build/renderer', 'build/interpreter.wasm', 'build/interpreter-host-ops.json'];

/** All files of the sources that belong into the application, relative to the checkout. */
export function sourcesToEmit(): string[] {
  return SOURCES.flatMap((folder) =>
    fs
      .readdirSync(path.join(ROOT, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => path.relative(ROOT, path.join(entry.parentPath, entry.name)).replaceAll(path.sep, '/')),
  ).filter((file) => !NOT_EMITTED.some((pattern) => pattern.test(file)));
}

/** Is there an emitted application that is as new as its sources? */
export function isFresh(): boolean {
  const emitted = fs.statSync(path.join(APP_DIRECTORY, 'package.json'), { throwIfNoEntry: false });
  if (emitted === undefined) return false;
  const built = fs.globSync('renderer/**', { cwd: path.join(ROOT, 'build') }).map((file) => `build/${file}`);
  return [...sourcesToEmit(), PRELOAD, 'package.json', ...BUILT.slice(1), ...built].every(
    (file) => (fs.statSync(path.join(ROOT, file), { throwIfNoEntry: false })?.mtimeMs ?? 0) <= emitted.mtimeMs,
  );
}

/** Emits everything anew; the former application is there until the new one is complete. */
export async function emitApp(): Promise<void> {
  const missing = BUILT.find((file) => !fs.existsSync(path.join(ROOT, file)));
  if (missing !== undefined) throw new Error(`${missing} is missing. Run "npm run build" first.`);
  const target = `${APP_DIRECTORY}.${process.pid}`;
  const former = `${target}.former`;
  fs.rmSync(target, { recursive: true, force: true });
  try {
    for (const file of sourcesToEmit()) emitFile(file, target);
    await emitPreload(target);
    for (const file of [...BUILT, 'assets', 'LICENSE'])
      fs.cpSync(path.join(ROOT, file), path.join(target, file), { recursive: true });
    fs.writeFileSync(path.join(target, 'package.json'), manifest());
    replaceApp(target, former);
  } finally {
    for (const directory of [target, former]) fs.rmSync(directory, { recursive: true, force: true });
  }
}

/** Another process may emit at the same time, from the same sources: whose application it is in the end does not matter. */
function replaceApp(target: string, former: string): void {
  try {
    if (fs.existsSync(APP_DIRECTORY)) fs.renameSync(APP_DIRECTORY, former);
    fs.renameSync(target, APP_DIRECTORY);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (!['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(code ?? '') || !isFresh()) throw error;
  }
}

function emitFile(file: string, target: string): void {
  const from = path.join(ROOT, file);
  const to = path.join(target, file.replace(/\.ts$/, '.js'));
  fs.mkdirSync(path.dirname(to), { recursive: true });
  if (/\.(ts|js)$/.test(file)) fs.writeFileSync(to, emitText(fs.readFileSync(from, 'utf8'), file));
  else fs.copyFileSync(from, to);
}

/** JavaScript of one module: types gone, addresses of our modules ending in .js. */
export function emitText(source: string, fileName: string): string {
  const { outputText } = ts.transpileModule(source, {
    fileName,
    compilerOptions: {
      target: ts.ScriptTarget.ES2023,
      module: ts.ModuleKind.ESNext,
      verbatimModuleSyntax: true,
      rewriteRelativeImportExtensions: true,
      erasableSyntaxOnly: true,
      removeComments: false,
    },
    transformers: { before: [renameWorkers] },
  });
  return outputText;
}

/** `new URL('./worker.ts', import.meta.url)`: workers and processes are started by address, which the compiler does not look at. */
function renameWorkers(context: ts.TransformationContext): ts.Transformer<ts.SourceFile> {
  const { factory } = context;
  const visit = (node: ts.Node): ts.Node => {
    const [address, base] = ts.isNewExpression(node) ? (node.arguments ?? []) : [];
    if (
      ts.isNewExpression(node) &&
      ts.isIdentifier(node.expression) &&
      node.expression.text === 'URL' &&
      address !== undefined &&
      ts.isStringLiteral(address) &&
      /^\..*\.ts$/.test(address.text) &&
      base?.getText() === 'import.meta.url'
    ) {
      const renamed = factory.createStringLiteral(address.text.replace(/\.ts$/, '.js'), true);
      return factory.updateNewExpression(node, node.expression, undefined, [renamed, base]);
    }
    return ts.visitEachChild(node, visit, context);
  };
  return (file) => ts.visitEachChild(file, visit, context);
}

async function emitPreload(target: string): Promise<void> {
  await build({
    configFile: false,
    root: ROOT,
    logLevel: 'warn',
    publicDir: false,
    build: {
      lib: { entry: path.join(ROOT, PRELOAD), formats: ['cjs'], fileName: () => 'preload.cjs' },
      outDir: path.join(target, path.dirname(PRELOAD)),
      emptyOutDir: false,
      target: 'chrome140',
      minify: false,
      reportCompressedSize: false,
      rolldownOptions: { external: ['electron'] },
    },
  });
}

/** The application's own package.json; what it needs at run time is what the checkout needs. */
function manifest(): string {
  const { name, version, description, license, dependencies, optionalDependencies } = JSON.parse(
    fs.readFileSync(path.join(ROOT, 'package.json'), 'utf8'),
  ) as Record<string, unknown>;
  const app = { name, version, description, license, private: true, type: 'module', main: 'main/electron/main.js' };
  return `${JSON.stringify({ ...app, dependencies, optionalDependencies }, null, 2)}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await emitApp();
