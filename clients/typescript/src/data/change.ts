/** A change as it travels: read from the wire, written to it, and checked before it is queued. Pure. */

import { BadReply, InvalidWrite } from "../errors.js";
import { EPOCH, type Instant, parseInstant } from "./clock.js";
import { type Register, type Registers, TOMBSTONE } from "./merge.js";
import { copy, dump, type Json, type JsonObject, kindOf } from "./values.js";

/** How a replica names the personal space; the wire leaves it out or says `_personal:<user>`. */
export const PERSONAL = "";
const PERSONAL_PREFIX = "_personal:";
const ID = /^(?!\.\.?$)[^\p{Cc}\p{Cs}]{1,255}$/u;

const OPS = ["insert", "update", "delete"] as const;
export type Op = (typeof OPS)[number];

/** (space, table, id). `space` is "" for the personal one. */
export type Key = readonly [space: string, table: string, id: string];

/** One write to one record. `whole`: the server has nothing else of the record; `erased`: values of it were erased. */
export interface Change {
  readonly changeId: string | null;
  readonly key: Key;
  readonly op: Op;
  readonly client: string;
  readonly registers: Registers;
  readonly whole: boolean;
  readonly erased: boolean;
}

/**
 * What the application asked for, checked, not yet stamped. A delete has no values of its own. `upsert`: also where there
 * is no such record; an insert always is.
 */
export interface Write {
  readonly op: Op;
  readonly key: Key;
  readonly values: ReadonlyMap<string, Json>;
  readonly extra: JsonObject;
  readonly upsert?: boolean | undefined;
}

/** A write that was queued: these registers, over those of `before` (empty: there was no such record). */
export interface Written {
  readonly changeId: string;
  readonly key: Key;
  readonly registers: Registers;
  readonly before: Registers;
}

/** A change on its way in a push. `body`: the text that is sent, and sent again; `size`: its bytes. */
export interface Packed {
  readonly changeId: string;
  readonly batch: string;
  readonly space: string;
  readonly body: string;
  readonly size: number;
}

/** Why a change was refused: the server's code, a sentence, and which of its fields is wrong, where one is named. */
export interface Refusal {
  readonly code: string;
  readonly detail: string;
  readonly field?: string | null | undefined;
}

/**
 * A value of this device (`mine`, `clientValue`) and one of another (`theirs`, `serverValue`), of which one was written
 * without having seen the other. lost: mine lost when it arrived. overwritten: theirs stands over mine. overwrote: mine
 * stands over theirs. deleted: mine, `{ field: value }`, went to a record that is deleted; theirs is when. `by`: the
 * device that theirs is of, where the server said so.
 */
export interface Conflict {
  readonly kind: "lost" | "overwritten" | "overwrote" | "deleted";
  readonly by?: string;
  readonly mine: Json;
  readonly theirs: Json;
  readonly space: string | null;
  readonly table: string;
  readonly id: string;
  readonly field: string;
  readonly clientValue: Json;
  readonly clientTimestamp: string;
  readonly serverValue: Json;
  readonly serverTimestamp: string;
}

/** How a space is named inside the replica: the personal one is always "". */
export function spaceKey(space: string | null | undefined): string {
  return !space || space.startsWith(PERSONAL_PREFIX) ? PERSONAL : space;
}

/** A text that names a record, for maps. */
export function keyText(key: Key): string {
  return JSON.stringify(key);
}

/** Keys, each once, by their texts. */
export function byText(keys: Iterable<Key>): Map<string, Key> {
  return new Map(Array.from(keys, (key) => [keyText(key), key]));
}

