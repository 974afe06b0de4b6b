/** Reads that go on: rows, a record or a status, read again whenever they may have changed. */

import { type Key, keyText } from "./change.js";
import { type Event, Hub, type Listener, type LiveState, type RecordKey } from "./events.js";
import { waiting } from "./outbox.js";
import type { Asked } from "./query.js";
import { present, type Row } from "./records.js";
import type { RecordRow, Transaction, Work } from "./store.js";

/** Where they read, and hear that something changed. */
export interface Source {
  read<T>(work: Work<T>): Promise<T>;
  on(listener: Listener): () => void;
}

/**
 * A read that can be awaited, for its answer now, or subscribed to, for that and every later one. The same object
 * may be subscribed to many times: it reads once for all. `current` is the latest answer while somebody is
 * subscribed, and undefined before the first one.
 */
export abstract class Observed<T> implements PromiseLike<T> {
  declare protected readonly source: Source;
  readonly #hub = new Hub<T>();
  #stop: (() => void) | null = null;
  #stale = false;
  #reading = false;
  #told = false;
  #current: T | undefined;

  constructor(source: Source) {
    this.source = source;
  }

  get current(): T | undefined {
    return this.#current;
  }

  /** The answer now. */
  protected abstract now(): Promise<T>;
  /** Takes note of what an event changes; false where it changes nothing here. */
  protected abstract concerns(event: Event): boolean;

  /** The next answer of a subscription; `previous` itself where nothing changed. */
  protected next(_previous: T | undefined): Promise<T> {
    return this.now();
  }

  /** The first subscriber has come. */
  protected begin(): void {}

  then<A = T, B = never>(
    fulfilled?: ((answer: T) => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.now().then(fulfilled, rejected);
  }

  /** Calls `listener` with the answer, soon, and with each later one. Returns how to stop it. */
  readonly subscribe = (listener: (answer: T) => void): (() => void) => {
    const stop = this.#hub.on(listener);
    let heard = listener;
    if (this.#stop === null) this.#start();
    else queueMicrotask(() => this.#current !== undefined && heard(this.#current));
    return () => {
      heard = () => undefined;
      stop();
      if (this.#hub.size === 0) this.#end();
    };
  };

  #start(): void {
    this.#told = false;
    this.begin();
    this.#stop = this.source.on((event) => {
      if (this.concerns(event)) this.#refresh();
    });
    this.#refresh();
  }

  #end(): void {
    this.#stop?.();
    this.#stop = null;
  }

  #refresh(): void {
    this.#stale = true;
    if (this.#reading) return;
    this.#reading = true;
    this.#read().catch((error: unknown) => console.error("syncd: a read failed", error));
  }

  /** One read at a time; what changes meanwhile is one more read. */
  async #read(): Promise<void> {
    try {
      while (this.#stale && this.#stop !== null) {
        this.#stale = false;
        const answer = await this.next(this.#current);
        if (this.#stop === null || (answer === this.#current && this.#told)) continue;
        this.#told = true;
        this.#current = answer;
        this.#hub.publish(answer);
      }
    } finally {
      this.#reading = false;
    }
  }
}

/** The records that a query asks for. Those that did not change stay the same objects from answer to answer. */
export class Query<F extends object> extends Observed<readonly Row<F>[]> {
  readonly #asked: Asked;
  /** All that match, by key, before order and limit; null: they have to be read, as after a read that failed. */
  #matching: Map<string, Row<F>> | null = null;
  #everything = true;
  readonly #changed = new Map<string, Key>();

  constructor(source: Source, asked: Asked) {
    super(source);
    this.#asked = asked;
  }

  protected override begin(): void {
    this.#everything = true;
  }

  protected concerns(event: Event): boolean {
    if (event.kind !== "changes") return false;
    const { table, space } = this.#asked;
    const wanted = event.records.filter(
      (record) => record.table === table && (space ?? record.space ?? "") === (record.space ?? ""),
    );
    for (const { space: held, id } of wanted)
      this.#changed.set(keyText([held ?? "", table, id]), [held ?? "", table, id]);
    if (event.everything) this.#everything = true;
    return event.everything || wanted.length > 0;
  }

