/** A record as the application reads it. Pure. */

import { type Registers, TOMBSTONE } from "./merge.js";
import { freeze, type Json, type JsonObject, kindOf } from "./values.js";

/** A record as the application sees it. `space` is null in the personal space. */
export interface Row<F extends object = { readonly [field: string]: Json }> {
  readonly space: string | null;
  readonly table: string;
  readonly id: string;
  /** An instant, or null for a live record. */
  readonly deletedAt: string | null;
  /** Each of them may be missing: another device may have written only some. */
  readonly fields: Readonly<Partial<F>>;
}

/** A record with its registers. */
export interface Held {
  readonly space: string;
  readonly table: string;
  readonly id: string;
  readonly view: Registers;
}

/** The row of a record, for whoever reads it: not even the lists and objects in it can be changed. */
export function rowOf<F extends object>(record: Held): Row<F> {
  const { space, table, id, view } = record;
  const fields: [string, Json][] = [];
  for (const [field, { value }] of view) if (field !== TOMBSTONE) fields.push([field, value]);
  const deleted = view.get(TOMBSTONE)?.value ?? null;
  return freeze({
    space: space || null,
    table,
    id,
    deletedAt: deleted === null ? null : String(deleted),
    fields: Object.fromEntries(fields) as Partial<F>,
  });
}

/** What a record has at a path. `own`: its fields. */
export function valueAt(own: (field: string) => Json | undefined, path: string): Json {
  const held = own(path);
  if (held !== undefined) return held;
  const [field, ...names] = path.split(".") as [string, ...string[]];
  const at = (value: Json | undefined, name: string): Json | undefined =>
    kindOf(value) === "object" && Object.hasOwn(value as object, name) ? (value as JsonObject)[name] : null;
  return names.reduce(at, own(field)) ?? null;
}
