// SPDX-License-Identifier: MIT
// Moments and durations in words.
import { UNKNOWN } from './numbers.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** The two largest units: 8 s, 4 min 10 s, 3 h 12 min, 2 d 5 h. */
export function duration(ms: number): string {
  if (!Number.isFinite(ms) || ms < 0) return UNKNOWN;
  if (ms < MINUTE) return `${Math.floor(ms / SECOND)} s`;
  if (ms < HOUR) return two(ms, MINUTE, 'min', SECOND, 's');
  if (ms < DAY) return two(ms, HOUR, 'h', MINUTE, 'min');
  return two(ms, DAY, 'd', HOUR, 'h');
}

function two(ms: number, large: number, largeName: string, small: number, smallName: string): string {
  const rest = Math.floor((ms % large) / small);
  const first = `${Math.floor(ms / large)} ${largeName}`;
  return rest === 0 ? first : `${first} ${rest} ${smallName}`;
}

/** One unit only, for places where seconds would flicker: just now, 5 min, 3 h, 2 d. */
export function roughly(ms: number): string {
  if (!Number.isFinite(ms)) return UNKNOWN;
  if (ms < MINUTE) return `${Math.max(0, Math.floor(ms / SECOND))} s`;
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} min`;
  if (ms < DAY) return `${Math.floor(ms / HOUR)} h`;
  return `${Math.floor(ms / DAY)} d`;
}

const pad = (value: number): string => String(value).padStart(2, '0');

/** 14:03:27 in local time. */
export function clock(at: number): string {
  const date = new Date(at);
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
}

/** 2026-11-21 14:03 in local time. */
export function dateAndTime(at: number | null | undefined): string {
  if (at === null || at === undefined || !Number.isFinite(at)) return UNKNOWN;
  const date = new Date(at);
  return `${day(date)} ${pad(date.getHours())}:${pad(date.getMinutes())}`;
}

const day = (date: Date): string => `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;

/** A label for a tick of a time axis whose ticks are `stepMs` apart. */
export function tick(at: number, stepMs: number): string {
  const date = new Date(at);
  if (stepMs >= DAY) return date.toLocaleDateString('en', { day: 'numeric', month: 'short' });
  if (stepMs >= 6 * HOUR) return `${date.toLocaleDateString('en', { weekday: 'short' })} ${pad(date.getHours())}:00`;
  const minutes = `${pad(date.getHours())}:${pad(date.getMinutes())}`;
  return stepMs >= MINUTE ? minutes : `${minutes}:${pad(date.getSeconds())}`;
}

/** For names of files: 20261121-140327. */
export function stamp(at: number): string {
  const date = new Date(at);
  return `${day(date).replaceAll('-', '')}-${clock(at).replaceAll(':', '')}`;
}
