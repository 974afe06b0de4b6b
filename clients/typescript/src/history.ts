/**
 * @syncd/client/history: what was, asked of the server: a record's changes, a record or a space at a moment, and the
 * way back to it. Functions on a Replica; all but `undo` need the server.
 */

import type { FieldsOf, Place, TableOf } from "./batch.js";
import { listOf, newId, objectOf, PERSONAL, readRegisters, spaceKey, textOf } from "./data/change.js";
import type { Registers } from "./data/merge.js";
import { type Row, rowOf } from "./data/row.js";
import { wayBack } from "./data/undo.js";
import { dump, type Json, type JsonObject } from "./data/values.js";
import { BadReply, NotAllowed, Refused } from "./errors.js";
import type { Replica } from "./replica.js";
import { load, pick } from "./store/records.js";
import { type ApiCall, apiClientOf, ask, segment } from "./sync/request.js";
import { claim } from "./sync/tokens.js";

/** A moment: after the change `seq` of the space, or at the instant `at` (RFC 3339). Neither means now. */
export interface Moment {
  readonly seq?: number;
  readonly at?: string;
}

type AnyFields = { readonly [field: string]: Json };

/** A record as it was. `complete` is false where the server's log no longer says all of it. */
export interface Version<F extends object = AnyFields> extends Row<F> {
  readonly seq: number;
  readonly registers: Registers;
  readonly complete: boolean;
}

/** A change of a record: `fields` took effect, `superseded` lost on arrival. `createdAt` is RFC 3339 text. */
export interface PastChange {
  readonly seq: number;
  readonly eventId: string;
  readonly op: "insert" | "update" | "delete";
  readonly user: string;
  readonly client: string;
  readonly changeId: string | null;
  readonly createdAt: string;
  readonly schemaVersion: number | null;
  readonly actor: Json;
  readonly origin: string | null;
  readonly fields: Registers;
  readonly superseded: Registers;
}

/** What a restore wrote: to which record, as which change of the space. */
export interface Restored {
  readonly table: string;
  readonly id: string;
  readonly seq: number;
}

/**
 * A record at a moment, deleted ones too; null if there was none. Raises InvalidQuery where there can be no such table or
 * record, Refused (`space_not_found`, `history_gone`), Offline, ServerBusy, NotAllowed, NotConnected, BadReply.
 */
export async function recordAt<S extends object, T extends TableOf<S>>(
  replica: Replica<S>,
  table: T,
  id: string,
  { space = null, seq, at }: Place & Moment = {},
): Promise<Version<FieldsOf<S, T>> | null> {
  const params = { ...inSpace(replica, space), ...given({ seq, at }) };
  try {
    return readVersion(
      await ask(apiClientOf(replica["exchange"]), { method: "GET", path: recordPath(table, id), params }),
      space,
    );
  } catch (error) {
    if (error instanceof Refused && error.code === "record_not_found") return null;
    throw error;
  }
}

/** Some of a record's changes, newest first. `next`: where the older ones begin, null where there are none. */
export interface ChangesPage {
  readonly changes: readonly PastChange[];
  readonly next: { readonly after: string } | { readonly before: number } | null;
}

/** The newest of a record's changes, or those from the `next` of an earlier page on. Raises what `changes` raises. */
export async function changesPage<S extends object>(
  replica: Replica<S>,
  table: TableOf<S>,
  id: string,
  {
    space = null,
    page = 100,
    next,
  }: Place & { readonly page?: number; readonly next?: ChangesPage["next"] } = {},
): Promise<ChangesPage> {
  const path = `${recordPath(table, id)}/history`;
  const params = { ...inSpace(replica, space), ...given({ limit: page, ...next }) };
  const found = await ask(apiClientOf(replica["exchange"]), { method: "GET", path, params });
  const read = listOf(found.changes).map((change) => readPast(objectOf(change)));
  if (found.hasMore !== true) return { changes: read, next: null };
  // An older server knows only the seq.
  const older = typeof found.next === "string" ? { after: found.next } : { before: read.at(-1)?.seq ?? 0 };
  return { changes: read, next: older };
}

/**
 * A record's changes, newest first, fetched `page` at a time as they are taken. Raises what `recordAt` raises, and Refused
 * `cursor_lost` where the server's database was restored meanwhile: what came is of a history that there is no more.
 */
export async function* changes<S extends object>(
  replica: Replica<S>,
  table: TableOf<S>,
  id: string,
  options: Place & { readonly page?: number } = {},
): AsyncGenerator<PastChange, void, undefined> {
  let next: ChangesPage["next"] = null;
  do {
    const found: ChangesPage = await changesPage(replica, table, id, { ...options, next });
    yield* found.changes;
    next = found.next;
  } while (next);
}

/** The records that lived in a space at a moment, fetched `page` at a time. Raises what `changes` raises. */
export async function* spaceAt<S extends object>(
  replica: Replica<S>,
  { space = null, seq, at, page = 1000 }: Place & Moment & { readonly page?: number } = {},
): AsyncGenerator<Version, void, undefined> {
  const path = `${await spacePath(replica, space)}/at`;
  let params = given({ seq, instant: at, limit: page });
  for (;;) {
    const found = await ask(apiClientOf(replica["exchange"]), { method: "GET", path, params });
    yield* listOf(found.records).map((record) => readVersion<AnyFields>(objectOf(record), space));
    if (found.hasMore !== true) return;
    params = given({ limit: page, after: textOf(found.next) });
  }
}

/**
 * Takes a record back to what it was after the change `seq`, as a new change, and fetches it. What is unsent is sent
 * first: it is part of what is taken back. Returns the new change's seq, to whose predecessor it can be restored in
 * turn. Raises what `recordAt` and `sync` raise.
 */
