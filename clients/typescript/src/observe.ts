/**
 * @syncd/client/observe: conflicts, what was refused, what waits, spaces, and a record's history as reads that go on. Await them for
 * what is now, or subscribe to them for that and each later answer.
 */

import type { Place, TableOf } from "./batch.js";
import { type Conflict, spaceKey } from "./data/change.js";
import { changesOf, type Event, type JoinedSpace } from "./data/events.js";
import { Refused, SyncdError } from "./errors.js";
import { type ChangesPage, changesPage, type PastChange } from "./history.js";
import type { Replica } from "./replica.js";
import { Observed } from "./store/observed.js";
import type { Queued } from "./store/outbox.js";

/** A list that the replica has, and the events by which it may change. */
class ListView<T> extends Observed<readonly T[]> {
  readonly #kinds: readonly Event["kind"][];
  readonly #read: () => Promise<T[]>;

  constructor(on: Replica["on"], kinds: readonly Event["kind"][], read: () => Promise<T[]>) {
    super({ on, read: () => Promise.reject() }); // it reads through the replica
    this.#kinds = kinds;
    this.#read = read;
  }

  protected concerns({ kind }: Event): boolean {
    return this.#kinds.includes(kind);
  }

  protected now(): Promise<readonly T[]> {
    return this.#read();
  }
}

/** Values of this device and of others that stand against each other, oldest first, until `replica.clearConflicts`. */
export function conflictsOf<S extends object>(replica: Replica<S>): Observed<readonly Conflict[]> {
  return new ListView(onOf(replica), ["conflict", "changes"], () => replica.conflicts());
}

/** What the server refused, with its reason, until `replica.fix`, `requeue` or `drop`. */
export function rejectedOf<S extends object>(replica: Replica<S>): Observed<readonly Queued[]> {
  return new ListView(onOf(replica), ["answered", "changes"], () => replica.rejected());
}

/** What waits to be sent, in the order written. */
export function pendingOf<S extends object>(replica: Replica<S>): Observed<readonly Queued[]> {
  return new ListView(onOf(replica), ["answered", "changes"], () => replica.pending());
}

/** The user's shared spaces with their names and roles, as `replica.spaces` has them. */
export function spacesOf<S extends object>(replica: Replica<S>): Observed<readonly JoinedSpace[]> {
  return new ListView(onOf(replica), ["spaces", "changes"], () => replica.spaces());
}

function onOf<S extends object>(replica: Replica<S>): Replica["on"] {
  return (listener) => replica.on(listener);
}

/**
 * A record's changes as far as they were read, newest first. `hasMore`: there are older ones, which `more` reads. `error`: why the
 * server was not asked, or said nothing; what was read before stays. It is asked again by itself when it can be reached.
 */
export interface History {
  readonly changes: readonly PastChange[];
  readonly hasMore: boolean;
  readonly error: SyncdError | null;
}

export interface HistoryOptions extends Place {
  /** How many changes are read at once, 100 by default. */
  readonly page?: number;
}

const AGAIN = changesOf([], "device");

/** A record's history, as the server has it. Comes from `historyOf`. */
export class HistoryView extends Observed<History> {
  readonly #key: readonly [space: string, table: string, id: string];
  readonly #ask: (next: ChangesPage["next"]) => Promise<ChangesPage>;
  readonly #waits: () => Promise<boolean>;
  readonly #hear: { listener?: (event: Event) => void };
  #held: History = { changes: [], hasMore: false, error: null };
  #pages = 1;
  /** Whether a write of this device to the record is not on the server, perhaps. */
  #unsent = true;

  constructor(
    on: Replica["on"],
    key: readonly [space: string, table: string, id: string],
    ask: (next: ChangesPage["next"]) => Promise<ChangesPage>,
    waits: () => Promise<boolean>,
  ) {
    const hear: { listener?: (event: Event) => void } = {};
    super({
      read: () => Promise.reject(), // it reads through the replica
      on: (listener) => {
        hear.listener = listener;
        return on(listener);
      },
    });
    this.#hear = hear;
    this.#key = key;
    this.#ask = ask;
    this.#waits = waits;
  }

  /** Reads older changes, too; after an error the same once more. */
  readonly more = (): void => {
    if (this.#held.hasMore && this.#held.error === null) this.#pages += 1;
    this.#hear.listener?.(AGAIN);
  };

  protected concerns(event: Event): boolean {
    const failed = this.#held.error !== null;
    if (event.kind === "state") return failed && (event.name === "live" || event.name === "polling");
    if (event.kind === "answered") return event.accepted > 0 && (failed || this.#unsent);
    if (event === AGAIN || event.kind !== "changes") return event === AGAIN;
    const [space, table, id] = this.#key;
    const told = event.records.some(
      (one) => one.id === id && one.table === table && (one.space ?? "") === space,
    );
    if (event.source === "server") return told || event.everything || failed;
    this.#unsent ||= told || event.everything; // the server has it later, and says so
    return false;
  }

  protected async now(): Promise<History> {
    try {
      this.#unsent = false; // and true again by a write from here on
      if (await this.#waits()) this.#unsent = true;
      this.#held = await this.#read();
    } catch (error) {
      if (!(error instanceof SyncdError)) throw error;
      // There is none of a record that the server does not have yet.
      const unknown = error instanceof Refused && error.code === "record_not_found";
      this.#held = unknown ? { changes: [], hasMore: false, error: null } : { ...this.#held, error };
    }
    return this.#held;
  }

  async #read(): Promise<History> {
    const read: PastChange[] = [];
    let next: ChangesPage["next"] = null;
    for (let page = 0; page === 0 || (next && page < this.#pages); page += 1) {
      const found: ChangesPage = await this.#ask(next);
      read.push(...found.changes);
      next = found.next;
    }
    return { changes: read, hasMore: next !== null, error: null };
  }
}

/**
 * A record's history, read again where the record changes and where a write of this device has arrived. Nothing is asked while
 * nobody listens. What can be no table or id is the answer's `error`. Raises InvalidQuery for what can be no space.
 */
export function historyOf<S extends object>(
  replica: Replica<S>,
  table: TableOf<S>,
  id: string,
  { space = null, page = 100 }: HistoryOptions = {},
): HistoryView {
  const own = replica["spaceOf"](space);
  return new HistoryView(
    onOf(replica),
    [own, table, id],
    (next) => changesPage(replica, table, id, { space, page, next }),
    async () =>
      (await replica.pending()).some(
        (one) => one.id === id && one.table === table && spaceKey(one.space) === own,
      ),
  );
}
