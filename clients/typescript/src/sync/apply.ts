/** Applies a whole answer of the server inside one transaction: changes, results, memberships, cursor. */

import {
  byText,
  type Change,
  type Conflict,
  type Key,
  keyText,
  type Packed,
  type Refusal,
  readChange,
  spaceKey,
} from "../data/change.js";
import { after, type Instant, latest } from "../data/clock.js";
import { changesOf, type Event, type SpacesChanged } from "../data/events.js";
import { TOMBSTONE } from "../data/merge.js";
import { parse } from "../data/values.js";
import { Offline } from "../errors.js";
import * as outbox from "../store/outbox.js";
import { dropUnconfirmed, load, pick, save, settle } from "../store/records.js";
import { redate } from "../store/restamp.js";
import { keepConflicts, keeps, keyOf, spaceOf, type Transaction } from "../store/store.js";
import type { Page, Result } from "./reply.js";
import type { FindConflicts } from "./unseen.js";

/** What an answer changed here. `rejected`: changeIds. `everything`: too much to be listed. */
export interface Applied {
  readonly rejected: readonly string[];
  readonly changed: readonly Key[];
  readonly everything: boolean;
  readonly conflicts: readonly Conflict[];
  readonly spaces?: SpacesChanged | undefined;
}

/**
 * Everything an answer says; the last page of a restart ends it. Spaces that were left go first: one that was made
 * again under its old name is left and joined at once.
 *
 * A server whose database went back to between the cursor and what it had acknowledged knows the cursor; so it is asked
 * about the acknowledged changes too, of which `checked` were named when this page was asked for. `find`: as `loadFinder`. `asked`: the
 * few values as they were when it was asked for.
 */
export async function applyPage(
  tx: Transaction,
  page: Page,
  pushed: readonly Packed[],
  find?: FindConflicts | null,
  checked = tx.meta.acked ?? [],
  asked = tx.meta,
): Promise<Applied> {
  if (find) await find.narrow(tx, page, pushed, asked);
  else if (asked.asks ?? tx.meta.choices !== asked.choices) throw new Offline("reload the page.");
  const { client, round } = tx.meta;
  const purged = await followSpaces(tx, page);
  const found = { conflicts: page.conflicts, ...(await find?.(tx, page, pushed)) };
  const erased = byText(page.changes.filter((change) => change.erased).map(({ key }) => key));
  const stays = (conflict: Conflict): boolean => !erased.has(keyText(keyOf(conflict)));
  if (erased.size) await keepConflicts(tx, stays);
  found.conflicts = found.conflicts.filter(stays);
  for (const conflict of found.conflicts)
    tx.put("conflicts", { number: ++tx.meta.number, space: conflict.space ?? "", conflict });
  const confirmed = await confirm(tx, page.results, pushed, client);
  // what lost is nothing of the record: what it lost to is here, or comes, or is a deletion from before this replica was;
  // and of a space that is still to be read, all comes that is true of it
  const unread = page.more ? await outbox.unread(tx, pushed) : [];
  const repeated = page.results
    .filter((result) =>
      ended("duplicate", "superseded", unread.includes(result.changeId) ? "applied" : "")(result),
    )
    .map(({ changeId }) => changeId);
  const won = confirmed.filter(({ changeId }) => !repeated.includes(changeId as string));
  const changes = [...page.changes, ...won];
  const answered = await outbox.acknowledge(tx, repeated, page.more);
  const rejected = await outbox.reject(tx, refusals(page.results));
  const dated = await dateStopped(tx, confirmed, pushed);
  const records = await load(tx, [...changes.map(({ key }) => key), ...answered, ...dated]);
  for (const key of answered) pick(records, key).write(new Map()); // what is unsent is laid on top again
  for (const { key, registers, whole } of changes) pick(records, key).confirm(registers, round, whole);
  const own = page.changes.filter((change) => change.client === client);
  const applied = page.results.filter(ended("applied"));
  await outbox.forget(
    tx,
    [...own, ...applied].map(({ changeId }) => changeId ?? ""),
  );
  await settle(tx, records);
  const changed = [...purged, ...save(tx, records)];
  if (pushed.length > 0) tx.meta.incarnations = tx.meta.incarnations?.slice(-1);
  const everything = await moveOn(tx, page, applied, checked);
  return { ...found, rejected, changed, everything };
}

