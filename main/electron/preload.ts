// SPDX-License-Identifier: MIT
// The only script that sees both a page and Electron: offers `invoke` and `on` to the page and passes JSON text, nothing else.
import { contextBridge, ipcRenderer } from 'electron';
import { MESSAGE_CHANNEL, TAKEN_CHANNEL } from '../contract/bridge.ts';
import type { Bridge } from '../contract/bridge.ts';
import { MessageConnection } from '../contract/connection.ts';
import { CommandError } from '../contract/wire.ts';

/** The manager is told what has been taken when this much has come, or when it has been quiet for a moment. */
const TELL_CHARACTERS = 128 * 1024;
const TELL_MS = 50;

const connection = new MessageConnection((text) => ipcRenderer.send(MESSAGE_CHANNEL, text));
let taken = 0;
let told = 0;
let timer: ReturnType<typeof setTimeout> | null = null;

function tell(): void {
  if (timer !== null) clearTimeout(timer);
  timer = null;
  told = taken;
  ipcRenderer.send(TAKEN_CHANNEL, taken);
}

ipcRenderer.on(MESSAGE_CHANNEL, (_event, text: string) => {
  taken += text.length;
  if (taken - told >= TELL_CHARACTERS) tell();
  else timer ??= setTimeout(tell, TELL_MS);
  connection.receive(text);
});

const bridge: Bridge = {
  async invoke(name, request) {
    try {
      return { reply: await connection.invoke(name, request) };
    } catch (error) {
      if (error instanceof CommandError) return { error: error.report };
      throw error;
    }
  },
  on: (name, listener) => connection.on(name, listener),
};
contextBridge.exposeInMainWorld('paravane', bridge);
