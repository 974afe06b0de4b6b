/** The durable queue of what the server does not have yet: written, packed into pushes, refused, given up. */

import { type Key, keyText, newId, type Op, spaceKey, stamped, writeChange } from "./change.js";
import { after, EPOCH, formatInstant, type Instant, LATEST, latest, MAX_AHEAD, tick } from "./clock.js";
import { BatchTooLarge } from "./errors.js";
import { type Json, type JsonObject, parse } from "./json.js";
import { redate, resettle } from "./mending.js";
import { type Registers, TOMBSTONE } from "./merge.js";
import { type LoadedRecords, load, pick, save } from "./records.js";
import { type ChangeState, keyOf, type OutboxRow, type Transaction } from "./store.js";

/** What the application asked for, checked, not yet stamped. A delete has no values of its own. */
export interface Write {
  readonly op: Op;
  readonly key: Key;
  readonly values: ReadonlyMap<string, Json>;
  readonly extra: JsonObject;
}

/**
 * A change in the outbox, as the application sees it. `state`: "pending" waits to be sent, "rejected" was refused
 * for the reason in `code` and `detail`, "aside" belonged to a space that was left. `change` is the wire form.
 */
export interface Queued {
  readonly changeId: string;
  readonly batch: string;
  readonly space: string | null;
  readonly table: string;
  readonly id: string;
  readonly state: ChangeState;
  readonly change: JsonObject;
  readonly code: string | null;
  readonly detail: string | null;
}

/** A change on its way in a push. */
export type Packed = Pick<OutboxRow, "changeId" | "batch" | "body" | "size" | "space">;

/** How large a request may get. Bytes are of JSON; the server's defaults are 1,000 changes, 10 MiB. */
export interface Limits {
  readonly pushChanges: number;
  readonly pushBytes: number;
  readonly batchBytes: number;
  readonly pullLimit: number;
  /** Tables that a new replica gets before the others, comma-separated, at most 8. */
  readonly first?: string;
}

export const LIMITS: Limits = { pushChanges: 1000, pushBytes: 1 << 20, batchBytes: 8 << 20, pullLimit: 1000 };

/** A change that is ready to be queued. */
export interface Prepared {
  readonly changeId: string;
  readonly key: Key;
  readonly body: string;
  readonly batch: string;
}

/** A write that was queued: these registers, over those of `before` (empty: there was no such record). */
export interface Written {
  readonly changeId: string;
  readonly key: Key;
  readonly registers: Registers;
  readonly before: Registers;
}

/**
 * Stamps the writes, shows them in the records and queues them, as one batch unless `apart`. Returns them.
 * Raises BatchTooLarge.
 */
export async function enqueue(
  tx: Transaction,
  writes: readonly Write[],
  wall: number,
  limits: Limits,
  apart = false,
): Promise<Written[]> {
  const keys = writes.map((write) => write.key);
  let records = await load(tx, keys);
  if (await mendStopped(tx, records, wall)) records = await load(tx, keys);
  const queued: (Prepared & Written)[] = [];
  for (const { op, key, values, extra } of writes) {
    const record = pick(records, key);
    const at = stampOver(
      tx,
      record.view,
      op === "delete" ? [...values.keys(), TOMBSTONE] : values.keys(),
      wall,
    );
    const written = op === "delete" ? new Map([[TOMBSTONE, at as Json], ...values]) : values;
    const registers = stamped(written, at, tx.meta.client);
    record.write(registers);
    const changeId = newId(wall);
    const batch = apart ? changeId : (queued[0]?.batch ?? changeId);
    const body = writeChange({ changeId, key, op, registers, confirmed: record.base, extra });
    queued.push({ changeId, key, batch, body, registers, before: record.before });
  }
  if (!apart) checkSize(queued, limits);
  insert(tx, queued);
  save(tx, records);
  return queued;
}

/**
 * What was refused with a stamp of a clock that was mended since must not take a later write along into the future. Where
 * this clock is behind, a write may be far ahead of it, but not of what it was written over. Whether there was any.
 */
