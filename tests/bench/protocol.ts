// SPDX-License-Identifier: MIT
// The bench guest's console protocol: lines that begin with BENCH, found in whatever else a console prints.

export type Marker =
  | { readonly kind: 'userspace' | 'done' }
  | { readonly kind: 'begin' | 'failed'; readonly name: string }
  | {
      readonly kind: 'end';
      readonly name: string;
      readonly checksum: string;
      readonly wallNs: number;
      readonly cpuNs: number;
    }
  | { readonly kind: 'untouched'; readonly bytes: number };

/** Parses one console line; null when it carries no marker. */
export function parseMarker(line: string): Marker | null {
  const words = /BENCH (.*?)\s*$/.exec(line)?.[1]?.split(' ') ?? [];
  const [kind, name = ''] = words;
  switch (kind) {
    case 'userspace':
    case 'done':
      return { kind };
    case 'begin':
    case 'failed':
      return { kind, name };
    case 'untouched':
      return { kind, bytes: Number(name) };
    case 'end': {
      const [, , checksum = '', wall, cpu] = words;
      return /^[0-9a-f]{16}$/.test(checksum)
        ? { kind, name, checksum, wallNs: Number(wall), cpuNs: Number(cpu) }
        : null;
    }
    default:
      return null;
  }
}

/** Cuts a console's byte stream into lines and hands each to `onLine` as soon as its newline is there. */
export function lineSplitter(onLine: (line: string) => void): (chunk: Uint8Array) => void {
  const decoder = new TextDecoder('latin1');
  let rest = '';
  return (chunk) => {
    const lines = (rest + decoder.decode(chunk)).split(/\r*\n/);
    rest = lines.pop() ?? '';
    for (const line of lines) onLine(line);
  };
}
