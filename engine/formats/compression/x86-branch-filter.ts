// SPDX-License-Identifier: MIT
// The x86 branch filter ("BCJ") of xz and 7-zip: turns the absolute targets of CALL and JMP back into relative ones.

/** A branch target is only converted when its top byte says that it is near: 0x00 or 0xff. */
function isNearTopByte(byte: number): boolean {
  return byte === 0x00 || byte === 0xff;
}

/**
 * For the history of opcode bytes in the three bytes before (bit n: a byte n + 1 places back looked like an unconverted opcode):
 * may a branch be converted here, and which of its target bytes does the nearest such opcode overlap.
 */
const MAY_CONVERT = [true, true, true, false, true, false, false, false] as const;
const OVERLAPPED_BYTE = [0, 1, 2, 2, 3, 3, 3, 3] as const;

/**
 * Undoes the filter in place over a whole block.
 * @param data the block
 * @param startOffset position that the filter's properties give to the first byte (normally 0)
 */
export function undoX86BranchFilter(data: Uint8Array, startOffset: number): void {
  const end = data.length - 4;
  let lastOpcode = -5;
  let history = 0;
  for (let i = 0; i < end; i++) {
    if ((data[i]! & 0xfe) !== 0xe8) continue; // E8 = CALL rel32, E9 = JMP rel32
    const gap = i - lastOpcode;
    lastOpcode = i;
    history = gap > 3 ? 0 : (history << (gap - 1)) & 7;
    if (history !== 0) {
      const overlapped = data[i + 4 - OVERLAPPED_BYTE[history]!]!;
      if (!MAY_CONVERT[history]! || isNearTopByte(overlapped)) {
        history = ((history << 1) | 1) & 0xff;
        continue;
      }
    }
    if (!isNearTopByte(data[i + 4]!)) {
      history = ((history << 1) | 1) & 0xff;
      continue;
    }
    let absolute = data[i + 1]! | (data[i + 2]! << 8) | (data[i + 3]! << 16) | (data[i + 4]! << 24);
    const next = (startOffset + i + 5) | 0;
    let relative: number;
    for (;;) {
      relative = (absolute - next) | 0;
      if (history === 0) break;
      // The encoder may have had to convert twice so that an overlapped byte does not look convertible. This loop ends after at most
      // two rounds, because the overlapped byte was found not to be near above.
      const shift = OVERLAPPED_BYTE[history]! * 8;
      if (!isNearTopByte((relative >>> (24 - shift)) & 0xff)) break;
      absolute = relative ^ ((1 << (32 - shift)) - 1);
    }
    data[i + 1] = relative;
    data[i + 2] = relative >>> 8;
    data[i + 3] = relative >>> 16;
    data[i + 4] = relative & 0x01000000 ? 0xff : 0x00; // sign-extended from bit 24
    i += 4;
  }
}
