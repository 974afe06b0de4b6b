/** The writes that take a batch back, where nobody else has written since. Pure. */

import { type Key, keyText, type Write, type Written } from "./change.js";
import type { Instant } from "./clock.js";
import { isDeleted, type Register, type Registers, TOMBSTONE } from "./merge.js";
import type { Json, JsonObject } from "./values.js";

/** What a batch wrote to one record, over what: `held` was there before, `stamps` are of its last writes. */
interface Overwritten {
  readonly key: Key;
  readonly held: Registers;
  readonly stamps: Map<string, Instant>;
}

/** The writes that take back what was `written`, by `client`, from records that read `now`. */
export function wayBack(
  written: readonly Written[],
  now: (key: Key) => Registers,
  client: string,
  extra: JsonObject,
): Write[] {
  const writes = overwrittenBy(written).map((record) => undone(record, now(record.key), client, extra));
  return writes.filter((write) => write !== null);
}

function overwrittenBy(written: readonly Written[]): Overwritten[] {
  const records = new Map<string, Overwritten>();
  for (const { key, before, registers } of written) {
    const name = keyText(key);
    const record = records.get(name) ?? { key, held: before, stamps: new Map() };
    for (const [field, { at }] of registers) record.stamps.set(field, at);
    records.set(name, record);
  }
  return [...records.values()];
}

/**
 * The write that undoes a batch's part in a record, which reads `now`; null where nothing of it stands. A field that
 * was not there becomes null; a record that was not there is deleted, unless others have a part in it by now.
 */
function undone(
  { key, held, stamps }: Overwritten,
  now: Registers,
  client: string,
  extra: JsonObject,
): Write | null {
  const ours = [...stamps]
    .filter(([field, at]) => isWrite(now.get(field), client, at))
    .map(([field]) => field);
  const values = new Map<string, Json>();
  for (const field of ours) if (field !== TOMBSTONE) values.set(field, held.get(field)?.value ?? null);
  const stands = ours.includes(TOMBSTONE);
  if (held.size === 0 && ours.length > 0 && ours.length === now.size) {
    return { op: "delete", key, values: new Map(), extra };
  }
  if (stands && isDeleted(held)) return { op: "delete", key, values, extra };
  if (stands && isDeleted(now)) values.set(TOMBSTONE, null);
  return values.size > 0 ? { op: "update", key, values, extra } : null;
}

/** Whether a register is still the one that was written; the server may have lowered its stamp. */
function isWrite(register: Register | undefined, client: string, at: Instant): boolean {
  return register?.client === client && (register.at === at || register.sent === at);
}
