/** Undo of this device's last batch: what it wrote is written back, where nobody else has written since. */

import { type Key, keyText } from "./change.js";
import type { Instant } from "./clock.js";
import type { Json, JsonObject } from "./json.js";
import { isDeleted, type Register, type Registers, TOMBSTONE } from "./merge.js";
import type { Write, Written } from "./outbox.js";
import { load, pick } from "./records.js";
import type { Replica } from "./replica.js";

/** What a batch wrote to one record, over what: `held` was there before, `stamps` are of its last writes. */
interface Image {
  readonly key: Key;
  readonly held: Registers;
  readonly stamps: Map<string, Instant>;
}

/**
 * Takes back the last write or batch of this tab since the replica was opened, as a new batch: twice is a redo.
 *
 * Works offline. What somebody else has written since stays. Returns the changeIds; none where nothing of it stands
 * any more, or nothing was written. Raises StoreFailed.
 */
export function undo<S extends object>(replica: Replica<S>): Promise<string[]> {
  const images = imagesOf(replica["written"]);
  const { clientId } = replica;
  return replica["commit"](async (tx) => {
    const now = await load(
      tx,
      images.map(({ key }) => key),
    );
    const writes = images.map((image) =>
      wayBack(image, pick(now, image.key).view, clientId, replica["extra"]),
    );
    return writes.filter((write) => write !== null);
  });
}

function imagesOf(written: readonly Written[]): Image[] {
  const images = new Map<string, Image>();
  for (const { key, before, registers } of written) {
    const name = keyText(key);
    const image = images.get(name) ?? { key, held: before, stamps: new Map() };
    for (const [field, { at }] of registers) image.stamps.set(field, at);
    images.set(name, image);
  }
  return [...images.values()];
}

/**
 * The write that undoes a batch's part in a record, which reads `now`; null where nothing of it stands. A field that
 * was not there becomes null; a record that was not there is deleted, unless others have a part in it by now.
 */
function wayBack(
  { key, held, stamps }: Image,
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
