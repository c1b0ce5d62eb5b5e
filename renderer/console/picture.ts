// SPDX-License-Identifier: MIT
// A picture of what the console shows, drawn from the terminal's cells: sharp at any zoom, the same on all systems.
import type { IBufferCell, Terminal } from '@xterm/xterm';
import { CONSOLE_THEME, paletteColour, rgbColour } from './colours.ts';

const FONT_PX = 16;
const CELL_HEIGHT = 20;
const MARGIN = 12;

/** The visible rows as a PNG, at twice the nominal size. */
export async function pictureOf(terminal: Terminal, fontFamily: string): Promise<Blob> {
  const canvas = document.createElement('canvas');
  const context = canvas.getContext('2d')!;
  const font = (bold: boolean): string => `${bold ? '600 ' : ''}${FONT_PX}px ${fontFamily}`;
  context.font = font(false);
  const cellWidth = context.measureText('M').width;
  const width = Math.ceil(terminal.cols * cellWidth) + 2 * MARGIN;
  const height = terminal.rows * CELL_HEIGHT + 2 * MARGIN;
  canvas.width = width * 2;
  canvas.height = height * 2;
  context.scale(2, 2);
  context.fillStyle = CONSOLE_THEME.background;
  context.fillRect(0, 0, width, height);
  context.textBaseline = 'middle';

  const buffer = terminal.buffer.active;
  const cell = buffer.getNullCell();
  for (let row = 0; row < terminal.rows; row++) {
    const line = buffer.getLine(buffer.viewportY + row);
    for (let column = 0; line !== undefined && column < terminal.cols; column++) {
      if (line.getCell(column, cell) === undefined || cell.getWidth() === 0) continue;
      const x = MARGIN + column * cellWidth;
      const y = MARGIN + row * CELL_HEIGHT;
      const { front, back } = colours(cell);
      if (back !== CONSOLE_THEME.background) {
        context.fillStyle = back;
        context.fillRect(x, y, cellWidth * cell.getWidth() + 0.5, CELL_HEIGHT);
      }
      const text = cell.getChars();
      if (text.trim() === '' || cell.isInvisible()) continue;
      context.font = font(cell.isBold() !== 0);
      context.globalAlpha = cell.isDim() ? 0.6 : 1;
      context.fillStyle = front;
      context.fillText(text, x, y + CELL_HEIGHT / 2);
      if (cell.isUnderline()) context.fillRect(x, y + CELL_HEIGHT - 3, cellWidth, 1);
      context.globalAlpha = 1;
    }
  }
  const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, 'image/png'));
  if (blob === null) throw new Error('The picture could not be made.');
  return blob;
}

function colours(cell: IBufferCell): { front: string; back: string } {
  const bright = cell.isBold() !== 0 && cell.isFgPalette() && cell.getFgColor() < 8 ? 8 : 0;
  const front = cell.isFgDefault()
    ? CONSOLE_THEME.foreground
    : cell.isFgRGB()
      ? rgbColour(cell.getFgColor())
      : paletteColour(cell.getFgColor() + bright);
  const back = cell.isBgDefault()
    ? CONSOLE_THEME.background
    : cell.isBgRGB()
      ? rgbColour(cell.getBgColor())
      : paletteColour(cell.getBgColor());
  return cell.isInverse() ? { front: back, back: front } : { front, back };
}
