/**
 * Instants, and the clock that stamps. Pure: the time is an argument.
 *
 * An instant is its canonical text of 27 characters, UTC with microseconds: microseconds since 1970 do not fit
 * into a JavaScript number, and canonical texts compare like the instants they name.
 */

/** `2026-01-01T10:05:00.123456Z` */
export type Instant = string;

export const EPOCH: Instant = "1970-01-01T00:00:00.000000Z";
export const LATEST: Instant = "9999-12-31T23:59:59.999999Z";
/** A stamp further ahead of the wall clock than this (milliseconds) is of a clock that was wrong. */
export const MAX_AHEAD = 60_000;

const RFC3339 =
  /^((?!0000)\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:)(\d\d)(?:\.(\d+))?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/;
const LAST_MILLISECOND = Date.parse("9999-12-31T23:59:59.999Z");

/**
 * An RFC 3339 instant of any offset, never before the epoch. A leap second is the last microsecond before it.
 * Raises RangeError when `text` is not one (an instant without an offset is not).
 */
export function parseInstant(text: string): Instant {
  const [, day, time, second, fraction = "", zone = ""] = RFC3339.exec(text) ?? [];
  const leap = second === "60";
  const plain = `${day}T${time}${leap ? "59" : second}`;
  // `Date` takes the 30th of February for the 2nd of March, and 24:00 for tomorrow: then the text is another. What is no
  // time at all raises a RangeError by itself.
  if (!new Date(`${plain}Z`).toISOString().startsWith(plain)) {
    throw new RangeError("no instant");
  }
  const micros = leap ? "999999" : fraction.slice(0, 6).padEnd(6, "0");
  const seconds = Date.parse(plain + zone.toUpperCase());
  return formatInstant(seconds + Number(micros.slice(0, 3)), Number(micros.slice(3)));
}

/** The instant of milliseconds since 1970 and the three digits below, kept within EPOCH and LATEST. */
export function formatInstant(millis: number, below = 0): Instant {
  if (millis < 0) return EPOCH;
  if (millis > LAST_MILLISECOND) return LATEST;
  return `${new Date(Math.floor(millis)).toISOString().slice(0, 23)}${String(below).padStart(3, "0")}Z`;
}

/** The instant one microsecond later, or `step` microseconds (less than 1,000 either way). */
export function after(instant: Instant, step = 1): Instant {
  const below = Number(instant.slice(23, 26)) + step;
  const over = Math.floor(below / 1000);
  return formatInstant(Date.parse(`${instant.slice(0, 23)}Z`) + over, below - 1000 * over);
}

export function latest(one: Instant, other: Instant): Instant {
  return one > other ? one : other;
}

/**
 * The stamp of a new write: milliseconds of the wall clock, and a counter in the three digits below. It is greater than
 * `last`, the stamp given last, where that is of this second. A clock that was set right counts from then on: what a write
 * overwrites keeps it later.
 */
export function tick(last: Instant, wall: number): Instant {
  const now = formatInstant(wall);
  return last >= now && last <= formatInstant(wall + 999, 999) ? after(last) : now;
}
