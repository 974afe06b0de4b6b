/** Records of the store: loaded many at a time, merged in memory, saved many at a time. */

import { byText, type Key, keyText, readChange } from "../data/change.js";
import { isDeleted, merge, overlay, type Registers } from "../data/merge.js";
import { parse, same } from "../data/values.js";
import { keyOf, type Meta, type RecordRow, type Transaction } from "./store.js";

/**
 * A record in memory: what the server confirmed (`base`), and what the application sees (`view`). They are one
 * and the same map while nothing unsent lies on top (`layered` is false).
 */
export class LoadedRecord {
  declare readonly key: Key;
  /** What the application read when it was loaded; empty where there was nothing. */
  declare readonly before: Registers;
  declare view: Registers;
  declare base: Registers;
  declare layered: boolean;
  declare round: number;
  dirty = false;

  constructor(key: Key, row: RecordRow | undefined, round: number) {
    this.key = key;
    this.before = row?.view ?? new Map();
    this.view = new Map(this.before);
    this.layered = !!row?.base;
    this.base = row?.base ? new Map(row.base) : this.view;
    this.round = row?.round ?? round;
  }

  /** An own write that waits in the outbox. */
  write(registers: Registers): void {
    if (!this.layered) {
      this.view = new Map(this.base);
      this.layered = true;
    }
    merge(this.view, registers);
    this.dirty = true;
  }

  /** Registers that the server has. Those that are `whole`, or the first of a new round, replace what was known. */
  confirm(registers: Registers, round: number, whole?: boolean): void {
    if (whole || this.round !== round) {
      this.round = round;
      this.dirty = true;
      this.base = new Map();
      if (!this.layered) this.view = this.base;
    }
    if (merge(this.base, registers)) this.dirty = true;
  }

  /** What is still unsent, laid on top of what is confirmed. */
  settle(pending: readonly Registers[]): void {
    this.layered = pending.length > 0;
    this.view = this.layered ? overlay(this.base, pending) : this.base;
    this.dirty = true;
  }

  /** Whether the application reads something else than before. */
  get differs(): boolean {
    if (this.before.size !== this.view.size) return true;
    for (const [field, { value }] of this.view) {
      const old = this.before.get(field);
      if (old === undefined || !same(old.value, value)) return true;
    }
    return false;
  }

  get row(): RecordRow {
    const [space, table, id] = this.key;
    const { layered, round, view, base } = this;
    return { space, table, id, deleted: isDeleted(view), round, view, base: layered ? base : null };
  }
}

export type LoadedRecords = Map<string, LoadedRecord>;

/** The records of all `keys`, by `keyText`; an empty one where the store has none. */
export async function load(tx: Transaction, keys: Iterable<Key>): Promise<LoadedRecords> {
  const wanted = byText(keys);
  const rows = await tx.among([...wanted.values()]);
  const held = new Map(rows.map((row) => [keyText(keyOf(row)), row]));
  return new Map(
    Array.from(wanted, ([text, key]) => [text, new LoadedRecord(key, held.get(text), tx.meta.round)]),
  );
}

/** One record of those that were loaded; the caller knows that it was. */
export function pick(records: LoadedRecords, key: Key): LoadedRecord {
  return records.get(keyText(key)) as LoadedRecord;
}

/** Lays what is still unsent on top of what is confirmed, after either has changed. */
export async function settle(tx: Transaction, records: LoadedRecords): Promise<void> {
  const layered = [...records.values()].filter((record) => record.layered);
  const queued = await Promise.all(layered.map((record) => tx.all("outbox", record.key, "record")));
  for (const [place, record] of layered.entries()) {
    const unsent = (queued[place] ?? []).filter((row) => row.state !== "aside");
    record.settle(unsent.map((row) => readChange(parse(row.body), tx.meta.client).registers));
  }
}

/** Writes the records that changed; one without a register is none. Returns those that read differently now. */
export function save(tx: Transaction, records: LoadedRecords): Key[] {
  const changed: Key[] = [];
  for (const record of records.values()) {
    if (!record.dirty) continue;
    if (record.view.size) tx.put("records", record.row);
    else tx.delete("records", record.key);
    if (record.differs) changed.push(record.key);
  }
  return changed;
}

/**
 * The end of a restart from an empty cursor: what the server did not send again, it does not have. Unsent writes
 * stay, on top of nothing.
 */
export async function dropUnconfirmed(tx: Transaction): Promise<void> {
  const { round } = tx.meta;
  const stale = (await tx.all("records")).filter((row) => row.round !== round);
  const records = await load(tx, stale.map(keyOf));
  for (const record of records.values()) record.confirm(new Map(), round);
  await settle(tx, records);
  save(tx, records);
  tx.meta.restarting = false;
}

/** The server does not know the cursor: everything is asked for again. The outbox stays as it is. Returns the few values. */
export async function beginRestart(tx: Transaction): Promise<Meta> {
  const { meta } = tx;
  meta.cursor = meta.roles = "";
  meta.acked = [];
  meta.restarting = true;
  meta.round += 1;
  const spaces = await tx.all("spaces");
  meta.told = spaces.concat(meta.told ?? []);
  for (const { id } of spaces) tx.delete("spaces", [id]);
  return meta;
}
