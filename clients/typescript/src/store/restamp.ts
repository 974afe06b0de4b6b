/** Changes that stopped, given other stamps, and their records shown as the queue says then. */

import { type Key, readChange, writeChange } from "../data/change.js";
import type { Instant } from "../data/clock.js";
import type { Registers } from "../data/merge.js";
import { type JsonObject, parse } from "../data/values.js";
import { load, pick, save, settle } from "./records.js";
import { keyOf, type OutboxRow, type Transaction } from "./store.js";

/**
 * What is stopped here with a stamp beyond `bound`, of a clock that was ahead, gets one that is as old as it is: that of
 * `dates`, by changeId, else `otherwise`. Returns the records that it changes.
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
    if (!edits.size) continue;
    tx.put("outbox", { ...row, body: await rewrite(tx, row, row.changeId, keyOf(row), edits) });
    dated.push(keyOf(row));
  }
  return dated;
}

/** The text of a change with other registers, another id or another place. */
export async function rewrite(
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

/** Shows again what the queue says, after it was changed by hand. */
export async function resettle(tx: Transaction, keys: readonly Key[]): Promise<void> {
  const records = await load(tx, keys);
  for (const record of records.values()) record.write(new Map());
  await settle(tx, records);
  save(tx, records);
}
