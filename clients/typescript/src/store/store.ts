/** What a replica keeps, and what it asks of the place where it is kept. */

import type { Conflict, Key } from "../data/change.js";
import { EPOCH, type Instant } from "../data/clock.js";
import type { IndexRange } from "../data/indexed.js";
import type { Registers } from "../data/merge.js";
import type { AskedWord } from "../data/searched.js";
import { StoreFailed, SyncdError } from "../errors.js";
import { inTime } from "../timing.js";

/**
 * What the application sees of a record (`view`), and the server's registers (`base`) where unsent writes lie on
 * top of them, else null. `round`: the restart from an empty cursor in which the server confirmed it last.
 */
export interface RecordRow {
  readonly space: string;
  readonly table: string;
  readonly id: string;
  readonly deleted: boolean;
  readonly round: number;
  readonly view: Registers;
  readonly base: Registers | null;
}

/** acked: the server has it, but not all of its news are here. aside: its space was left. */
export type ChangeState = "pending" | "acked" | "rejected" | "aside";

/**
 * What the server does not have yet. `batch` is shared by changes that go together or not at all. `body`: the
 * text that is sent, and sent again; `size`: its bytes.
 */
export interface OutboxRow {
  readonly position: number;
  readonly changeId: string;
  readonly batch: string;
  readonly space: string;
  readonly table: string;
  readonly id: string;
  readonly state: ChangeState;
  readonly body: string;
  readonly size: number;
  readonly code: string | null;
  readonly detail: string | null;
  readonly field?: string | null | undefined;
}

/** Why nothing is synced now. */
export interface Trouble {
  readonly kind: "offline" | "busy" | "forbidden" | "refused";
  readonly code: string;
  readonly detail: string;
}

/**
 * The few values that are not rows. A replica is new while `client` is "". `round`: how often it began again from an
 * empty cursor; `schema`: the application's; `position` and `number`: the last ones given out.
 */
export interface Meta {
  /** What the replica keeps, and what it has of what its cursor is for, where that is not all: see @syncd/client/partial. */
  asks?: Asks | undefined;
  /** The round and the cursor, as a client that knows of the choice has moved it. */
  followed?: string;
  /** How many choices were made. */
  choices?: number;
  /** When the replica was last compared with the server, in milliseconds since 1970. */
  verified?: number;
  /** What this store may have pushed as, oldest first: see `incarnate`. */
  incarnations?: readonly string[] | undefined;
  /** The changeIds of acknowledged changes that the cursor may stand before: one a push, see `applyPage`. */
  acked?: readonly string[] | undefined;
  app: string;
  client: string;
  user: string;
  clock: Instant;
  cursor: string;
  /** Up to where the server has told the names and roles of spaces. */
  roles: string;
  /** What it told of spaces that it has not named, or not again since all is read again: those that it could not read. */
  told?: readonly Rows["spaces"][] | undefined;
  round: number;
  restarting: boolean;
  trouble: Trouble | null;
  schema: number | null;
  position: number;
  number: number;
}

/** Spaces as a replica names them, and tables; all of those that are not there. */
export interface Choice {
  readonly spaces?: readonly string[] | undefined;
  readonly collections?: readonly string[] | undefined;
}

/** What is chosen, and what of it is known, in the members with which the server is asked. */
export interface Asks {
  readonly spaces?: readonly string[];
  readonly collections?: readonly string[];
  readonly knownSpaces?: readonly string[];
  readonly knownCollections?: readonly string[];
}

/** Whether a record is of a choice. */
export function keeps({ spaces, collections }: Choice = {}, [space, table]: Key): boolean {
  return (!spaces || spaces.includes(space)) && (!collections || collections.includes(table));
}

const FRESH: Meta = {
  app: "",
  client: "",
  user: "",
  clock: EPOCH,
  cursor: "",
  roles: "",
  round: 0,
  restarting: false,
  trouble: null,
  schema: null,
  position: 0,
  number: 0,
};

export interface Rows {
  meta: { readonly name: string; readonly meta: Meta };
  records: RecordRow;
  outbox: OutboxRow;
  conflicts: { readonly number: number; readonly space: string; readonly conflict: Conflict };
  spaces: { readonly id: string; readonly name?: string; readonly role?: string };
}

export type Name = keyof Rows;
export type Part = string | number;

/** The members that make a row's key, and those of the indexes. Every store of rows is read in their order. */
export interface Layout {
  readonly keys: { readonly [name in Name]: readonly string[] };
  readonly indexes: { readonly [name in Name]?: { readonly [index in Index]?: readonly string[] } };
}

export const LAYOUT: Layout = {
  keys: {
    meta: ["name"],
    records: ["space", "table", "id"],
    outbox: ["position"],
    conflicts: ["number"],
    spaces: ["id"],
  },
  indexes: {
    records: { table: ["table"] },
    outbox: {
      change: ["changeId"],
      state: ["state", "position"],
      record: ["space", "table", "id", "position"],
      batch: ["batch", "position"],
    },
    conflicts: { space: ["space"] },
  },
};

export type Index = "table" | "change" | "state" | "record" | "batch" | "space";

