/** What the application does about refused and set-aside changes: fix, requeue, move, drop. */

import { checkFields, type Key, newId, readChange, stamped, writeChange } from "./change.js";
import type { Instant } from "./clock.js";
import { NoSuchChange } from "./errors.js";
import { type Json, type JsonObject, parse } from "./json.js";
import type { Registers } from "./merge.js";
import { find, insert, type Prepared, stampOver } from "./outbox.js";
import { load, pick, save, settle } from "./records.js";
import { keyOf, type OutboxRow, type Transaction } from "./store.js";

/** How a stopped change goes again. `space`: where to, or null for where it went; `alone`: without its batch. */
export interface Mending {
  readonly fields?: object;
  readonly space?: string | null;
  readonly alone?: boolean;
}

/** A refused or set-aside change with the rest of its batch. Raises NoSuchChange. */
async function stopped(tx: Transaction, changeId: string, alone: boolean): Promise<OutboxRow[]> {
  const row = await find(tx, changeId);
  if (row === undefined || row.state === "pending") throw new NoSuchChange(changeId);
  return alone ? [row] : tx.all("outbox", [row.batch], "batch");
}

/** Forgets changes for good: their records fall back to what the server confirmed. Returns the records. */
export async function drop(tx: Transaction, changeId: string, alone: boolean): Promise<Key[]> {
  const rows = await stopped(tx, changeId, alone);
  for (const row of rows) tx.delete("outbox", [row.position]);
  const keys = rows.map(keyOf);
  await resettle(tx, keys);
  return keys;
}

/**
 * Queues a stopped change again, at the end of the queue and under a new changeId, with the rest of its batch.
 * Edited fields get new stamps. Returns the new changeId and the records to show anew. Raises NoSuchChange,
 * InvalidWrite.
 */
export async function requeue(
  tx: Transaction,
  changeId: string,
  wall: number,
  { fields, space = null, alone = false }: Mending,
): Promise<{ changeId: string; keys: Key[] }> {
  const rows = await stopped(tx, changeId, alone);
  const target = space ?? rows.find((row) => row.changeId === changeId)?.space ?? "";
  const edits = fields ? checkFields(fields, target) : new Map<string, Json>();
  const queued: Prepared[] = [];
  for (const row of rows) {
    const fresh = newId(wall);
    const edited = row.changeId === changeId ? edits : new Map<string, Json>();
    const key: Key = [space ?? row.space, row.table, row.id];
    const { view } = pick(await load(tx, [key]), key);
    const at = stampOver(tx, view, edited.keys(), wall);
    const body = await rewrite(tx, row, fresh, key, stamped(edited, at, tx.meta.client));
    queued.push({ key, body, changeId: fresh, batch: queued[0]?.batch ?? fresh });
    tx.delete("outbox", [row.position]);
  }
  insert(tx, queued);
  const keys = [...rows.map(keyOf), ...queued.map(({ key }) => key)];
  await resettle(tx, keys);
  return { changeId: queued[rows.findIndex((row) => row.changeId === changeId)]?.changeId ?? "", keys };
}

/** The text of a change with other registers, another id or another place. */
async function rewrite(
  tx: Transaction,
  row: OutboxRow,
  changeId: string,
  key: Key,
  edits: Registers,
): Promise<string> {
  const wire = parse(row.body) as JsonObject;
  const old = readChange(wire, tx.meta.client);
  const registers = new Map([...old.registers, ...edits]);
  const confirmed = pick(await load(tx, [key]), key).base;
  const { schemaVersion, actor, origin } = wire;
  const extra = { schemaVersion, actor, origin } as JsonObject; // JSON leaves out what was not given
  return writeChange({ changeId, key, op: old.op, registers, confirmed, extra });
}

/**
 * What is stopped here with a stamp beyond `bound`, of a clock that was ahead, gets one that is as old as it is: that of
 * `dates`, by changeId, else `otherwise`. Returns the records to show anew.
 */
export async function redate(
  tx: Transaction,
  bound: Instant,
  otherwise: Instant,
  dates: ReadonlyMap<string, Instant> = new Map(),
): Promise<Key[]> {
  const dated: Key[] = [];
  const stopped = [await tx.all("outbox", ["rejected"], "state"), await tx.all("outbox", ["aside"], "state")];
  for (const row of stopped.flat()) {
    const edits = readChange(parse(row.body), tx.meta.client).registers;
    for (const [field, register] of edits) {
      if (register.at > bound) edits.set(field, { ...register, at: dates.get(row.changeId) ?? otherwise });
      else edits.delete(field);
    }
    if (edits.size === 0) continue;
    tx.put("outbox", { ...row, body: await rewrite(tx, row, row.changeId, keyOf(row), edits) });
    dated.push(keyOf(row));
  }
  return dated;
}

/** Another copy of this store pushes under its client id: it goes on under another one, with what is unsent. */
export async function rename(tx: Transaction, client: string): Promise<void> {
  tx.meta.client = client;
  tx.meta.incarnations = tx.meta.acked = [];
  await resettle(tx, (await tx.all("outbox")).map(keyOf));
}

/** Shows again what the queue says, after it was changed by hand. */
export async function resettle(tx: Transaction, keys: readonly Key[]): Promise<void> {
  const records = await load(tx, keys);
  for (const record of records.values()) record.write(new Map());
  await settle(tx, records);
  save(tx, records);
}
