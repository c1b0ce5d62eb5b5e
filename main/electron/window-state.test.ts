// SPDX-License-Identifier: MIT
// Places of windows: kept, found again, ignored where nobody would see the window, harmless when damaged.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WindowStates } from './window-state.ts';

let directory: string;
beforeAll(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-windows-'));
});
afterAll(() => fs.rmSync(directory, { recursive: true }));

const display = { x: 0, y: 0, width: 1920, height: 1080 };
const at = (x: number, y: number) => ({ bounds: { x, y, width: 800, height: 600 }, maximized: false });

describe('places of windows', () => {
  it('are found by the next start', () => {
    new WindowStates(directory).keep('main', { ...at(10, 20), maximized: true });
    expect(new WindowStates(directory).get('main', [display])).toEqual({ ...at(10, 20), maximized: true });
    expect(new WindowStates(directory).get('other', [display])).toBeNull();
  });

  it.each([
    ['on a display that is gone', at(2500, 100), false],
    ['with its title bar above the display', at(100, -300), false],
    ['with its title bar below the display', at(100, 1070), false],
    ['with a hand’s breadth in sight', at(-650, 100), true],
    ['with a sliver in sight', at(-750, 100), false],
  ])('%s', (_what, state, used) => {
    const states = new WindowStates(directory);
    states.keep('main', state);
    expect(states.get('main', [display]) !== null).toBe(used);
  });

  it.each(['', '{', '[]', '{"version":2,"windows":{}}', '{"version":1,"windows":{"main":{"bounds":{"x":1e99}}}}'])(
    'damaged as %j mean the default place',
    (text) => {
      fs.writeFileSync(path.join(directory, 'windows.json'), text);
      expect(new WindowStates(directory).get('main', [display])).toBeNull();
    },
  );

  it('are kept of the latest windows only', () => {
    const states = new WindowStates(directory);
    for (let i = 0; i < 80; i++) states.keep(`console-${i}`, at(i, i));
    const again = new WindowStates(directory);
    expect(again.get('console-5', [display])).toBeNull();
    expect(again.get('console-79', [display])).toEqual(at(79, 79));
  });
});
