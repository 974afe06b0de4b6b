/** Mutations of collections as writes of the replica. */

import { Batch } from "../batch.js";
import { checkSpace, type Key, keyText, type Write } from "../data/change.js";
import { TOMBSTONE } from "../data/merge.js";
import { type Json, same } from "../data/values.js";
import { InvalidWrite, SyncdError } from "../errors.js";
import { EVERY_SPACE } from "../query.js";
import type { Replica } from "../replica.js";
import type { Transaction } from "../store/store.js";
import type { Feed } from "./items.js";
import type { Reader } from "./reader.js";

/** What a collection is of. `space`: null for the personal one, or EVERY_SPACE. */
export interface Place {
  readonly replica: Replica;
  readonly table: string;
  readonly space: string | null;
  readonly reader: Reader;
  /** What is told to the collections of it. */
  readonly feeds: Set<Feed>;
  /** Records that an insert of it writes, until it is done. */
  readonly underWay: Set<Key>;
}

/** In a collection's `utils`. */
export const PLACE: unique symbol = Symbol.for("@syncd/client/tanstack");

/** An insert of a record that is there already, which the collection need not show. */
export class DuplicateKey extends SyncdError {
  constructor(table: string, id: string) {
    super(
      "duplicate_key",
      `${table} has a record ${id} already, though the collection may not show it. Update it instead.`,
    );
  }
}

/** In the `syncMetadata` of a mutation that is or has an insert: what TanStack DB made an update of, of a delete and an insert. */
export const INSERTED: unique symbol = Symbol.for("@syncd/client/tanstack/inserted");

/** A mutation of TanStack DB, as far as it is used. */
export interface Mutated {
  readonly type: "insert" | "update" | "delete";
  readonly original: object;
  readonly modified: object;
  readonly changes: object;
  readonly syncMetadata: object;
  readonly collection: { readonly utils: object };
}

interface Fields {
  readonly [field: string]: unknown;
}

/** What TanStack DB adds to the items that it shows. */
const VIRTUAL = ["$hasPendingWrites", "$synced", "$origin", "$key", "$collectionId"];

/**
 * Writes the mutations of syncd's collections as one batch; those of other collections are left alone. Done when the collections
 * have been told. Raises InvalidWrite, also where they are of two replicas, DuplicateKey, NotAllowed, NoSuchRecord, BatchTooLarge,
 * StoreFailed.
 */
export async function writeMutations(mutations: readonly Mutated[]): Promise<void> {
  const own = mutations.flatMap((mutation): [Mutated, Place][] => {
    const place = (mutation.collection.utils as { [PLACE]?: Place })[PLACE];
    return place ? [[mutation, place]] : [];
  });
  const [first] = own;
  if (!first) return;
  const { replica, reader } = first[1];
  if (own.some(([, place]) => place.replica !== replica))
    throw new InvalidWrite("a transaction writes to the collections of one replica.");
  const planned: (readonly Write[])[] = [];
  try {
    await replica["commit"](async (tx) => {
      const batch = new Batch(replica["extra"], tx.meta.user);
      planned.push(batch.writes);
      for (const [mutation, place] of own) await plan(tx, batch, mutation, place);
      return batch.writes;
    });
    await reader.settled();
  } finally {
    for (const { underWay } of new Set(own.map(([, place]) => place)))
      for (const { key } of planned.flat()) underWay.delete(key);
  }
}

async function plan(tx: Transaction, batch: Batch, mutation: Mutated, place: Place): Promise<void> {
  const { table } = place;
  const original = mutation.original as Fields;
  const modified = mutation.modified as Fields;
  const item = mutation.type === "insert" ? modified : original;
  const everySpace = place.space === EVERY_SPACE;
  const at = { space: everySpace ? ((item.space ?? null) as string | null) : place.space };
  checkSpace(at.space, tx.meta.user);
  const id = item.id as string;
  if (mutation.type === "delete") return batch.delete(table, id, at);
  const left = ["id", ...VIRTUAL, ...(everySpace ? ["space"] : [])];
  const named = (fields: object): string[] => Object.keys(fields).filter((name) => !left.includes(name));
  const replaces = mutation.type === "update";
  if (replaces && !(INSERTED in mutation.syncMetadata)) {
    const changed = named(mutation.changes).filter((name) => !Object.is(original[name], modified[name]));
    const fields = changed.map((name) => [name, modified[name] ?? null]);
    if (fields.length > 0) batch.patch(table, id, Object.fromEntries(fields), at);
    return;
  }
  const fields = named(modified).flatMap((name) =>
    modified[name] === undefined ? [] : [[name, modified[name]]],
  );
  batch.put(table, id, Object.fromEntries(fields), at);
  await replace(tx, batch, place, replaces);
}

/**
 * Makes of the put that the batch ends with one after which nothing of what was in its place is left: fields that it does not name
 * become null, and of a live record only what differs is written. `replaces`: the item is known to take the place of another.
 * Otherwise it is where the collection shows one, or inserts one: TanStack DB lets no insert pass but behind a deletion then. Raises
 * DuplicateKey, but not where the record says the same, as where an insert is tried again.
 */
async function replace(tx: Transaction, batch: Batch, place: Place, replaces: boolean): Promise<void> {
  const write = batch.writes.pop() as Write;
  const { key, values } = write;
  const old = await recordAt(tx, batch, key);
  const live = old.size > 0 && (old.get(TOMBSTONE) ?? null) === null;
  const changed = [...values].filter(
    ([field, value]) => field !== TOMBSTONE && !(live && old.has(field) && same(old.get(field), value)),
  );
  if (live && !replaces && !knows(place, key)) {
    if (changed.length === 0) return;
    throw new DuplicateKey(place.table, key[2]);
  }
  for (const [field, value] of old) if (value !== null && !values.has(field)) changed.push([field, null]);
  if (live && changed.length === 0) return;
  place.underWay.add(key);
  batch.writes.push({ ...write, values: new Map([...changed, [TOMBSTONE, null]]) });
}

/** The collection shows the record, was told of it, or is inserting it. */
function knows({ feeds, underWay }: Place, key: Key): boolean {
  const name = keyText(key);
  return [...feeds].some((feed) => feed.has(name)) || [...underWay].some((one) => keyText(one) === name);
}

/** The values of a record with what the batch has written by now; none where there is no record. */
async function recordAt(tx: Transaction, batch: Batch, key: Key): Promise<Map<string, Json>> {
  const row = await tx.get("records", key);
  const record = new Map([...(row?.view ?? [])].map(([field, { value }]) => [field, value]));
  for (const { op, key: other, values } of batch.writes) {
    if (key.some((part, index) => part !== other[index])) continue;
    if (op === "delete") record.set(TOMBSTONE, true);
    for (const [field, value] of values) record.set(field, value);
  }
  return record;
}
