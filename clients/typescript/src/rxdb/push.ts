/** The push handler: edited documents as changes of their fields, and the server's word on each. */

import {
  checkId,
  type Key,
  listOf,
  newId,
  objectOf,
  readInstant,
  textOf,
  writeChange,
} from "../data/change.js";
import { EPOCH, type Instant, latest } from "../data/clock.js";
import { isDeleted, merge, type Registers } from "../data/merge.js";
import { dump, type Json, type JsonObject, parse } from "../data/values.js";
import { InvalidWrite, Refused, SyncdError } from "../errors.js";
import { ask, Blamed } from "../sync/request.js";
import { type Document, documentOf, type Edit, editOf, sameDocument, type WriteRow } from "./documents.js";
import type { Feed } from "./feed.js";
import type { Rejected } from "./shadow.js";

/** A change on its way: `text` is its JSON, `id` its record's. */
interface Outgoing {
  readonly id: string;
  readonly changeId: string;
  readonly text: string;
}

/** The change that a row of RxDB became. */
interface Sent extends Outgoing {
  readonly row: WriteRow;
  readonly edit: Edit;
}

/** Makes a short text of a long one, always the same. */
export type Hash = (text: string) => Promise<string>;

/** The server's word on a change: what it lost to, and which stamps were lowered; or why it was refused. */
interface PushAnswer {
  readonly refused: { readonly code: string; readonly detail: string } | null;
  readonly lowered: ReadonlyMap<string, string>;
  readonly lost: Registers;
}

/** Documents that the server has otherwise: for RxDB to take over, and those that were edited again meanwhile. */
export interface Pushed {
  readonly differing: Document[];
  readonly edited: ReadonlySet<string>;
}

/**
 * Sends what was edited, and returns the documents that the server has otherwise: merged with what others wrote, or
 * without an edit that was refused, which is kept with its reason. Repeating it has no further effect. Raises what `ask`
 * raises; nothing is lost then, and RxDB calls again.
 */
export function push(feed: Feed, rows: readonly WriteRow[], hash: Hash): Promise<Pushed> {
  return renamed(feed, async () => {
    const rejected: Rejected[] = [];
    const sent = await prepare(feed, rows, hash, rejected);
    const words = await send(feed, sent);
    const differing = await feed.alone(() => noteAnswers(feed, rows, sent, words, rejected));
    return withoutEdited(feed, rows, differing, new Set(rejected.map(({ id }) => id)));
  });
}

/**
 * RxDB takes over no document that was edited again while it was pushed. Told of it, it would not note what was pushed
 * either, and take the next edit for one of what was there before: what it puts back would not be sent. So it is told of
 * those alone that were refused, which the server does not have.
 */
async function withoutEdited(
  feed: Feed,
  rows: readonly WriteRow[],
  differing: readonly Document[],
  refused: ReadonlySet<string>,
): Promise<Pushed> {
  const idOfDocument = (document: Document): string => String(document[feed.shape.primary]);
  const pushed = new Map(rows.map((row) => [idOf(feed, row), row.newDocumentState]));
  const written = await feed.written(differing.map(idOfDocument));
  const edited = differing.map(idOfDocument).filter((id) => {
    const [then, now] = [pushed.get(id), written.get(id)?.document];
    return then !== undefined && now !== undefined && !sameDocument(then, now, feed.shape);
  });
  const untold = new Set(edited.filter((id) => !refused.has(id)));
  return {
    differing: differing.filter((document) => !untold.has(idOfDocument(document))),
    edited: new Set(edited),
  };
}

/** Does it once more, under another client id, where the server has heard of another copy of the database. */
async function renamed<T>({ shadow }: Feed, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Refused) || error.code !== "device_copied") throw error;
    await shadow.copied();
    return work();
  }
}

