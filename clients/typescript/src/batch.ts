/** Writes that the application asked for, checked at once and collected until they are committed. */

import { checkFields, checkId, checkSpace, type Key, type Op, spaceKey, type Write } from "./data/change.js";
import { TOMBSTONE } from "./data/merge.js";
import type { Json, JsonObject } from "./data/values.js";

/** The tables of an app and their fields; without a schema of your own, any table with any fields. */
export type AnyTables = { readonly [table: string]: { readonly [field: string]: Json } };
export type TableOf<S extends object> = keyof S & string;
export type FieldsOf<S extends object, T extends TableOf<S>> = S[T] extends object ? S[T] : never;

/** Where a record is: null, the default, is the user's personal space. */
export interface Place {
  readonly space?: string | null;
}

/** `upsert`: also where this device has no such record, say because it has not synced yet. */
export interface WriteOptions extends Place {
  readonly upsert?: boolean;
}

/**
 * Several writes that are seen all together or not at all: here, on the server and on other devices. Reads made
 * meanwhile do not see them yet. A `patch`, `delete` or `undelete` of a record that is neither on this device nor put in
 * the batch before, without `upsert`, raises NoSuchRecord where the batch is written: then nothing of it is.
 */
export class Batch<S extends object = AnyTables> {
  readonly writes: Write[] = [];
  readonly #extra: JsonObject;
  readonly #user: string;

  /** `user`: whose personal space may be named. */
  constructor(extra: JsonObject, user = "") {
    this.#extra = extra;
    this.#user = user;
  }

  /** Writes a record: creates it, or brings it back if deleted. Fields not named stay. Raises InvalidWrite. */
  put<T extends TableOf<S>>(table: T, id: string, fields: Partial<FieldsOf<S, T>>, place: Place = {}): void {
    const values = checkFields(fields, spaceKey(place.space)).set(TOMBSTONE, null);
    this.#add("insert", table, id, place, values);
  }

  /** Writes some fields of a record. A deleted record stays deleted. Raises InvalidWrite. */
  patch<T extends TableOf<S>>(
    table: T,
    id: string,
    fields: Partial<FieldsOf<S, T>>,
    place: WriteOptions = {},
  ): void {
    this.#add("update", table, id, place, checkFields(fields, spaceKey(place.space)));
  }

  /** Deletes a record. Its fields are kept, so that `undelete` brings them back. */
  delete(table: TableOf<S>, id: string, place: WriteOptions = {}): void {
    this.#add("delete", table, id, place, new Map());
  }

  /** Brings a deleted record back as it was. */
  undelete(table: TableOf<S>, id: string, place: WriteOptions = {}): void {
    this.#add("update", table, id, place, new Map([[TOMBSTONE, null]]));
  }

  #add(op: Op, table: string, id: string, { space, upsert }: WriteOptions, values: Map<string, Json>): void {
    const key: Key = [
      checkSpace(space, this.#user),
      checkId("the table", table),
      checkId("the record id", id),
    ];
    this.writes.push({ op, key, values, upsert, extra: this.#extra });
  }
}