/** One transaction. Nothing but its own methods may be awaited in it: a browser would commit it meanwhile. */
export interface RowTransaction {
  get<N extends Name>(name: N, key: readonly Part[]): Promise<Rows[N] | undefined>;
  /** The records with these keys, as far as there are any, in any order; others may be among them. */
  among(keys: readonly Key[]): Promise<RecordRow[]>;
  /**
   * The rows whose key, or whose entry in `index`, begins with `prefix`, in order. With `from` they begin there at the earliest; a
   * store that reads fast may answer all of them then.
   */
  all<N extends Name>(
    name: N,
    prefix?: readonly Part[],
    index?: Index,
    limit?: number,
    from?: readonly Part[],
  ): Promise<Rows[N][]>;
  count(name: Name, prefix: readonly Part[], index: Index): Promise<number>;
  put<N extends Name>(name: N, row: Rows[N]): void;
  delete(name: Name, key: readonly Part[]): void;
  /**
   * Of a store that searches by itself the tables that were declared when it was opened: the records that have every word in these
   * fields, best first; undefined of others. `space`: null searches every space.
   */
  found?(
    table: string,
    fields: readonly string[],
    space: string | null,
    asked: readonly AskedWord[],
    limit: number,
  ): Promise<RecordRow[] | undefined>;
  /**
   * Of a store that has the index by itself: the keys of a part of it, in order, `count` of them behind the first `start`; undefined
   * of others.
   */
  ranged?(range: IndexRange, start: number, count: number): Promise<Key[] | undefined>;
}

export type RowWork<T> = (rows: RowTransaction) => Promise<T>;

/**
 * A place for rows: what a store of another kind has to be. `write` transactions come one after the other, among tabs
 * too; each commits as a whole when its work is done, or leaves no trace when the work throws. `durable`: whether it
 * is still there after the page is gone.
 */
export interface RowStore {
  readonly durable: boolean;
  read<T>(work: RowWork<T>): Promise<T>;
  write<T>(work: RowWork<T>): Promise<T>;
  close(): void;
}

/** A transaction with the few values, which are kept when they were changed. */
export interface Transaction extends RowTransaction {
  readonly meta: Meta;
}

export type Work<T> = (tx: Transaction) => Promise<T>;

/**
 * The rows of a replica. What they raise is StoreFailed, also when they do not answer in `patience` milliseconds. `landed` is
 * called where that of a work which had ended comes late: whoever asked may not be told any more.
 */
export class Store {
  declare readonly durable: boolean;
  readonly #rows: RowStore;
  readonly #patience: number;
  readonly #landed: (() => void) | undefined;

  constructor(rows: RowStore, patience: number, landed?: () => void) {
    this.durable = rows.durable;
    this.#rows = rows;
    this.#patience = patience;
    this.#landed = landed;
  }

  read<T>(work: Work<T>): Promise<T> {
    return this.#run("read", work);
  }

  write<T>(work: Work<T>): Promise<T> {
    return this.#run("write", work);
  }

  /**
   * A work that has not ended in time is undone, also when it ends later. Of one that has, the store says what became of
   * it, and has as long for that once more: what is asked next comes after it in any case.
   */
  async #run<T>(how: "read" | "write", work: Work<T>): Promise<T> {
    let late: unknown;
    const kept = this.#rows[how]((rows) =>
      within(rows, work).finally(() => {
        if (late) throw late;
        late = 0;
      }),
    );
    return answerOf(() => kept, this.#patience).catch((error) => {
      late ??= error;
      if (late) throw late;
      kept.then(this.#landed, () => {});
      return answerOf(() => kept, this.#patience, "commit_unknown");
    });
  }

  close(): void {
    this.#rows.close();
  }
}

/** What a store answers. Raises StoreFailed, also when that takes longer than `patience` milliseconds, with this `code`. */
export function answerOf<T>(ask: () => Promise<T>, patience: number, code?: string): Promise<T> {
  return inTime(ask, patience, new StoreFailed(`no answer in ${patience} ms`, code)).catch(raise);
}

/** Raises what a store has raised, as a StoreFailed where it is none of the client's. */
export function raise(error: unknown): never {
  throw error instanceof SyncdError ? error : new StoreFailed(error);
}

/** Does a work in a transaction that has begun. */
export async function within<T>(rows: RowTransaction, work: Work<T>): Promise<T> {
  const meta = { ...FRESH, ...(await rows.get("meta", ["meta"]))?.meta };
  const before = JSON.stringify(meta);
  const answer = await work(Object.assign(rows, { meta }));
  if (JSON.stringify(meta) !== before) rows.put("meta", { name: "meta", meta });
  return answer;
}

/** A space as it was told last, also where it is not named, or not again since all is read again. */
export async function spaceOf(tx: Transaction, id: string): Promise<Rows["spaces"] | undefined> {
  return (await tx.get("spaces", [id])) ?? tx.meta.told?.find((space) => space.id === id);
}

/** Forgets the conflicts but those that stay. */
export async function keepConflicts(tx: Transaction, stays: (conflict: Conflict) => unknown): Promise<void> {
  for (const { number, conflict } of await tx.all("conflicts"))
    if (!stays(conflict)) tx.delete("conflicts", [number]);
}

/** The row among the few values where indexes in memory say what was written last. */
export const LAST_WRITE = "write";

/** The name of a row's record, or of what the application is told of. */
export function keyOf(of: {
  readonly space: string | null;
  readonly table: string;
  readonly id: string;
}): Key {
  return [of.space ?? "", of.table, of.id];
}
