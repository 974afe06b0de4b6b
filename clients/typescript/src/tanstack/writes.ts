/** Mutations of collections as writes of the replica. */

import { Batch } from "../batch.js";
import { checkSpace, type Key, spaceKey } from "../data/change.js";
import { TOMBSTONE } from "../data/merge.js";
import { InvalidWrite } from "../errors.js";
import { EVERY_SPACE } from "../query.js";
import type { Replica } from "../replica.js";
import type { Transaction } from "../store/store.js";
import type { Reader } from "./reader.js";

/** What a collection is of. `space`: null for the personal one, or EVERY_SPACE. */
export interface Place {
  readonly replica: Replica;
  readonly table: string;
  readonly space: string | null;
  readonly reader: Reader;
}

/** In a collection's `utils`. */
export const PLACE: unique symbol = Symbol.for("@syncd/client/tanstack");

/** A mutation of TanStack DB, as far as it is used. */
export interface Mutated {
  readonly type: "insert" | "update" | "delete";
  readonly original: object;
  readonly modified: object;
  readonly changes: object;
  readonly collection: { readonly utils: object };
}

interface Fields {
  readonly [field: string]: unknown;
}

/** What TanStack DB adds to the items that it shows. */
const VIRTUAL = ["$hasPendingWrites", "$synced", "$origin", "$key", "$collectionId"];

/**
 * Writes the mutations of syncd's collections as one batch; those of other collections are left alone. Done when the collections
 * have been told. Raises InvalidWrite, also where they are of two replicas, NotAllowed, NoSuchRecord, BatchTooLarge, StoreFailed.
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
  await replica["commit"](async (tx) => {
    const batch = new Batch(replica["extra"], tx.meta.user);
    for (const [mutation, place] of own) await plan(tx, batch, mutation, place);
    return batch.writes;
  });
  await reader.settled();
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
  if (mutation.type === "update") {
    const changed = named(mutation.changes).filter((name) => !Object.is(original[name], modified[name]));
    const fields = changed.map((name) => [name, modified[name] ?? null]);
    if (fields.length > 0) batch.patch(table, id, Object.fromEntries(fields), at);
    return;
  }
  const fields = named(modified).flatMap((name) =>
    modified[name] === undefined ? [] : [[name, modified[name]]],
  );
  batch.put(table, id, Object.fromEntries(fields), at);
  const old = await leftOver(tx, [spaceKey(at.space), table, id], new Set(fields.map(([name]) => name)));
  if (old.length > 0) batch.patch(table, id, Object.fromEntries(old.map((name) => [name, null])), at);
}

/** What a deleted record would bring back with it, of fields that the item which takes its place does not have. */
async function leftOver(tx: Transaction, key: Key, fields: ReadonlySet<unknown>): Promise<string[]> {
  const row = await tx.get("records", key);
  return [...(row?.deleted ? row.view : [])]
    .filter(([name, { value }]) => name !== TOMBSTONE && value !== null && !fields.has(name))
    .map(([name]) => name);
}