/** The changes of some edits, which may be on the server from when they are returned on. */
async function prepare(
  feed: Feed,
  rows: readonly WriteRow[],
  hash: Hash,
  rejected: Rejected[],
): Promise<Sent[]> {
  const ids = rows.map((row) => idOf(feed, row));
  const { client } = await feed.apiClient();
  const [shades, written] = [await feed.shadow.of(ids), await feed.written(ids)];
  const unanswered = await feed.shadow.unanswered();
  const sent: Sent[] = [];
  for (const [place, row] of rows.entries()) {
    const id = ids[place] ?? "";
    const held = shades.get(id)?.registers ?? new Map();
    try {
      checkId("the record id", id); // one that JSON cannot carry would keep all others from being sent
      const edit = editOf(row, held, written.get(id)?.at ?? Date.now(), feed.shape, {
        client,
        space: feed.space,
        sent: unanswered.get(id),
      });
      if (edit !== null) sent.push(await outgoingOf(feed, id, row, edit, held, hash));
    } catch (error) {
      if (!(error instanceof InvalidWrite)) throw error;
      const { code, detail } = error;
      const fields = row.newDocumentState as unknown as JsonObject;
      rejected.push(refusal(newId(Date.now()), id, row, { op: "update", fields }, { code, detail }));
    }
  }
  const made = sent.filter(({ id, edit }) => !shades.has(id) && edit.op !== "delete");
  await feed.shadow.sending(new Map(made.map(({ id, edit }) => [id, stampOf(edit)])));
  return sent;
}

function stampOf({ registers }: Edit): Instant {
  return Array.from(registers.values(), ({ at }) => at).reduce(latest, EPOCH);
}

export function idOf({ shape }: Feed, { newDocumentState }: WriteRow): string {
  return String(newDocumentState[shape.primary]);
}

/** The id of a change is made of what it says, so that the same edit is the same change, after a crash too. */
async function outgoingOf(
  { table, space }: Feed,
  id: string,
  row: WriteRow,
  edit: Edit,
  confirmed: Registers,
  hash: Hash,
): Promise<Sent> {
  const said = { key: [space, table, id] as Key, ...edit, extra: {} };
  const changeId = (await hash(writeChange({ changeId: "", confirmed: new Map(), ...said }))).slice(0, 64);
  return { id, row, edit, changeId, text: writeChange({ changeId, confirmed, ...said }) };
}

/** Sends the changes, in parts if need be. A change at fault is refused alone. */
async function send(feed: Feed, changes: readonly Outgoing[]): Promise<Map<string, PushAnswer>> {
  const words = new Map<string, PushAnswer>();
  let rest = [...changes];
  let most = rest.length;
  while (rest.length > 0) {
    const part = rest.slice(0, most);
    try {
      for (const [changeId, word] of await sendPart(feed, part)) words.set(changeId, word);
    } catch (error) {
      const refused = refusedBy(error, part);
      if (
        refused.size === 0 &&
        part.length > 1 &&
        error instanceof Blamed &&
        [413, 422].includes(error.status)
      ) {
        most = Math.ceil(part.length / 2);
        continue;
      }
      if (refused.size === 0) throw error;
      for (const [changeId, word] of refused) words.set(changeId, word);
    }
    rest = rest.filter(({ changeId }) => !words.has(changeId));
  }
  return words;
}

/** The changes that a whole refusal is about. */
function refusedBy(error: unknown, part: readonly Outgoing[]): Map<string, PushAnswer> {
  const refused = new Map<string, PushAnswer>();
  if (!(error instanceof Blamed) || ![400, 413, 422].includes(error.status)) return refused;
  const alone = part.length === 1 && error.status !== 400 ? [[0, error] as const] : [];
  for (const [place, { code, detail }] of [...alone, ...error.blamed]) {
    const change = part[place];
    if (change !== undefined) {
      refused.set(change.changeId, { refused: { code, detail }, lowered: new Map(), lost: new Map() });
    }
  }
  return refused;
}

async function sendPart(feed: Feed, part: readonly Outgoing[]): Promise<Map<string, PushAnswer>> {
  const { schemaVersion, shadow } = feed;
  const { client, incarnations } = await shadow.present();
  const apiClient = { ...(await feed.apiClient()), client };
  const head = dump({
    clientId: client,
    incarnations,
    pull: false,
    ...(schemaVersion === null ? {} : { schemaVersion }),
  });
  const body = `${head.slice(0, -1)},"changes":[${part.map(({ text }) => text).join(",")}]}`;
  const answer = await ask(apiClient, { method: "POST", path: "", params: {}, body });
  const results = listOf(answer.results).map((result) => objectOf(result));
  const applied = part.filter((_, place) => results[place]?.status === "applied").at(-1);
  if (applied !== undefined) await shadow.acknowledge(client, applied.changeId);
  await shadow.answered(incarnations.at(-1));
  const conflicts = listOf(answer.conflicts).map((conflict) => objectOf(conflict));
  return new Map(
    part.map(({ id, changeId }, place) => {
      const lost = conflicts.filter((conflict) => conflict.id === id);
      return [changeId, readAnswer(results[place] ?? {}, lost)];
    }),
  );
}

