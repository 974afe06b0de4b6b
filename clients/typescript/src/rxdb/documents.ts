/** Documents of RxDB and registers of syncd: each of what the other says. Pure. */

import { checkFields, type Op } from "../data/change.js";
import { after, formatInstant, type Instant } from "../data/clock.js";
import { isDeleted, type Register, type Registers, TOMBSTONE } from "../data/merge.js";
import { type Json, same } from "../data/values.js";

/** A document with its mark of deletion, as RxDB's replication hands it over. */
export type Document = { readonly [field: string]: Json | undefined } & { readonly _deleted: boolean };

/** What a push of RxDB says of one document: as it is, and as the server had it when it was edited. */
export interface WriteRow {
  readonly newDocumentState: Document;
  readonly assumedMasterState?: Document | undefined;
}

/** What the adapter has to know of a collection's schema. */
export interface Shape {
  readonly primary: string;
  has(field: string): boolean;
  nullable(field: string): boolean;
}

interface Schema {
  readonly properties: { readonly [field: string]: { readonly type?: unknown } | undefined };
}

export function shapeOf(primary: string, { properties }: Schema): Shape {
  const types = (field: string): unknown => properties[field]?.type;
  return {
    primary,
    has: (field) => field !== primary && !field.startsWith("_") && Object.hasOwn(properties, field),
    nullable: (field) => types(field) === undefined || [types(field)].flat().includes("null"),
  };
}

/**
 * A record as a document. A field that is null is left out where the schema allows no null: that is what a field
 * that was removed has become. Fields that the schema does not have stay on the server.
 */
export function documentOf(id: string, registers: Registers, shape: Shape): Document {
  const fields: [string, Json][] = [];
  for (const [field, { value }] of registers) {
    if (shape.has(field) && (value !== null || shape.nullable(field))) fields.push([field, plain(value)]);
  }
  return { ...Object.fromEntries(fields), [shape.primary]: id, _deleted: isDeleted(registers) };
}

/** Documents hold no big integers: they become numbers, rounded. They are never written back unless edited. */
function plain(value: Json): Json {
  if (typeof value === "bigint") return Number(value);
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(plain);
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, plain(part)]));
}

/** Whether two documents say the same. */
export function sameDocument(one: Document, other: Document, shape: Shape): boolean {
  if (one._deleted !== other._deleted) return false;
  if (one._deleted) return true;
  const fields = new Set([...Object.keys(one), ...Object.keys(other)].filter(shape.has));
  return [...fields].every((field) => sameField(field, one[field], other[field], shape));
}

/** A field that is missing is null, except where the schema tells the two apart. */
function sameField(field: string, one: Json | undefined, other: Json | undefined, shape: Shape): boolean {
  if (shape.nullable(field) && (one === undefined) !== (other === undefined)) return false;
  return same(one ?? null, other ?? null);
}

/**
 * The fields that an edit changed, against what the device knew of the server, and that the server does not have so
 * already. One that was removed is null.
 */
function edited(
  { newDocumentState: now, assumedMasterState: then }: WriteRow,
  held: Registers,
  shape: Shape,
): Map<string, Json> {
  const fields = [...new Set([...Object.keys(now), ...Object.keys(then ?? {})])].filter(shape.has);
  const changed = fields.filter((field) => {
    const register = held.get(field);
    if (register !== undefined && same(plain(register.value), now[field] ?? null)) return false;
    return then === undefined || !sameField(field, now[field], then[field], shape);
  });
  return new Map(changed.map((field) => [field, now[field] ?? null]));
}

/**
 * The fields of a document that comes back: all that it has, because the server may have forgotten the deleted record,
 * and null for those that it had before.
 */
function whole({ newDocumentState: now }: WriteRow, held: Registers, shape: Shape): Map<string, Json> {
  const before = [...held.keys()].filter((field) => (held.get(field)?.value ?? null) !== null);
  const fields = [...new Set([...Object.keys(now), ...before])].filter(shape.has);
  return new Map(fields.map((field) => [field, now[field] ?? null]));
}

/**
 * Whose write it is, and in which space ("" is the personal one). `sent`: the stamp of the document as it was sent before,
 * if it was and nothing is known of what became of it.
 */
export interface Writer {
  readonly client: string;
  readonly space: string;
  readonly sent: Instant | undefined;
}

/** The write that an edit is. */
export interface Edit {
  readonly op: Op;
  readonly registers: Registers;
}

/**
 * The write that turns what the device knew into what it has, field by field; null where there is nothing to write.
 * `held`: the server's registers as far as they are known here; `lwt`: when RxDB wrote the document, in milliseconds.
 * What was edited knowingly is stamped later than what it replaces, whatever this device's clock says. Raises
 * InvalidWrite.
 */
export function editOf(
  row: WriteRow,
  held: Registers,
  lwt: number,
  shape: Shape,
  { client, space, sent }: Writer,
): Edit | null {
  const at = formatInstant(Math.floor(lwt), Math.round((lwt % 1) * 1000) % 1000);
  const { newDocumentState: now, assumedMasterState: then } = row;
  if (now._deleted && held.size === 0) return unmade(at, sent, client);
  // Editing a field of what somebody else has deleted meanwhile does not bring it back.
  const was = then?._deleted ?? isDeleted(held);
  const turned = now._deleted !== was && now._deleted !== isDeleted(held);
  const back = turned && !now._deleted;
  const values = back ? whole(row, held, shape) : edited(row, held, shape);
  const checked = values.size > 0 ? checkFields(Object.fromEntries(values), space) : values;
  const registers: Registers = new Map();
  for (const [field, value] of checked) {
    registers.set(field, { value, at: later(at, held.get(field), then?.[field]), client });
  }
  if (turned || (held.size === 0 && registers.size === 0)) {
    const stamp = later(at, held.get(TOMBSTONE), held.get(TOMBSTONE)?.value);
    registers.set(TOMBSTONE, { value: now._deleted ? stamp : null, at: stamp, client });
  }
  if (registers.size === 0) return null;
  if (turned && now._deleted) return { op: "delete", registers };
  return { op: back || then === undefined ? "insert" : "update", registers };
}

/** The deletion of what was made here: none where nobody can have seen it. */
function unmade(at: Instant, sent: Instant | undefined, client: string): Edit | null {
  if (sent === undefined) return null;
  const stamp = sent < at ? at : after(sent);
  return { op: "delete", registers: new Map([[TOMBSTONE, { value: stamp, at: stamp, client }]]) };
}

/** A stamp that is later than the register's, if that is the value which was edited (and not a newer one). */
function later(at: Instant, held: Register | undefined, known: Json | undefined): Instant {
  if (held === undefined || held.at < at || !same(plain(held.value), known ?? null)) return at;
  return after(held.at);
}
