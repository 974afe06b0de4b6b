/** What a replica that keeps some spaces and tables takes of an answer. Loaded with the first answer. */

import { type Key, keyText, type Packed, readChange, spaceKey } from "../data/change.js";
import { type Json, type JsonObject, parse } from "../data/values.js";
import { find } from "../store/outbox.js";
import { beginRestart } from "../store/records.js";
import { resettle } from "../store/restamp.js";
import { type Choice, keeps, type Meta, type Transaction } from "../store/store.js";
import type { Page } from "./reply.js";

/**
 * Takes out of an answer, in place, what the replica has not chosen, and what is of no use to it any more. What is unsent of what it
 * does not keep leaves the outbox when it is answered. `asked`: the few values as they were when it was asked for.
 */
export async function narrow(
  tx: Transaction,
  page: Page,
  pushed: readonly Packed[],
  asked: Meta,
): Promise<void> {
  const { meta } = tx;
  if (!meta.choices && !asked.choices && meta.client === asked.client) return;
  const follows = meta.followed === `${meta.round} ${meta.cursor}`;
  if (pushed[0] && page.wire.type === undefined && asked.asks)
    // What has come to a part of the server's is asked for apart: the cursor of a push stays where it was.
    Object.assign(page, { cursor: null, more: true });
  else if (page.cursor !== null && !(await isCurrent(tx, page, asked))) Object.assign(page, nothing(page));
  if (meta.asks) Object.assign(page, await only(tx, page, pushed, meta.asks));
  if (follows) meta.followed = `${meta.round} ${page.cursor ?? meta.cursor}`;
}

/**
 * Whether the replica can go on from a page. Where another tab has chosen meanwhile, also if the choice is the same again, what was
 * removed in between is before the page's cursor, as all is in a store that the browser evicted. A server that does not filter has
 * moved its cursor past what is chosen and not known: there all is asked for again.
 */
async function isCurrent(tx: Transaction, { wire }: Page, asked: Meta): Promise<boolean> {
  const { meta } = tx;
  if (meta.client !== asked.client) return false; // it was evicted meanwhile, and has begun again
  if (meta.choices !== asked.choices || meta.round !== asked.round) return false;
  const { spaces, collections } = meta.asks ?? {};
  const chosen = { ...(spaces && { spaces }), ...(collections && { collections }) };
  // As it was asked for: a page that came beside it may have brought what was missing, as far as its own cursor.
  const known = JSON.stringify([asked.asks?.knownSpaces, asked.asks?.knownCollections]);
  const whole = JSON.stringify([chosen.spaces, chosen.collections]);
  const filtered = (wire.spaces as JsonObject | undefined)?.partial === true;
  const goesOn = filtered || !asked.cursor || known === "[null,null]" || known === whole;
  meta.asks = chosen.spaces || chosen.collections ? chosen : undefined;
  // The frames that follow are of it, too: the first alone says that the server filters.
  if (goesOn) asked.asks = meta.asks;
  else await beginRestart(tx);
  return goesOn;
}

/** What a page says of the own changes; after it the replica asks again. */
function nothing({ wire }: Page): Partial<Page> {
  const said = { results: wire.results ?? [] };
  return { changes: [], cursor: null, more: true, joined: [], left: [], unreadable: [], wire: said };
}

/** What of a page is of a choice. */
async function only(
  tx: Transaction,
  page: Page,
  pushed: readonly Packed[],
  choice: Choice,
): Promise<Partial<Page>> {
  const own = page.changes.filter(({ client }) => client === tx.meta.client);
  const sent = pushed.map(({ body }) => readChange(parse(body), tx.meta.client));
  const answered = sent.filter((_, place) => page.results[place]?.status !== "rejected");
  const strays = [...own, ...answered].filter(({ key }) => !keeps(choice, key));
  for (const { changeId } of strays) {
    const row = changeId && (await find(tx, changeId));
    if (row) tx.delete("outbox", [row.position]);
  }
  const gone = [...new Map(strays.map(({ key }) => [keyText(key), key])).values()];
  await resettle(tx, gone);
  const named = (space: string): boolean => keeps({ spaces: choice.spaces }, [spaceKey(space), "", ""]);
  // Of a space that was never kept nothing is here to go, but for what was written before the choice.
  const here = page.left[0] ? (await tx.all("outbox")).map(({ space }) => space) : [];
  return {
    changes: page.changes.filter(({ key }) => keeps(choice, key)),
    left: page.left.filter((space) => named(space) || here.includes(space)),
    joined: page.joined.filter(named),
    unreadable: page.unreadable.filter(named),
    wire: wireOf(
      page,
      choice,
      sent.map(({ key }) => key),
    ),
    gone,
  };
}

/** The wire's form of a page, whose changes and results have the places of those that are read. */
function wireOf({ wire, changes }: Page, choice: Choice, sent: readonly Key[]): JsonObject {
  const all = (wire.serverChanges ?? wire.changes ?? []) as readonly Json[];
  const results = ((wire.results ?? []) as readonly JsonObject[]).map((result, place) =>
    keeps(choice, sent[place] as Key) ? result : { ...result, overwrote: null },
  );
  return {
    ...wire,
    results,
    serverChanges: all.filter((_, place) => keeps(choice, changes[place]?.key as Key)),
  };
}
