// SPDX-License-Identifier: MIT
// Numbers as people read them: always with a unit, and a dash when there is nothing to show.

export const UNKNOWN = '—';

const KIB = 1024;
const BYTE_UNITS = ['B', 'KB', 'MB', 'GB', 'TB'] as const;

type Maybe = number | null | undefined;

function known(value: Maybe): value is number {
  return value !== null && value !== undefined && Number.isFinite(value);
}

/** Three significant figures, without an exponent: 0.12, 1.24, 12.4, 124, 1240. */
export function figures(value: number): string {
  const size = Math.abs(value);
  if (size >= 100 || value === 0) return Math.round(value).toString();
  return size >= 10 ? trimmed(value, 1) : trimmed(value, 2);
}

function trimmed(value: number, digits: number): string {
  return value.toFixed(digits).replace(/\.?0+$/, '');
}

/** Bytes in powers of 1024, as file managers show them. */
export function bytes(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  let unit = 0;
  let amount = value;
  while (Math.abs(amount) >= KIB && unit < BYTE_UNITS.length - 1) {
    amount /= KIB;
    unit++;
  }
  return `${unit === 0 ? Math.round(amount) : figures(amount)} ${BYTE_UNITS[unit]}`;
}

/** A share of one core as a percentage. */
export function percent(share: Maybe): string {
  if (!known(share)) return UNKNOWN;
  const value = share * 100;
  return `${value !== 0 && Math.abs(value) < 10 ? trimmed(value, 1) : Math.round(value)} %`;
}

/** A count in short form: 950, 12.4 k, 3.1 M. */
export function short(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (size >= 1e9) return `${figures(value / 1e9)} G`;
  if (size >= 1e6) return `${figures(value / 1e6)} M`;
  if (size >= 1e4) return `${figures(value / 1e3)} k`;
  return figures(value);
}

export function perSecond(value: Maybe): string {
  return known(value) ? `${short(value)}/s` : UNKNOWN;
}

/** Guest instructions per second in millions. */
export function mips(instructionsPerSecond: Maybe): string {
  return known(instructionsPerSecond) ? `${figures(instructionsPerSecond / 1e6)} MIPS` : UNKNOWN;
}

/** All digits, grouped. */
export function grouped(value: Maybe): string {
  return known(value) ? Math.round(value).toLocaleString('en').replaceAll(',', '\u202f') : UNKNOWN;
}