/** Moves the cursor, and what is known with it. Whether a restart from an empty cursor has ended by that. */
async function moveOn(
  tx: Transaction,
  page: Page,
  applied: readonly Result[],
  checked: readonly string[],
): Promise<boolean> {
  const { meta } = tx;
  const { acked = [] } = meta;
  meta.cursor = page.cursor ?? meta.cursor;
  meta.acked = page.more
    ? acked.concat(applied.at(-1)?.changeId ?? []).slice(-16)
    : acked.filter((id) => !checked.includes(id));
  const restarted = !page.more && meta.restarting;
  if (restarted) await dropUnconfirmed(tx);
  meta.trouble = null;
  return restarted;
}

/**
 * The own changes as the server holds them, whatever has become of their place in the outbox since they were sent;
 * but not those to a space that is not here any more.
 */
async function confirm(
  tx: Transaction,
  results: readonly Result[],
  pushed: readonly Packed[],
  client: string,
): Promise<Change[]> {
  const confirmed: Change[] = [];
  for (const [place, sent] of pushed.entries()) {
    const result = results[place];
    if (!result || !ended("applied", "superseded")(result)) continue;
    const change = adopt(result, sent, client);
    const state = (await outbox.find(tx, sent.changeId))?.state ?? "aside";
    if (keeps(tx.meta.asks, change.key) && (await outbox.present(tx, { space: change.key[0], state })))
      confirmed.push(change);
  }
  return confirmed;
}

/**
 * What is stopped here with a stamp of a clock that is or was ahead, as the server's lowered stamps tell, gets one between
 * those of what was sent before and after. Returns the records that it changes.
 */
async function dateStopped(
  tx: Transaction,
  confirmed: readonly Change[],
  pushed: readonly Packed[],
): Promise<Key[]> {
  const given = new Map<string | null, Instant>();
  for (const { changeId, registers } of confirmed) {
    for (const { at, sent } of registers.values())
      if ((sent ?? "") > at) given.set(changeId, latest(given.get(changeId) ?? "", at));
  }
  const stamps = [...given.values()].sort();
  if (!stamps[0]) return [];
  const first = after(stamps[0], -1);
  let date = first;
  const dates = pushed.map(({ changeId }) => {
    date = given.get(changeId) ?? date;
    return [changeId, date] as const;
  });
  return redate(tx, stamps.at(-1) as Instant, first, new Map(dates));
}

/** The own change with the stamps that the server lowered. */
function adopt(result: Result, sent: Packed, client: string): Change {
  const change = readChange(parse(sent.body), client);
  for (const [field, at] of result.at) {
    const held = change.registers.get(field);
    if (held === undefined || held.at === at) continue;
    const value = change.op === "delete" && field === TOMBSTONE ? at : held.value;
    change.registers.set(field, { ...held, value, at, sent: held.at });
  }
  return change;
}

function ended(...of: string[]) {
  return ({ status }: Result): boolean => of.includes(status);
}

function refusals(results: readonly Result[]): Map<string, Refusal> {
  // what was too much for its push stays queued where others of it were settled: it has its turn in the next
  const whole = results.every(({ code }) => code === "push_too_large");
  const refused = results.filter(
    ({ status, code }) => status === "rejected" && (whole || code !== "push_too_large"),
  );
  return new Map(refused.map((said) => [said.changeId, said]));
}

async function followSpaces(tx: Transaction, page: Page): Promise<Key[]> {
  const gone: Key[] = [...(page.gone ?? [])];
  for (const space of page.left) if (spaceKey(space)) gone.push(...(await purge(tx, space)));
  for (const id of page.joined) tx.put("spaces", { ...(await spaceOf(tx, id)), id });
  return gone;
}

/** Deletes the copy of a space that was left, and returns its records. What was not sent yet is kept aside. */
async function purge(tx: Transaction, space: string): Promise<Key[]> {
  await outbox.setAside(tx, space);
  const gone = (await tx.all("records", [space])).map(keyOf);
  for (const key of gone) tx.delete("records", key);
  await keepConflicts(tx, (conflict) => conflict.space !== space);
  tx.delete("spaces", [space]);
  return gone;
}

/** Tells everybody what an answer of the server, applied, means to the application. */
export function announce(
  { publish }: { readonly publish: (event: Event) => void },
  { changed = [], everything, rejected = [], conflicts = [], spaces }: Partial<Applied>,
  page?: Page,
): void {
  if (changed[0] || everything) publish(changesOf(changed, "server", everything));
  const accepted = page?.results.filter(({ status }) => status !== "rejected").length ?? 0;
  if (accepted > 0 || rejected[0]) publish({ kind: "answered", accepted, rejected });
  for (const conflict of conflicts) publish({ kind: "conflict", conflict });
  if (spaces) publish(spaces);
}
