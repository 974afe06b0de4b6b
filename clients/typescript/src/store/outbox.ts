/** The durable queue of what the server does not have yet: written, packed into pushes, refused, given up. */

import { type Key, type Packed, type Refusal, spaceKey } from "../data/change.js";
import { type JsonObject, parse } from "../data/values.js";
import { type ChangeState, keyOf, type OutboxRow, type Transaction } from "./store.js";

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
  /** Which field the server says is wrong, where it names one. */
  readonly field?: string | null | undefined;
}

/**
 * The next push: whole batches from the front of the queue, up to the position `last`, in the order written. As
 * many as fit into `changes` and `bytes`; at least one batch, whatever its size.
 */
export async function pack(tx: Transaction, last: number, changes: number, bytes: number): Promise<Packed[]> {
  const found = await tx.all("outbox", ["pending"], "state", changes + 1);
  const rows = found.filter((row) => row.position <= last);
  const [first] = rows;
  if (!first) return [];
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

/**
 * Sets changes aside as refused, by changeId, each with the rest of its batch. Returns the changeIds that were
 * set aside.
 */
export async function reject(tx: Transaction, refusals: ReadonlyMap<string, Refusal>): Promise<string[]> {
  const told: string[] = [];
  const batches = new Map<string, [string, string]>();
  for (const [changeId, { code, detail, field }] of refusals) {
    const row = await find(tx, changeId);
    if (row?.state !== "pending") continue;
    tx.put("outbox", { ...row, state: "rejected", code, detail, field });
    told.push(changeId);
    batches.set(row.batch, [changeId, code]);
  }
  for (const [batch, cause] of batches) told.push(...(await stopBatch(tx, batch, ...cause)));
  return told;
}

/** Sets aside as refused what of a batch still waits, since `changeId`, which goes with it, was refused with `why`. */
async function stopBatch(tx: Transaction, batch: string, changeId: string, why: string): Promise<string[]> {
  const detail = `Goes together with ${changeId}, which was refused: ${why}.`;
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
  const rows = await tx.all("outbox", ["pending"], "state", 1);
  return rows.concat(await tx.all("outbox", ["acked"], "state", 1)).length > 0;
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
 * on top of their records. Returns the records that it changes.
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
  if (more && !changeIds[0]) return [];
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
    if (row.state === "pending") await stopBatch(tx, row.batch, row.changeId, code);
  }
}

/** The part of the queue in one state, in the order written. */
export async function listed(tx: Transaction, state: ChangeState): Promise<Queued[]> {
  return (await tx.all("outbox", [state], "state")).map(queuedOf);
}

export function queuedOf(row: OutboxRow): Queued {
  const { position: _position, size: _size, body, ...said } = row;
  return { ...said, space: row.space || null, change: parse(body) as JsonObject };
}