async function mendStopped(tx: Transaction, records: LoadedRecords, wall: number): Promise<boolean> {
  const bound = formatInstant(wall + MAX_AHEAD);
  const ahead = [...records.values()].some(
    ({ layered, view, base }) =>
      layered &&
      [...view].some(([field, { at }]) => at > bound && at > after(base.get(field)?.at ?? EPOCH, 999)),
  );
  if (ahead) await resettle(tx, await redate(tx, bound, formatInstant(wall)));
  return ahead;
}

/**
 * The stamp of a new write: later than what it overwrites, also where this device's clock is far behind or has come
 * back, and never one that the server has lowered there.
 */
export function stampOver(tx: Transaction, view: Registers, names: Iterable<string>, wall: number): Instant {
  const { meta } = tx;
  const over = Array.from(names, (name) => view.get(name)).filter((held) => held !== undefined);
  const greatest = over.map(({ at }) => at).reduce(latest, EPOCH);
  meta.clock = tick(meta.clock, wall);
  let at = latest(meta.clock, after(greatest));
  while (at < LATEST && over.some(({ sent }) => sent === at)) at = after(at);
  return at;
}

function checkSize(queued: readonly Prepared[], { pushChanges, batchBytes }: Limits): void {
  const { length } = queued;
  const size = queued.reduce((sum, { body }) => sum + bytesOf(body), 0);
  if (length > 1 && (length > pushChanges || size > batchBytes))
    throw new BatchTooLarge(
      `${length} changes, ${size} bytes; one push takes ${pushChanges}, ${batchBytes}.`,
    );
}

const ENCODER = new TextEncoder();

function bytesOf(text: string): number {
  return ENCODER.encode(text).length;
}

/** Queues changes at the end. */
export function insert(tx: Transaction, queued: readonly Prepared[]): void {
  for (const { changeId, key, batch, body } of queued) {
    const [space, table, id] = key;
    tx.meta.position += 1;
    const { position } = tx.meta;
    const size = bytesOf(body);
    tx.put("outbox", {
      position,
      changeId,
      batch,
      space,
      table,
      id,
      state: "pending",
      body,
      size,
      code: null,
      detail: null,
    });
  }
}

/**
 * The next push: whole batches from the front of the queue, up to the position `last`, in the order written. As
 * many as fit into `changes` and `bytes`; at least one batch, whatever its size.
 */
export async function pack(tx: Transaction, last: number, changes: number, bytes: number): Promise<Packed[]> {
  const found = await tx.all("outbox", ["pending"], "state", changes + 1);
  const rows = found.filter((row) => row.position <= last);
  const [first] = rows;
  if (first === undefined) return [];
  const end = cut(rows, changes, bytes);
  if (end > 0) return rows.slice(0, end);
  const batch = await tx.all("outbox", [first.batch], "batch");
  return batch.filter((row) => row.state === "pending");
}

/** Where the push ends: the last border between two batches before it is full. */
function cut(rows: readonly OutboxRow[], changes: number, bytes: number): number {
  let [size, border] = [0, 0];
  for (const [place, row] of rows.entries()) {
    if (place > 0 && rows[place - 1]?.batch !== row.batch) border = place;
    size += row.size + 1;
    if (place >= changes || size > bytes) return border;
  }
  return rows.length;
}

export interface Refusal {
  readonly code: string;
  readonly detail: string;
}

/**
 * Sets changes aside as refused, by changeId, each with the rest of its batch. Returns the changeIds that were
 * set aside.
 */
export async function reject(tx: Transaction, refusals: ReadonlyMap<string, Refusal>): Promise<string[]> {
  const told: string[] = [];
  const batches = new Map<string, string>();
  for (const [changeId, { code, detail }] of refusals) {
    const row = await find(tx, changeId);
    if (row?.state !== "pending") continue;
    tx.put("outbox", { ...row, state: "rejected", code, detail });
    told.push(changeId);
    batches.set(row.batch, `Goes together with ${changeId}, which was refused: ${code}.`);
  }
  for (const [batch, detail] of batches) told.push(...(await stopBatch(tx, batch, detail)));
  return told;
}

/** Sets aside as refused what of a batch still waits. */
export async function stopBatch(tx: Transaction, batch: string, detail: string): Promise<string[]> {
  const rest = (await tx.all("outbox", [batch], "batch")).filter((row) => row.state === "pending");
  for (const row of rest) tx.put("outbox", { ...row, state: "rejected", code: "batch_rejected", detail });
  return rest.map((row) => row.changeId);
}