/** A UUIDv7 of the wall clock in milliseconds: ids that are made later sort later. */
export function newId(wall: number): string {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  const time = Math.floor(wall).toString(16).padStart(12, "0");
  const noise = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${time.slice(0, 8)}-${time.slice(8)}-7${noise.slice(0, 3)}-8${noise.slice(3, 6)}-${noise.slice(6)}`;
}

/** Raises BadReply where `value` is not an object, a text. */
export function objectOf(value: Json | undefined): JsonObject {
  if (kindOf(value) !== "object") throw new BadReply("no object.");
  return value as JsonObject;
}

export function textOf(value: Json | undefined): string {
  if (typeof value !== "string") throw new BadReply("no text.");
  return value;
}

/** Raises BadReply where `value` is none of `words`. */
export function oneOf<Word extends string>(words: readonly Word[], value: Json | undefined): Word {
  const word = words.find((name) => name === value);
  if (!word) throw new BadReply("no op.");
  return word;
}

/** A text that says something, else `otherwise`. */
export function textOr(value: Json | undefined, otherwise: string): string {
  return typeof value === "string" && value !== "" ? value : otherwise;
}

export function listOf(value: Json | undefined): readonly Json[] {
  const list = value ?? [];
  if (!Array.isArray(list)) throw new BadReply("no list.");
  return list as readonly Json[];
}

/** Reads a change of the server (or of the outbox, whose writer is `client`). Raises BadReply. */
export function readChange(wire: Json, client = ""): Change {
  const change = objectOf(wire);
  const writer = textOr(change.clientId, client);
  const op = oneOf(OPS, change.op);
  const registers: Registers =
    op === "insert" && change.data ? readData(objectOf(change.data), writer) : new Map();
  for (const [field, register] of readRegisters(change.fields, writer)) registers.set(field, register);
  if (op === "delete" && !registers.has(TOMBSTONE)) {
    const at = readInstant(change.deletedAt);
    registers.set(TOMBSTONE, { value: at, at, client: writer });
  }
  return {
    changeId: textOr(change.changeId, "") || null,
    key: [spaceKey(textOf(change.spaceId ?? "")), textOf(change.table), textOf(change.id)],
    op,
    client: writer,
    registers,
    whole: change.whole === true,
    erased: Object.values(change.fields ?? {}).some((register) => register.erased),
  };
}

/** The registers of the wire's `fields`, written by `writer` where they name nobody else. Raises BadReply. */
export function readRegisters(fields: Json | undefined, writer: string): Registers {
  const wire = Object.entries(objectOf(fields ?? {}));
  return new Map(wire.map(([field, register]) => [field, readRegister(objectOf(register), writer)]));
}

function readRegister(wire: JsonObject, writer: string): Register {
  if (wire.value === undefined) throw new BadReply("no value.");
  const client = textOr(wire.clientId, writer);
  const register = { value: wire.value, at: readInstant(wire.at ?? wire.updatedAt), client };
  return wire.sent ? { ...register, sent: readInstant(wire.sent) } : register;
}

let [lastText, lastInstant]: [Json | undefined, Instant] = [EPOCH, EPOCH];

/** Raises BadReply. The registers of a record often have one instant, which is then read once. */
export function readInstant(value: Json | undefined): Instant {
  try {
    if (value !== lastText) [lastText, lastInstant] = [value, parseInstant(textOf(value))];
    return lastInstant;
  } catch {
    throw new BadReply("no instant.");
  }
}

/** An insert of the first generation: every register at updatedAt, else createdAt, else the epoch. */
function readData(data: JsonObject, writer: string): Registers {
  const at = [data.updatedAt, data.createdAt].map(instantOf).find((found) => found) ?? EPOCH;
  return stamped(Object.entries(data), at, writer);
}

/** Values as registers with one stamp. */
export function stamped(values: Iterable<readonly [string, Json]>, at: Instant, client: string): Registers {
  return new Map(Array.from(values, ([field, value]) => [field, { value, at, client }]));
}

function instantOf(value: Json | undefined): Instant | undefined {
  try {
    return readInstant(value);
  } catch {
    return undefined;
  }
}

/** What a change says, before it has its wire form. `confirmed`: what the server has of the record, as far as known. */
export interface Draft {
  readonly changeId: string;
  readonly key: Key;
  readonly op: Op;
  readonly registers: Registers;
  readonly confirmed: Registers;
  readonly extra: JsonObject;
}

/**
 * The text that is sent, and sent again, for one change. It says what of others it is written over, so that a stamp
 * that the server lowers stays later than that.
 */
export function writeChange({ changeId, key, op, registers, confirmed, extra }: Draft): string {
  const [space, table, id] = key;
  const fields: [string, JsonObject][] = [];
  for (const [field, { value, at, client }] of registers) {
    const seen = confirmed.get(field);
    const base = seen && seen.client !== client ? { base: seen.at } : null;
    if (base || op !== "delete" || field !== TOMBSTONE) fields.push([field, { value, at, ...base }]);
  }
  return dump({
    changeId,
    table,
    id,
    op,
    spaceId: space || undefined,
    deletedAt: op === "delete" ? registers.get(TOMBSTONE)?.at : undefined,
    fields: fields[0] && Object.fromEntries(fields),
    ...extra,
  } as JsonObject); // which leaves out what is undefined
}

/** An id or a field name: 1 to 255 characters, no control characters, not `.` or `..`. Raises `Wrong`. */
export function checkId(
  name: string,
  text: unknown,
  Wrong: new (detail: string, field: string) => Error = InvalidWrite,
): string {
  if (typeof text !== "string" || !ID.test(text))
    throw new Wrong(`${name} must be 1 to 255 characters, no controls, not "." or "..".`, name);
  return text;
}

/**
 * A space as the application names it, by its name inside the replica of `user`. Raises `Wrong`, also for the personal
 * space of somebody else (or of anybody, while it is not known whose the replica is).
 */
export function checkSpace(
  space: string | null | undefined,
  user: string,
  Wrong: new (detail: string) => Error = InvalidWrite,
): string {
  if ((space ?? null) !== null) checkId("the space", space, Wrong);
  const key = spaceKey(space);
  if (space && key === PERSONAL && (user === "" || space !== PERSONAL_PREFIX + user))
    throw new Wrong(`${space} is not this user's.`);
  return key;
}

/** The values of a put or patch, copied, if the server would take them. Raises InvalidWrite with the field. */
export function checkFields(fields: object, space: string): Map<string, Json> {
  const entries = Object.entries(fields);
  if (!entries[0]) throw new InvalidWrite("a change needs at least one field.");
  return new Map(entries.map(([field, value]) => [checkField(field, space), copy(value, field, field, 1)]));
}

function checkField(field: string, space: string): string {
  checkId("a field name", field);
  if (field === TOMBSTONE) throw new InvalidWrite("deletedAt: use delete() and undelete().", field);
  if (field === "spaceId" && space === PERSONAL) {
    throw new InvalidWrite("spaceId: pass { space } instead.", field);
  }
  return field;
}