export async function restore<S extends object>(
  replica: Replica<S>,
  table: TableOf<S>,
  id: string,
  seq: number,
  { space = null }: Place = {},
): Promise<number> {
  const done = await restored(replica, `${recordPath(table, id)}/restore`, inSpace(replica, space), { seq });
  return Math.max(...done.map((change) => change.seq));
}

/**
 * Takes a whole space back to a moment, as one batch, and fetches it. Returns what changed; to undo it, restore to
 * the first seq less one. Raises what `restore` raises; Refused `restore_too_large` says how many records it would
 * concern.
 */
export async function restoreSpace<S extends object>(
  replica: Replica<S>,
  { space = null, seq, at }: Place & Moment,
): Promise<Restored[]> {
  const goal = { ...(seq === undefined ? {} : { seq }), ...(at === undefined ? {} : { instant: at }) };
  return restored(replica, `${await spacePath(replica, space)}/restore`, {}, goal);
}

/**
 * Takes back, as one batch, what an actor wrote in a space, and fetches it. Returns what changed. `actor`: what the changes'
 * actor has, say `{ agent: "tidy", run: "7" }`; less of it means more of them. What others wrote over it since stays.
 * `actor` is flat: up to ten texts, numbers, booleans or null. `seq`, `at`: only changes after that. To undo it, revert
 * `{ reverted: actor }`. Raises what `restore` raises; Refused `restore_too_large` and `history_gone` say so where it has to
 * be told since when.
 */
export async function revert<S extends object>(
  replica: Replica<S>,
  actor: JsonObject,
  { space = null, seq, at }: Place & Moment = {},
): Promise<Restored[]> {
  const since = { ...(seq === undefined ? {} : { seq }), ...(at === undefined ? {} : { instant: at }) };
  return restored(replica, `${await spacePath(replica, space)}/revert`, {}, { actor, ...since });
}

/**
 * Takes back the last write or batch of this tab since the replica was opened, as a new batch: twice is a redo.
 *
 * Works offline. What somebody else has written since stays. Returns the changeIds; none where nothing of it stands
 * any more, or nothing was written. Raises StoreFailed.
 */
export function undo<S extends object>(replica: Replica<S>): Promise<string[]> {
  const written = replica["written"];
  const { clientId } = replica;
  return replica["commit"](async (tx) => {
    const keys = written.map(({ key }) => key);
    const records = await load(tx, keys);
    return wayBack(written, (key) => pick(records, key).view, clientId, replica["extra"]);
  });
}

async function restored<S extends object>(
  replica: Replica<S>,
  path: string,
  params: ApiCall["params"],
  goal: JsonObject,
): Promise<Restored[]> {
  await replica.push();
  // The id makes it one restore, however often it has to be asked for.
  const body = dump({ ...goal, clientId: replica.clientId, changeId: newId(Date.now()) });
  const found = await ask(apiClientOf(replica["exchange"]), { method: "POST", path, params, body });
  await replica.pull();
  return listOf(found.results).map((result) => {
    const { table, id, seq } = objectOf(result);
    return { table: textOf(table), id: textOf(id), seq: wholeOf(seq) };
  });
}

function recordPath(table: string, id: string): string {
  return `/records/${segment("the table", table)}/${segment("the record id", id)}`;
}

/** The personal space is named by its user, whom the token tells. Raises NotAllowed. */
async function spacePath<S extends object>(replica: Replica<S>, space: string | null): Promise<string> {
  let name = replica["spaceOf"](space);
  if (name === PERSONAL) {
    const user = claim(await replica["exchange"].fresh(), "sub");
    if (typeof user !== "string") throw new NotAllowed("the token does not say whose personal space it is.");
    name = `_personal:${user}`;
  }
  return `/spaces/${segment("the space", name)}`;
}

function inSpace<S extends object>(
  replica: Replica<S>,
  space: string | null,
): { readonly [name: string]: string } {
  const spaceId = replica["spaceOf"](space);
  return spaceId === PERSONAL ? {} : { spaceId };
}

function given(params: { readonly [name: string]: string | number | undefined }): { [name: string]: string } {
  const known = Object.entries(params).filter(([, value]) => value !== undefined);
  return Object.fromEntries(known.map(([name, value]) => [name, String(value)]));
}

function readVersion<F extends object>(wire: JsonObject, space: string | null): Version<F> {
  const [table, id] = [textOf(wire.table), textOf(wire.id)];
  const registers = readRegisters(wire.fields, textOf(wire.clientId));
  const row = rowOf<F>({ space: spaceKey(space), table, id, view: registers });
  return { ...row, seq: wholeOf(wire.seq), registers, complete: wire.complete === true };
}

function readPast(wire: JsonObject): PastChange {
  const client = textOf(wire.clientId);
  return {
    seq: wholeOf(wire.seq),
    eventId: textOf(wire.eventId),
    op: textOf(wire.op) as PastChange["op"],
    user: textOf(wire.userId),
    client,
    changeId: typeof wire.changeId === "string" ? wire.changeId : null,
    createdAt: textOf(wire.createdAt),
    schemaVersion: typeof wire.schemaVersion === "number" ? wire.schemaVersion : null,
    actor: wire.actor ?? null,
    origin: typeof wire.origin === "string" ? wire.origin : null,
    fields: readRegisters(wire.fields, client),
    superseded: readRegisters(wire.superseded, client),
  };
}

function wholeOf(value: Json | undefined): number {
  if (!Number.isSafeInteger(value)) throw new BadReply("a whole number is missing.");
  return value as number;
}
