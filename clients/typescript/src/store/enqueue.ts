/** Writes of the application, stamped, shown in their records and queued. */

import { type Key, newId, stamped, type Write, type Written, writeChange } from "../data/change.js";
import { after, EPOCH, formatInstant, type Instant, LATEST, latest, MAX_AHEAD, tick } from "../data/clock.js";
import { type Registers, TOMBSTONE } from "../data/merge.js";
import { dump, type Json } from "../data/values.js";
import { BatchTooLarge, InvalidWrite, NoSuchRecord, NotAllowed, NotReplicated } from "../errors.js";
import { type LoadedRecords, load, pick, save } from "./records.js";
import { redate, resettle } from "./restamp.js";
import { keeps, spaceOf, type Transaction } from "./store.js";

/** How large a request may get. Bytes are of JSON; the server's defaults are 1,000 changes, 10 MiB. */
export interface Limits {
  readonly pushChanges: number;
  readonly pushBytes: number;
  readonly batchBytes: number;
  /** The largest change, as it is sent: SYNCD_MAX_CHANGE of the server. */
  readonly changeBytes: number;
  readonly pullLimit: number;
  /** Tables that a new replica gets before the others, comma-separated, at most 8. */
  readonly first?: string;
}

export const LIMITS: Limits = {
  pushChanges: 1000,
  pushBytes: 1 << 20,
  batchBytes: 8 << 20,
  changeBytes: 1 << 20,
  pullLimit: 1000,
};

/** A change that is ready to be queued. */
export interface ReadyChange {
  readonly changeId: string;
  readonly key: Key;
  readonly body: string;
  readonly batch: string;
}

/**
 * Stamps the writes, shows them in the records and queues them, as one batch unless `apart`. Returns them.
 * Raises BatchTooLarge, InvalidWrite, NotAllowed, NotReplicated, NoSuchRecord. What a migration (`apart`) says of a record that is not
 * there, or not kept, is left out.
 */
export async function enqueue(
  tx: Transaction,
  writes: readonly Write[],
  wall: number,
  limits: Limits,
  apart = false,
): Promise<Written[]> {
  const keys = writes.map((write) => write.key);
  if (!apart) await checkWriter(tx, keys);
  let records = await load(tx, keys);
  if (await redateStopped(tx, records, wall)) records = await load(tx, keys);
  const queued: (ReadyChange & Written)[] = [];
  for (const { op, key, values, extra, upsert } of writes) {
    const record = pick(records, key);
    const absent = op !== "insert" && !upsert && record.view.size === 0;
    if (apart && (absent || !keeps(tx.meta.asks, key))) continue;
    if (absent) throw new NoSuchRecord(`no record ${key[2]}.`);
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
  // What a migration writes must not keep the replica from opening: the server refuses it.
  if (!apart) checkSize(queued, limits);
  insert(tx, queued);
  save(tx, records);
  return queued;
}

async function checkWriter(tx: Transaction, keys: readonly Key[]): Promise<void> {
  checkKept(tx, keys);
  for (const space of new Set(keys.map(([space]) => space)))
    if ((await spaceOf(tx, space))?.role === "reader")
      throw new NotAllowed(`reader of ${space}.`, "not_a_writer");
}

/** Raises NotReplicated. */
export function checkKept({ meta }: Transaction, keys: readonly Key[]): void {
  const key = keys.find((key) => !keeps(meta.asks, key));
  if (key) throw new NotReplicated(`${key[1]}/${key[2]} is not kept.`);
}

/**
 * What was refused with a stamp of a clock that was set right since must not take a later write along into the future. Where
 * this clock is behind, a write may be far ahead of it, but not of what it was written over. Whether there was any.
 */
async function redateStopped(tx: Transaction, records: LoadedRecords, wall: number): Promise<boolean> {
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
 * back, and never one that the server has lowered there. Where the last of all instants was lowered, it is one shortly
 * before: there are more of those than fields.
 */
export function stampOver(tx: Transaction, view: Registers, names: Iterable<string>, wall: number): Instant {
  const { meta } = tx;
  const over = [...names].flatMap((name) => view.get(name) ?? []);
  const greatest = over.map(({ at }) => at).reduce(latest, EPOCH);
  meta.clock = tick(meta.clock, wall);
  let at = latest(meta.clock, after(greatest));
  while (over.some(({ sent }) => sent === at)) at = after(at, at === LATEST ? -over.length : 1);
  return at;
}

function checkSize(
  queued: readonly (ReadyChange & Written)[],
  { pushChanges, batchBytes, changeBytes }: Limits,
): void {
  const { length } = queued;
  let size = 0;
  for (const { body, registers } of queued) {
    const bytes = bytesOf(body);
    size += bytes;
    if (bytes <= changeBytes) continue;
    const longest = [...registers].sort(([, a], [, b]) => dump(b.value).length - dump(a.value).length);
    const [[field]] = longest as [[string, unknown]];
    throw new InvalidWrite(`${field} makes it longer than ${changeBytes}.`, field);
  }
  if (length > 1 && (length > pushChanges || size > batchBytes))
    throw new BatchTooLarge(
      `${length} changes, ${size} bytes; one push takes ${pushChanges}, ${batchBytes}.`,
    );
}

function bytesOf(text: string): number {
  return new TextEncoder().encode(text).length;
}

/** Queues changes at the end. */
export function insert(tx: Transaction, queued: readonly ReadyChange[]): void {
  for (const {
    changeId,
    key: [space, table, id],
    batch,
    body,
  } of queued)
    tx.put("outbox", {
      position: ++tx.meta.position,
      changeId,
      batch,
      space,
      table,
      id,
      state: "pending",
      body,
      size: bytesOf(body),
      code: null,
      detail: null,
    });
}
