/**
 * @syncd/client/partial: a replica that keeps some of its user's spaces, and some of the tables. The server sends nothing else.
 */

import type { AnyTables, TableOf } from "./batch.js";
import { checkId, checkSpace, keyText, spaceKey } from "./data/change.js";
import { InvalidQuery } from "./errors.js";
import { beginRestart } from "./store/records.js";
import { resettle } from "./store/restamp.js";
import {
  type Asks,
  type Choice,
  keepConflicts,
  keeps,
  keyOf,
  LAST_WRITE,
  type Transaction,
} from "./store/store.js";
import type { Choosing } from "./sync/device.js";

/** Spaces, and tables. */
const MOST = 100;
/** Bytes of their names in an address, of the 8 KiB that a server takes. */
const MOST_BYTES = 6500;

/** What is left out stays as it was chosen last; "all" is all, as at first. Null among the spaces is the personal one. */
export interface PartialOptions<S extends object> {
  readonly spaces?: readonly (string | null)[] | "all";
  readonly tables?: readonly TableOf<S>[] | "all";
}

/**
 * A choice of spaces and tables, for `Replica.open`. What is no longer chosen is removed when the replica is opened, but for what
 * is unsent; what is new comes with the next sync. Raises InvalidQuery, and `open` does for the personal space of somebody else.
 */
export function partial<S extends object = AnyTables>({
  spaces,
  tables,
}: PartialOptions<NoInfer<S>>): Choosing<S> {
  if (spaces !== undefined && spaces !== "all") checkMany("spaces", spaces);
  if (tables !== undefined && tables !== "all") checkMany("tables", tables).forEach(checkTable);
  return async (tx, again) => {
    // Its connection was closed and no more: another tab may have chosen since.
    if (again && tx.meta.choices) return false;
    const { user, asks: before = {}, round, cursor } = tx.meta;
    // A client that knows of no choice, in another tab, takes all that comes.
    const strayed = Boolean(tx.meta.asks) && tx.meta.followed !== `${round} ${cursor}`;
    if (strayed) await evict(tx, before);
    const named = (space: string | null): string => checkSpace(space, user, InvalidQuery);
    const wanted = {
      spaces: wantedOf(spaces, before.spaces, named),
      collections: wantedOf(tables, before.collections, (table) => table),
    };
    if (`${new URLSearchParams(pairsOf(asksOf(wanted, wanted)))}`.length > MOST_BYTES)
      throw new InvalidQuery("the names of the chosen spaces and tables are too long together.");
    const other = !isSame(wanted, before);
    if (other) await change(tx, before, wanted);
    tx.meta.followed = `${tx.meta.round} ${tx.meta.cursor}`;
    return other || strayed;
  };
}

type Names = readonly string[] | undefined;
type Wanted = { readonly spaces?: Names; readonly collections?: Names };

function checkMany<T>(name: string, given: readonly T[]): readonly T[] {
  if (!Array.isArray(given) || given.length < 1 || given.length > MOST)
    throw new InvalidQuery(`${name} is a list of 1 to ${MOST} names, or "all".`);
  return given;
}

function checkTable(table: string): void {
  if (checkId("the table", table, InvalidQuery).includes(","))
    throw new InvalidQuery(`the table ${table} has a comma in its name, and cannot be chosen.`);
}

function wantedOf<T>(
  given: readonly T[] | "all" | undefined,
  before: readonly string[] | undefined,
  named: (name: T) => string,
): readonly string[] | undefined {
  if (given === undefined) return before;
  return given === "all" ? undefined : [...new Set(given.map(named))].sort();
}

function pairsOf(asks: Asks): string[][] {
  return Object.entries(asks).flatMap(([name, texts]) => texts.map((text: string) => [name, text]));
}

function asksOf({ spaces, collections }: Wanted, known: Wanted): Asks {
  const asks = { spaces, collections, knownSpaces: known.spaces, knownCollections: known.collections };
  return Object.fromEntries(Object.entries(asks).filter(([, names]) => names));
}

function isSame(one: Wanted, other: Wanted): boolean {
  const said = ({ spaces, collections }: Wanted): string => JSON.stringify([spaces, collections]);
  return said(one) === said(other);
}

/** What is of both. */
function common(one: Wanted, other: Wanted): Wanted {
  const both = (some: Names, others: Names): Names =>
    some && others ? some.filter((name) => others.includes(name)) : (some ?? others);
  return { spaces: both(one.spaces, other.spaces), collections: both(one.collections, other.collections) };
}

async function change(tx: Transaction, before: Asks, wanted: Wanted): Promise<void> {
  const { meta } = tx;
  const { knownSpaces, knownCollections } = before;
  const known = knownSpaces || knownCollections;
  const rest = common(known ? { spaces: knownSpaces, collections: knownCollections } : before, wanted);
  const asks = asksOf(wanted, meta.cursor ? rest : {});
  meta.choices = (meta.choices ?? 0) + 1;
  meta.asks = Object.keys(asks).length ? asks : undefined;
  if (!isSame({ spaces: rest.spaces }, { spaces: wanted.spaces })) meta.roles = ""; // so that those that are new are named
  if (meta.cursor && (rest.spaces?.length === 0 || rest.collections?.length === 0)) {
    meta.asks = asksOf(wanted, {});
    await beginRestart(tx);
  }
  if (!isSame(common(before, wanted), before)) await evict(tx, asksOf(wanted, {}));
}

/**
 * Removes what is not of a choice. What is unsent stays, on top of nothing: what was confirmed is not followed. Conflicts go with
 * their records: nobody would hear that their values were erased.
 */
async function evict(tx: Transaction, choice: Choice): Promise<void> {
  const { meta } = tx;
  const named = ({ id }: { readonly id: string }): boolean => choice.spaces?.includes(spaceKey(id)) ?? true;
  tx.delete("meta", [LAST_WRITE]); // so that indexes in memory begin again
  for (const space of await tx.all("spaces")) if (!named(space)) tx.delete("spaces", [space.id]);
  meta.told = meta.told?.filter(named);
  for (const row of await tx.all("records")) if (!keeps(choice, keyOf(row))) tx.delete("records", keyOf(row));
  const rows = (await tx.all("outbox")).filter((row) => row.state !== "aside");
  const unsent = rows.map(keyOf).filter((key) => !keeps(choice, key));
  const waiting = new Set(unsent.map(keyText));
  await keepConflicts(
    tx,
    (conflict) => keeps(choice, keyOf(conflict)) || waiting.has(keyText(keyOf(conflict))),
  );
  await resettle(tx, unsent);
}