function readAnswer(result: JsonObject, conflicts: readonly JsonObject[]): PushAnswer {
  const { status, code = "rejected", detail = "" } = result;
  const lowered = Object.entries(objectOf(result.at ?? {})).map(
    ([field, at]) => [field, readInstant(at)] as const,
  );
  // The winner's writer comes with the next pull, which a nameless client lets win.
  const lost = conflicts.map(({ field, serverValue = null, serverTimestamp }) => {
    return [textOf(field), { value: serverValue, at: readInstant(serverTimestamp), client: "" }] as const;
  });
  const refused = status === "rejected" ? { code: String(code), detail: String(detail) } : null;
  return { refused, lowered: new Map(lowered), lost: new Map(lost) };
}

/** Takes note of what the server has now, and of what it refused. */
async function noteAnswers(
  feed: Feed,
  rows: readonly WriteRow[],
  sent: readonly Sent[],
  words: ReadonlyMap<string, PushAnswer>,
  rejected: Rejected[],
): Promise<Document[]> {
  const shades = await feed.shadow.of(rows.map((row) => idOf(feed, row)));
  for (const { id, row, edit, changeId, text } of sent) {
    const word = words.get(changeId);
    if (word === undefined) continue;
    if (word.refused !== null) {
      rejected.push(refusal(changeId, id, row, parse(text) as JsonObject, word.refused));
      continue;
    }
    const shade = shades.get(id);
    const held = new Map(shade?.registers);
    merge(held, accepted(edit, word));
    merge(held, word.lost);
    shades.set(id, { id, round: shade?.round ?? 0, pushed: Date.now(), registers: held });
  }
  await feed.shadow.keep(shades.values());
  await feed.shadow.reject(rejected);
  await feed.shadow.settled(rows.map((row) => idOf(feed, row)));
  return different(feed, rows, (id) => shades.get(id)?.registers);
}

/** An edit's registers as the server took them. */
function accepted({ registers }: Edit, { lowered, lost }: PushAnswer): Registers {
  const taken = Array.from(registers).filter(([field]) => !lost.has(field));
  return new Map(
    taken.map(([field, register]) => {
      const at = lowered.get(field) ?? register.at;
      return [field, at === register.at ? register : { ...register, at, sent: register.at }];
    }),
  );
}

/** The server's documents where they differ from the device's. What the server does not have is deleted. */
function different(
  feed: Feed,
  rows: readonly WriteRow[],
  held: (id: string) => Registers | undefined,
): Document[] {
  const documents: Document[] = [];
  for (const row of rows) {
    const id = idOf(feed, row);
    const registers = held(id);
    const known = registers ?? new Map();
    const document = {
      ...documentOf(id, known, feed.shape),
      _deleted: registers === undefined || isDeleted(known),
    };
    if (!sameDocument(document, row.newDocumentState, feed.shape)) documents.push(document);
  }
  return documents;
}

function refusal(
  changeId: string,
  id: string,
  { newDocumentState: document }: WriteRow,
  change: { readonly [name: string]: Json },
  { code, detail }: { readonly code: string; readonly detail: string },
): Rejected {
  return { changeId, id, op: change.op as Rejected["op"], code, detail, change, document };
}

/** Sends a refused edit once more, under an id of its own. Raises what `ask` raises, and a refusal as SyncdError. */
export async function again(feed: Feed, { id, change }: Rejected): Promise<void> {
  const changeId = newId(Date.now());
  const words = await renamed(feed, () =>
    send(feed, [{ id, changeId, text: dump({ ...change, changeId }) }]),
  );
  const refused = words.get(changeId)?.refused ?? null;
  if (refused !== null) throw new SyncdError(refused.code, refused.detail);
}
