/** Writes over what their writer had not seen, found in an answer; and what it tells of spaces. A module of its own, loaded with the first answer. */

import { type Change, type Conflict, type Packed, readChange, textOr } from "../data/change.js";
import { latest } from "../data/clock.js";
import type { SpacesChanged } from "../data/events.js";
import { isDeleted, type Register, type Registers, TOMBSTONE, wins } from "../data/merge.js";
import { type Json, type JsonObject, parse } from "../data/values.js";
import { find as findQueued, present } from "../store/outbox.js";
import { type LoadedRecord, load, pick } from "../store/records.js";
import type { Transaction } from "../store/store.js";
import { narrow } from "./narrow.js";
import type { Page } from "./reply.js";
import { keepRoles } from "./roles.js";

/**
 * The conflicts that an answer tells of and those that are found in it, before its changes are applied. And what it says of
 * the user's spaces, where it says something.
 */
export interface FindConflicts {
  (
    tx: Transaction,
    page: Page,
    pushed: readonly Packed[],
  ): Promise<{ conflicts: Conflict[]; spaces: SpacesChanged | undefined }>;
  readonly narrow: typeof narrow;
}

async function find(
  tx: Transaction,
  page: Page,
  pushed: readonly Packed[],
): Promise<{ conflicts: Conflict[]; spaces: SpacesChanged | undefined }> {
  const found = mayHaveSome(page, tx.meta.client) ? await findIn(tx, page, pushed) : [];
  return { conflicts: [...page.conflicts, ...found], spaces: await keepRoles(tx, page) };
}

export const findUnseen: FindConflicts = Object.assign(find, { narrow });

/** Whether conflicts may be found: records are read for that. */
function mayHaveSome(page: Page, client: string): boolean {
  return (
    page.results.some((_, place) => overwrittenBy(page, place)[0]) ||
    page.changes.some((change, place) => deletionIn(change, client) || basesIn(page, place).size > 0)
  );
}

async function findIn(tx: Transaction, page: Page, pushed: readonly Packed[]): Promise<Conflict[]> {
  const own = pushed.map(({ body }) => readChange(parse(body), tx.meta.client));
  const found = new Found(tx.meta.client);
  const records = await load(
    tx,
    [...page.changes, ...own].map(({ key }) => key),
  );
  const edits = await editsOf(tx, page);
  for (const [place, change] of own.entries()) {
    const { changeId, overwrote, at } = { ...page.results[place], overwrote: overwrittenBy(page, place) };
    if (overwrote.length === 0 || !changeId || !(await isHere(tx, changeId, change))) continue;
    found.answered(change, overwrote, at ?? new Map(), pick(records, change.key));
  }
  found.hide();
  for (const [place, change] of page.changes.entries()) {
    const record = pick(records, change.key);
    found.arrived(change, basesIn(page, place), record, edits.get(change) ?? []);
    record.confirm(change.registers, tx.meta.round, change.whole);
  }
  return found.conflicts;
}

interface Overwritten extends Register {
  readonly field: string;
}

function overwrittenBy({ wire }: Page, place: number): Overwritten[] {
  const said = ((wire.results as JsonObject[])[place]?.overwrote ?? []) as JsonObject[];
  return said.map((item) => ({
    field: textOr(item.field, ""),
    value: item.value as Json,
    at: textOr(item.at, ""),
    client: textOr(item.by, ""),
  }));
}

/** What a change of the log says that its writer had seen, by field; "": nothing. */
function basesIn(page: Page, place: number): Map<string, string> {
  const said = fieldsIn(page, place).filter(([, register]) => register.base !== undefined);
  return new Map(said.map(([field, { base }]) => [field, textOr(base, "")]));
}

/** The registers of a change, as the wire has them. */
function fieldsIn({ wire }: Page, place: number): [string, JsonObject][] {
  const changes = (wire.serverChanges ?? wire.changes) as JsonObject[];
  return Object.entries((changes[place]?.fields ?? {}) as Record<string, JsonObject>);
}