  protected async now(): Promise<readonly Row<F>[]> {
    const matching = await this.source.read((tx) => this.#readAll(tx));
    return this.#asked.arrange(matching.values());
  }

  protected override async next(previous: readonly Row<F>[] | undefined): Promise<readonly Row<F>[]> {
    const changed = [...this.#changed.values()];
    const held = this.#everything ? null : this.#matching;
    this.#changed.clear();
    this.#everything = false;
    this.#matching = null;
    const read: Work<Map<string, Row<F>>> = (tx) =>
      held === null ? this.#readAll(tx) : this.#readSome(tx, held, changed);
    const matching = await this.source.read(read);
    this.#matching = matching;
    const rows = this.#asked.arrange(matching.values());
    return previous !== undefined && sameRows(previous, rows) ? previous : rows;
  }

  async #readAll(tx: Transaction): Promise<Map<string, Row<F>>> {
    const { table, space } = this.#asked;
    const rows = await (space === null
      ? tx.all("records", [table], "table")
      : tx.all("records", [space, table]));
    const matching = new Map<string, Row<F>>();
    for (const row of rows) this.#place(matching, row);
    return matching;
  }

  async #readSome(tx: Transaction, matching: Map<string, Row<F>>, keys: Key[]): Promise<Map<string, Row<F>>> {
    const rows = await Promise.all(keys.map((key) => tx.get("records", key)));
    for (const key of keys) matching.delete(keyText(key));
    for (const row of rows) if (row) this.#place(matching, row);
    return matching;
  }

  #place(matching: Map<string, Row<F>>, row: RecordRow): void {
    const { space, table, id, view, deleted } = row;
    if (this.#asked.matches(view, deleted)) matching.set(keyText([space, table, id]), present<F>(row));
  }
}

function sameRows(one: readonly unknown[], other: readonly unknown[]): boolean {
  return one.length === other.length && one.every((row, place) => row === other[place]);
}

/** One record, or null where there is none (or it is deleted, and deleted ones were not asked for). */
export class RecordView<F extends object> extends Observed<Row<F> | null> {
  readonly #key: Key;
  readonly #deleted: boolean;

  constructor(source: Source, key: Key, deleted: boolean) {
    super(source);
    this.#key = key;
    this.#deleted = deleted;
  }

  protected concerns(event: Event): boolean {
    return event.kind === "changes" && (event.everything || event.records.some((record) => this.#is(record)));
  }

  #is({ space, table, id }: RecordKey): boolean {
    return id === this.#key[2] && table === this.#key[1] && (space ?? "") === this.#key[0];
  }

  protected async now(): Promise<Row<F> | null> {
    const row = await this.source.read((tx) => tx.get("records", this.#key));
    return row === undefined || (row.deleted && !this.#deleted) ? null : present<F>(row);
  }
}

/** Where the replica stands as a whole: the live sync, and how many changes wait, were refused, are kept aside. */
export interface SyncStatus {
  readonly live: LiveState;
  readonly synced: boolean;
  readonly pending: number;
  readonly rejected: number;
  readonly aside: number;
}

export class StatusView extends Observed<SyncStatus> {
  readonly #live: () => LiveState;

  constructor(source: Source, live: () => LiveState) {
    super(source);
    this.#live = live;
  }

  protected concerns(event: Event): boolean {
    return event.kind === "state" || event.kind === "answered" || event.kind === "changes";
  }

  protected now(): Promise<SyncStatus> {
    return this.source.read(async (tx) => {
      const states = ["pending", "rejected", "aside"] as const;
      const counts = states.map(async (state) => [state, await tx.count("outbox", [state], "state")]);
      const counted = Object.fromEntries(await Promise.all(counts)) as Record<
        (typeof states)[number],
        number
      >;
      return { live: this.#live(), synced: !(await waiting(tx)), ...counted };
    });
  }

  protected override async next(previous: SyncStatus | undefined): Promise<SyncStatus> {
    const status = await this.now();
    return previous !== undefined && JSON.stringify(previous) === JSON.stringify(status) ? previous : status;
  }
}
