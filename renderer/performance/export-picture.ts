// SPDX-License-Identifier: MIT
// All charts as one PNG, as they stand on the page, with their titles.
import type { ChartSpec } from './charts.ts';

export async function chartsPicture(
  title: string,
  charts: readonly { spec: ChartSpec; canvas: HTMLCanvasElement }[],
): Promise<Blob> {
  const style = getComputedStyle(document.documentElement);
  const ratio = devicePixelRatio;
  const gap = 24 * ratio;
  const head = 28 * ratio;
  const width = Math.max(...charts.map(({ canvas }) => canvas.width)) + 2 * gap;
  const height = charts.reduce((sum, { canvas }) => sum + canvas.height + head + gap, 2 * gap + head);
  const picture = document.createElement('canvas');
  picture.width = width;
  picture.height = height;
  const context = picture.getContext('2d')!;
  context.fillStyle = style.getPropertyValue('--bg-page');
  context.fillRect(0, 0, width, height);
  context.fillStyle = style.getPropertyValue('--text');
  context.textBaseline = 'middle';
  const write = (text: string, size: number, y: number): void => {
    context.font = `600 ${size * ratio}px ${style.getPropertyValue('--font-ui')}`;
    context.fillText(text, gap, y);
  };
  let y = gap;
  write(title, 16, y + head / 2);
  y += head + gap / 2;
  for (const { spec, canvas } of charts) {
    write(spec.title, 13, y + head / 2);
    context.drawImage(canvas, gap, y + head);
    y += head + canvas.height + gap;
  }
  const blob = await new Promise<Blob | null>((resolve) => picture.toBlob(resolve, 'image/png'));
  if (blob === null) throw new Error('The picture could not be made.');
  return blob;
}