/** Whether a change's space is here: one that was left is not, until it is joined again. */
export async function present(
  tx: Transaction,
  { space, state }: Pick<OutboxRow, "space" | "state">,
): Promise<boolean> {
  return state === "pending" || space === "" || (await tx.get("spaces", [space])) !== undefined;
}

export async function find(tx: Transaction, changeId: string): Promise<OutboxRow | undefined> {
  const [row] = await tx.all("outbox", [changeId], "change");
  return row;
}

/**
 * Those of a push whose spaces the server has not said the user is in, or not since they were left. What is read of such a
 * space begins after the push, perhaps, and with what is alive then: of a deletion from between the two nothing would come.
 */
export async function unread(tx: Transaction, pushed: readonly Packed[]): Promise<string[]> {
  const told = (await tx.all("spaces")).map(({ id }) => spaceKey(id));
  return pushed.filter(({ space }) => !told.includes(space)).map(({ changeId }) => changeId);
}

/** Whether anything is on its way to the server, or its server's form not here yet. */
export async function waiting(tx: Transaction): Promise<boolean> {
  const rows = await Promise.all([
    tx.all("outbox", ["pending"], "state", 1),
    tx.all("outbox", ["acked"], "state", 1),
  ]);
  return rows.flat().length > 0;
}

/**
 * The incarnations that a push names: that of the last push which was answered, and those since, of which the last is of
 * this `opening` of the store. A copy of the store does not have the one that another copy has pushed as meanwhile.
 */
export function incarnate({ meta }: Transaction, opening: string): readonly string[] | undefined {
  const held = meta.incarnations ?? [];
  const number = Number.parseInt(held.at(-1) ?? "0", 10) + 1;
  if (opening) meta.incarnations = [...held.slice(-30), `${number}.${opening}`];
  return meta.incarnations;
}

/** What the server has, by its answer or because it sent it back, need not be sent any more. */
export async function forget(tx: Transaction, changeIds: readonly string[]): Promise<void> {
  for (const changeId of changeIds) {
    const row = await find(tx, changeId);
    if (row && row.state !== "acked") tx.delete("outbox", [row.position]);
  }
}

/**
 * Takes note that the server had these changes from an earlier push, whose answer was lost. How it holds them (it
 * may have lowered their stamps) is in the delta and nowhere else. While there is `more` of that to come they stay
 * on top of their records. Returns the records to show anew.
 */
export async function acknowledge(
  tx: Transaction,
  changeIds: readonly string[],
  more: boolean,
): Promise<Key[]> {
  for (const changeId of changeIds) {
    const row = await find(tx, changeId);
    if (row && (await present(tx, row))) tx.put("outbox", { ...row, state: "acked" });
    else if (row) tx.delete("outbox", [row.position]);
  }
  if (more && changeIds.length === 0) return [];
  const rows = await tx.all("outbox", ["acked"], "state");
  if (!more) for (const row of rows) tx.delete("outbox", [row.position]);
  return rows.map(keyOf);
}

/** Keeps the unsent writes of a space that was left, and stops batches they were part of. */
export async function setAside(tx: Transaction, space: string): Promise<void> {
  const rows = await tx.all("outbox", [space], "record");
  for (const row of rows) {
    const code = row.code ?? "space_left";
    const detail = row.detail ?? "The space was left before this was sent.";
    if (row.state === "acked") tx.delete("outbox", [row.position]);
    else tx.put("outbox", { ...row, state: "aside", code, detail });
  }
  const batches = new Set(rows.filter((row) => row.state === "pending").map((row) => row.batch));
  for (const batch of batches)
    await stopBatch(tx, batch, "Goes together with a change to a space that was left.");
}

/** The part of the queue in one state, in the order written. */
export async function listed(tx: Transaction, state: ChangeState): Promise<Queued[]> {
  return (await tx.all("outbox", [state], "state")).map(queuedOf);
}

export function queuedOf(row: OutboxRow): Queued {
  const { position: _position, size: _size, body, ...said } = row;
  return { ...said, space: row.space || null, change: parse(body) as JsonObject };
}

/** The records of changes, each once. */
export function distinct(keys: Iterable<Key>): Key[] {
  return [...new Map(Array.from(keys, (key) => [keyText(key), key])).values()];
}
