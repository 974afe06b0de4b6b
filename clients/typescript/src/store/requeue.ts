/** What the application does about refused and set-aside changes: fix, requeue, move, drop. */

import { checkFields, type Key, newId, stamped } from "../data/change.js";
import type { Json } from "../data/values.js";
import { NoSuchChange } from "../errors.js";
import { checkKept, insert, type ReadyChange, stampOver } from "./enqueue.js";
import { find } from "./outbox.js";
import { load, pick } from "./records.js";
import { resettle, rewrite } from "./restamp.js";
import { keyOf, type OutboxRow, type Transaction } from "./store.js";

/** How a stopped change goes again. `space`: where to, instead of where it went; `alone`: without its batch. */
export interface Requeue {
  readonly fields?: object;
  readonly space?: string;
  readonly alone?: boolean;
}

/** A refused or set-aside change with the rest of its batch. Raises NoSuchChange. */
async function stopped(tx: Transaction, changeId: string, alone?: boolean): Promise<OutboxRow[]> {
  const row = await find(tx, changeId);
  if (row === undefined || row.state === "pending") throw new NoSuchChange(changeId);
  return alone ? [row] : tx.all("outbox", [row.batch], "batch");
}

/** Forgets changes for good: their records fall back to what the server confirmed. Returns the records. */
export async function drop(tx: Transaction, changeId: string, alone?: boolean): Promise<Key[]> {
  const rows = await stopped(tx, changeId, alone);
  for (const row of rows) tx.delete("outbox", [row.position]);
  const keys = rows.map(keyOf);
  await resettle(tx, keys);
  return keys;
}

/**
 * Queues a stopped change again, at the end of the queue and under a new changeId, with the rest of its batch.
 * Edited fields get new stamps. Returns the new changeId and the records that it changes. Raises NoSuchChange,
 * InvalidWrite, and NotReplicated of another space that is not kept.
 */
export async function requeue(
  tx: Transaction,
  changeId: string,
  wall: number,
  { fields, space, alone }: Requeue,
): Promise<{ changeId: string; keys: Key[] }> {
  const rows = await stopped(tx, changeId, alone);
  const target = space ?? rows.find((row) => row.changeId === changeId)?.space ?? "";
  const edits = fields ? checkFields(fields, target) : new Map<string, Json>();
  const queued: ReadyChange[] = [];
  let own = "";
  for (const row of rows) {
    const fresh = newId(wall);
    const named = row.changeId === changeId;
    if (named) own = fresh;
    const edited = named ? edits : new Map<string, Json>();
    const key: Key = [space ?? row.space, row.table, row.id];
    if (space !== undefined) checkKept(tx, [key]);
    const { view } = pick(await load(tx, [key]), key);
    const at = stampOver(tx, view, edited.keys(), wall);
    const body = await rewrite(tx, row, fresh, key, stamped(edited, at, tx.meta.client));
    queued.push({ key, body, changeId: fresh, batch: queued[0]?.batch ?? fresh });
    tx.delete("outbox", [row.position]);
  }
  insert(tx, queued);
  const keys = [...rows.map(keyOf), ...queued.map(({ key }) => key)];
  await resettle(tx, keys);
  return { changeId: own, keys };
}
