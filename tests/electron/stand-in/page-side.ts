// SPDX-License-Identifier: MIT
// What a page gets before anything else runs in it: the preload script with the `electron` a sandboxed preload script sees.
// Values are copied on the way over the context bridge and errors lose all but their text there, as in Electron; the world is the page's own.

/** Bound by the stand-in; both take text. */
interface Bindings {
  standInSend(channel: string, text: string): Promise<void>;
  standInDocument(): Promise<void>;
  standInOpen(url: string): Promise<void>;
  standInDeliver?: (channel: string, text: string) => void;
}

/** Runs in the page. `preload` is the text of the emitted script. */
export function preparePage(preload: string): void {
  if (window.top !== window) return;
  const bindings = window as unknown as Bindings;
  void bindings.standInDocument();
  const listeners = new Map<string, ((event: object, ...values: unknown[]) => void)[]>();
  bindings.standInDeliver = (channel, text) => {
    const values = JSON.parse(text) as unknown[];
    for (const listener of listeners.get(channel) ?? []) listener({}, ...values);
  };
  // Electron copies what passes; functions pass as functions whose arguments and results are copied.
  const copied = (value: unknown): unknown => {
    if (typeof value === 'function') return wrapped(value as (...values: unknown[]) => unknown);
    if (value instanceof Promise)
      return value.then(copied, (error: unknown) => {
        throw new Error(error instanceof Error ? error.message : String(error));
      });
    return value === undefined ? undefined : structuredClone(value);
  };
  const wrapped =
    (inner: (...values: unknown[]) => unknown) =>
    (...values: unknown[]): unknown =>
      copied(inner(...values.map(copied)));
  const electron = {
    contextBridge: {
      exposeInMainWorld(name: string, api: Record<string, unknown>) {
        const exposed = Object.fromEntries(Object.entries(api).map(([key, value]) => [key, copied(value)]));
        Object.defineProperty(window, name, { value: Object.freeze(exposed), enumerable: true });
      },
    },
    ipcRenderer: {
      send: (channel: string, ...values: unknown[]) => void bindings.standInSend(channel, JSON.stringify(values)),
      on(channel: string, listener: (event: object, ...values: unknown[]) => void) {
        listeners.set(channel, [...(listeners.get(channel) ?? []), listener]);
      },
    },
  };
  // Windows are opened, or not, by the handler of the main process; Chromium's own would be a tab of its own.
  window.open = (url) => {
    void bindings.standInOpen(new URL(String(url ?? ''), location.href).href);
    return null;
  };
  const only = (name: string): unknown => {
    if (name === 'electron') return electron;
    throw new Error(`a sandboxed preload script cannot load ${name}`);
  };
  new Function('require', 'module', 'exports', preload)(only, { exports: {} }, {});
}
