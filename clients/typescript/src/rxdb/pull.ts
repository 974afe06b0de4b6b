/** The pull handler: what the server tells since a cursor, as documents that are whole. */

import { type Change, listOf, readChange, spaceKey, textOf } from "../data/change.js";
import { formatInstant } from "../data/clock.js";
import { merge } from "../data/merge.js";
import type { Json, JsonObject } from "../data/values.js";
import { Refused } from "../errors.js";
import { ask } from "../sync/request.js";
import { type Document, documentOf } from "./documents.js";
import type { Feed } from "./feed.js";
import { type Acked, goneRecord, type ShadowRecord } from "./shadow.js";

/**
 * Where a replication stands. `cursor` is the server's. `round` names the start from "" that it goes back to, and
 * `starting` says that not everything of it has come yet. `past` is the number of the last acknowledged change of the
 * device's own that it is past: kept with the cursor, it is never ahead of it. `unsure` says that the start was over
 * while the answer to a push was not yet older than its last page: the next page tells of that.
 */
export interface Checkpoint {
  readonly cursor: string;
  readonly round: number;
  readonly starting: boolean;
  readonly past?: number;
  readonly unsure?: boolean;
}

export interface Pulled {
  readonly documents: Document[];
  readonly checkpoint: Checkpoint;
}

interface PulledPage {
  readonly changes: readonly Change[];
  readonly cursor: string;
  readonly more: boolean;
  readonly left: boolean;
  readonly joined: boolean;
}

/**
 * At least `size` documents, or all that there are. RxDB takes fewer for the end, and an empty page of the server is
 * no end. A cursor that the server does not know begins again from "": what does not come again is gone.
 *
 * A space that is joined later, or again, begins likewise: what was pushed there before, and does not come, was deleted.
 *
 * A server whose database went back to between the cursor and what it had acknowledged knows the cursor; so it is asked
 * about the acknowledged changes too.
 */
export async function pull(feed: Feed, from: Checkpoint | undefined, size: number): Promise<Pulled> {
  const documents = new Map<string, Document>();
  const acked = await feed.shadow.acked();
  const last = acked.at(-1)?.number ?? 0;
  let at = from ?? begin(last);
  for (;;) {
    const asked = Date.now();
    const page = await fetchPage(feed, at, size, acked).catch((error: unknown) => lost(error, at));
    if (page === null) {
      at = begin(last, at.round);
      continue;
    }
    const { round, starting } = reading(at, page, asked);
    const ended = (starting || at.unsure === true) && !page.more;
    const taken = await feed.alone(() => take(feed, page, round, ended ? asked : null));
    for (const document of taken.documents) documents.set(String(document[feed.shape.primary]), document);
    const past = page.more ? (at.past ?? 0) : last;
    const unsure = ended ? taken.unsure : at.unsure === true;
    at = { cursor: page.cursor, round, starting: starting && page.more, past, unsure };
    if (!page.more || documents.size >= size) return { documents: [...documents.values()], checkpoint: at };
  }
}

/** The round that a page belongs to, which was asked for at that instant, and whether it is one of a beginning. */
function reading(at: Checkpoint, page: PulledPage, asked: number): { round: number; starting: boolean } {
  const { round, starting } = at;
  if (starting || !page.joined) return { round, starting };
  return { round: Math.max(asked, round + 1), starting: true };
}

function begin(past: number, round = 0): Checkpoint {
  return { cursor: "", round: Math.max(Date.now(), round + 1), starting: true, past };
}

/** Null where the cursor is not known to the server any more. Raises anything else. */
function lost(error: unknown, { cursor }: Checkpoint): null {
  const codes = ["cursor_lost", "bad_cursor"];
  if (error instanceof Refused && codes.includes(error.code) && cursor !== "") return null;
  throw error;
}

async function fetchPage(
  feed: Feed,
  at: Checkpoint,
  limit: number,
  acked: readonly Acked[],
): Promise<PulledPage> {
  const { cursor: since, past = 0 } = at;
  const params = new URLSearchParams({ since, collection: feed.table, limit: String(limit) });
  const due = acked.filter(({ number }) => number > past);
  const client = due.at(-1)?.client; // what it had acknowledged as another device cannot be asked with that
  if (client !== undefined) params.append("clientId", client);
  for (const change of due) if (change.client === client) params.append("pushed", change.changeId);
  const wire = await ask(await feed.apiClient(), { method: "GET", path: "/pull", params });
  const changes = listOf(wire.serverChanges).map((change) => readChange(change));
  const { left = [], joined = [] } = (wire.spaces ?? {}) as JsonObject;
  const named = (spaces: Json): boolean =>
    listOf(spaces).some((space) => spaceKey(textOf(space)) === feed.space);
  return {
    // RxDB keeps documents in objects by their ids: one named as what every object has would end its replication.
    changes: changes.filter(
      ({ key: [space, table, id] }) => space === feed.space && table === feed.table && !(id in {}),
    ),
    cursor: textOf(wire.syncedUntil),
    more: wire.hasMore === true,
    left: feed.space !== "" && named(left) && !named(joined), // made again under its old name, it begins again
    joined: named(joined),
  };
}

interface Taken {
  readonly documents: Document[];
  readonly unsure: boolean;
}

/**
 * Takes note of a page, and returns the documents that it makes. `ended`: with it everything has come again that was on
 * the server at that instant; null where that is not so.
 */
async function take(feed: Feed, page: PulledPage, round: number, ended: number | null): Promise<Taken> {
  const shades = await feed.shadow.of(page.changes.map(({ key: [, , id] }) => id));
  const fresh = new Map<string, ShadowRecord>();
  for (const { key, registers, whole } of page.changes) {
    const [, , id] = key;
    const known = fresh.get(id) ?? shades.get(id);
    // The first registers of a new round, and those that are whole, replace what was known before.
    const held = known?.round === round && !whole ? new Map(known.registers) : new Map();
    merge(held, registers);
    fresh.set(id, { id, round, pushed: known?.pushed ?? 0, registers: held });
  }
  await feed.shadow.keep(fresh.values());
  let unsure = false;
  if (page.left || ended !== null) {
    const gone = await goneRecords(feed, round, page.left ? Infinity : (ended ?? 0));
    await feed.shadow.keep(gone.over);
    for (const shade of gone.over) fresh.set(shade.id, shade);
    unsure = gone.unsure;
  }
  return {
    documents: Array.from(fresh.values(), ({ id, registers }) => documentOf(id, registers, feed.shape)),
    unsure,
  };
}

/**
 * After a new start, what did not come again though its pushes had been answered before the last page was asked for: the
 * server's state has no deletions. `unsure`: of some that is not known yet, since the answer came later. Everything, where
 * `asked` is Infinity: the space was left.
 */
async function goneRecords(
  feed: Feed,
  round: number,
  asked: number,
): Promise<{ readonly over: ShadowRecord[]; readonly unsure: boolean }> {
  const now = formatInstant(Date.now());
  const known = [...(await feed.shadow.all()).values()];
  const away = known.filter((shade) => asked === Infinity || shade.round < round);
  const over = away.filter(({ pushed }) => pushed < asked);
  // They stay in their round: until RxDB has kept a checkpoint that is past this page, they are told of again.
  const gone = over.map((shade) => goneRecord(shade.id, shade.round, now));
  return { over: gone, unsure: over.length < away.length };
}
