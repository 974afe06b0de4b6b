/** Writes that the application asked for, checked at once and collected until they are committed. */

import { checkFields, checkId, checkSpace, type Key, type Op, spaceKey, type Write } from "./data/change.js";
import { isDeleted, TOMBSTONE } from "./data/merge.js";
import { type Held, type Row, rowOf } from "./data/row.js";
import { dump, type Json, type JsonObject } from "./data/values.js";
import { NoSuchRecord } from "./errors.js";

/** The tables of an app and their fields; without a schema of your own, any table with any fields. */
export type AnyTables = { readonly [table: string]: { readonly [field: string]: Json } };
export type TableOf<S extends object> = keyof S & string;
/** Some fields of a record. */
export type Fields<S extends object, T extends TableOf<S>> = Partial<FieldsOf<S, T>>;
export type FieldsOf<S extends object, T extends TableOf<S>> = S[T] extends object ? S[T] : never;

/** Where a record is: null, the default, is the user's personal space. */
export interface Place {
  readonly space?: string | null;
}

/** Reads a record as it is stored. */
export type ReadRecord = (key: Key) => Promise<Held | undefined>;

/**
 * Several writes that are seen all together or not at all: here, on the server and on other devices. Reads made
 * meanwhile do not see them yet.
 */
export class Batch<S extends object = AnyTables> {
  readonly writes: Write[] = [];
  readonly #extra: JsonObject;
  readonly #user: string;
  readonly #read: ReadRecord | undefined;
  readonly #seen = new Map<Key, string>();

  /** `user`: whose personal space may be named. `read`: a record as it is stored. */
  constructor(extra: JsonObject, user = "", read?: ReadRecord) {
    this.#extra = extra;
    this.#user = user;
    this.#read = read;
  }

  /**
   * A record as it was before this batch, or null. Where somebody else wrote it before the batch was written, the batch is
   * made again: what is written is made of what was read. Raises InvalidWrite.
   */
  async get<T extends TableOf<S>>(
    table: T,
    id: string,
    place: Place = {},
  ): Promise<Row<FieldsOf<S, T>> | null> {
    const key = this.#key(table, id, place);
    const row = await this.#read?.(key);
    this.#seen.set(key, registersText(row));
    return row && !isDeleted(row.view) ? rowOf(row) : null;
  }

  /** Its writes, or none where something that was read reads differently now. */
  async plan(read: ReadRecord): Promise<readonly Write[]> {
    for (const [key, text] of this.#seen) if (registersText(await read(key)) !== text) return [];
    return this.writes;
  }

  /** Writes a record: creates it, or brings it back if deleted. Fields not named stay. Raises InvalidWrite. */
  put<T extends TableOf<S>>(table: T, id: string, fields: Fields<S, T>, place: Place = {}): void {
    const values = checkFields(fields, spaceKey(place.space)).set(TOMBSTONE, null);
    this.#add("insert", table, id, place, values);
  }

  /** Writes some fields of a record. A deleted record stays deleted. Raises InvalidWrite. */
  patch<T extends TableOf<S>>(table: T, id: string, fields: Fields<S, T>, place: Place = {}): void {
    this.#add("update", table, id, place, checkFields(fields, spaceKey(place.space)));
  }

  /** Deletes a record. Its fields are kept, so that `undelete` brings them back. */
  delete(table: TableOf<S>, id: string, place: Place = {}): void {
    this.#add("delete", table, id, place, new Map());
  }

  /** Brings a deleted record back as it was. */
  undelete(table: TableOf<S>, id: string, place: Place = {}): void {
    this.#add("update", table, id, place, new Map([[TOMBSTONE, null]]));
  }

  #add(op: Op, table: string, id: string, place: Place, values: Map<string, Json>): void {
    this.writes.push({ op, key: this.#key(table, id, place), values, extra: this.#extra });
  }

  #key(table: string, id: string, { space }: Place): Key {
    if (space !== null && space !== undefined) checkId("the space", space);
    return [checkSpace(space, this.#user), checkId("the table", table), checkId("the record id", id)];
  }
}

/** The writes of a replica. */
export abstract class Writer<S extends object = AnyTables> {
  protected abstract begin(): Batch<S>;
  /** Returns the changeIds; none where what the batch read reads differently now. */
  protected abstract write(batch: Batch<S>): Promise<string[]>;

  /** Writes a record: creates it, or brings it back if deleted. Fields not named stay. Returns the changeId. */
  put<T extends TableOf<S>>(table: T, id: string, fields: Fields<S, T>, place?: Place): Promise<string> {
    return this.#one((batch) => batch.put(table, id, fields, place));
  }

  /** Writes some fields of a record. A deleted record stays deleted. Returns the changeId. */
  patch<T extends TableOf<S>>(table: T, id: string, fields: Fields<S, T>, place?: Place): Promise<string> {
    return this.#one((batch) => batch.patch(table, id, fields, place));
  }

  /**
   * Patches a record with what `change` makes of it, and no other write of this device comes between: `change` may be
   * called again. Returns the changeId. Raises NoSuchRecord.
   */
  update<T extends TableOf<S>>(
    table: T,
    id: string,
    change: (row: Row<FieldsOf<S, T>>) => Fields<S, T>,
    place?: Place,
  ): Promise<string> {
    return this.#one(async (batch) => {
      const row = await batch.get(table, id, place);
      if (row === null) throw new NoSuchRecord(id);
      batch.patch(table, id, change(row), place);
    });
  }

  /** Deletes a record; `undelete` brings it back as it was. Returns the changeId. */
  delete(table: TableOf<S>, id: string, place?: Place): Promise<string> {
    return this.#one((batch) => batch.delete(table, id, place));
  }

  /** Brings a deleted record back. Returns the changeId. */
  undelete(table: TableOf<S>, id: string, place?: Place): Promise<string> {
    return this.#one((batch) => batch.undelete(table, id, place));
  }

  async #one(write: (batch: Batch<S>) => void | Promise<void>): Promise<string> {
    const [changeId = ""] = await this.batch(write);
    return changeId;
  }

  /**
   * Several writes as one: one transaction here and one push, never split, all or nothing on the server. Returns the
   * changeIds. Raises BatchTooLarge, and what `write` raises; nothing is written then. `write` is called again where
   * what it read was written by somebody else meanwhile.
   */
  async batch(write: (batch: Batch<S>) => void | Promise<void>): Promise<string[]> {
    for (;;) {
      const batch = this.begin();
      await write(batch);
      const written = batch.writes[0] ? await this.write(batch) : [];
      if (written[0] || !batch.writes[0]) return written;
    }
  }
}

/** What tells whether a record was written between two reads. */
function registersText(row: Held | undefined): string {
  return dump([...(row?.view ?? [])] as unknown as Json);
}