async function isHere(tx: Transaction, changeId: string, { key }: Change): Promise<boolean> {
  return present(tx, { space: key[0], state: (await findQueued(tx, changeId))?.state ?? "aside" });
}

/** This device's edits, not confirmed yet, of the records that others deleted. */
async function editsOf(tx: Transaction, page: Page): Promise<Map<Change, Change[]>> {
  const edits = new Map<Change, Change[]>();
  for (const change of page.changes) {
    if (deletionIn(change, tx.meta.client) === undefined) continue;
    const rows = await tx.all("outbox", change.key, "record");
    const waiting = rows.filter(({ state }) => state === "pending" || state === "acked");
    edits.set(
      change,
      waiting.map(({ body }) => readChange(parse(body), tx.meta.client)),
    );
  }
  return edits;
}

function deletionIn({ registers }: Change, client: string): Register | undefined {
  const tombstone = registers.get(TOMBSTONE);
  return tombstone && tombstone.client !== client && isDeleted(registers) ? tombstone : undefined;
}

class Found {
  readonly conflicts: Conflict[] = [];
  readonly #client: string;
  readonly #hidden = new Map<string, [Register, Change[]]>();
  readonly #told = new Set<string>();

  constructor(client: string) {
    this.#client = client;
  }

  /** What the server says that an own change was written over. `at`: the stamps that it gave. */
  answered(
    change: Change,
    overwrote: readonly Overwritten[],
    at: ReadonlyMap<string, string>,
    { base }: LoadedRecord,
  ): void {
    for (const { field, ...theirs } of overwrote) {
      const mine = change.registers.get(field);
      const key = JSON.stringify(change.key);
      if (mine) this.#tell("overwrote", change, field, { ...mine, at: at.get(field) ?? mine.at }, theirs);
      else if (field === TOMBSTONE && !isDeleted(base))
        this.#hidden.set(key, [theirs, [...(this.#hidden.get(key)?.[1] ?? []), change]]);
    }
  }

  /** Tells of the deletions that the server spoke of. */
  hide(): void {
    for (const [deletion, edits] of this.#hidden.values()) this.#hide(edits, deletion);
  }

  /** A change of the log, before it is confirmed: by this device over another's, or the other way round. */
  arrived(
    change: Change,
    bases: ReadonlyMap<string, string>,
    { base }: LoadedRecord,
    edits: readonly Change[],
  ): void {
    for (const [field, seen] of bases) {
      const [register, held] = [change.registers.get(field), base.get(field)];
      if (!register || !held || held.client === register.client || held.at <= seen || !wins(register, held))
        continue;
      if (held.client === this.#client) this.#tell("overwritten", change, field, held, register);
      else if (register.client === this.#client) this.#tell("overwrote", change, field, register, held);
    }
    const deletion = deletionIn(change, this.#client);
    const held = base.get(TOMBSTONE);
    if (deletion && !isDeleted(base) && (!held || wins(deletion, held))) this.#hide(edits, deletion);
  }

  #hide(all: readonly Change[], deletion: Register): void {
    const edits = all.filter(({ registers }) => !registers.has(TOMBSTONE));
    const [edit] = edits;
    if (!edit || this.#told.has(JSON.stringify(edit.key))) return;
    this.#told.add(JSON.stringify(edit.key));
    const written: Registers = new Map(edits.flatMap(({ registers }) => [...registers]));
    const value = Object.fromEntries([...written].map(([field, register]) => [field, register.value]));
    const at = [...written.values()].map((register) => register.at).reduce(latest);
    this.#tell("deleted", edit, TOMBSTONE, { value, at, client: this.#client }, deletion);
  }

  #tell(kind: Conflict["kind"], { key }: Change, field: string, mine: Register, theirs: Register): void {
    const [space, table, id] = key;
    this.conflicts.push({
      kind,
      space: space || null,
      table,
      id,
      field,
      by: theirs.client,
      mine: mine.value,
      theirs: theirs.value,
      clientValue: mine.value,
      clientTimestamp: mine.at,
      serverValue: theirs.value,
      serverTimestamp: theirs.at,
    });
  }
}
