/** The application's face: a local database that syncs when it can. */

import type { AnyTables, FieldsOf, Place, TableOf, WriteOptions } from "./batch.js";
import { Batch } from "./batch.js";
import {
  type Conflict,
  checkId,
  checkSpace,
  type Key,
  newId,
  spaceKey,
  type Write,
  type Written,
} from "./data/change.js";
import { changesOf, type Event, type JoinedSpace, type Listener, liveState } from "./data/events.js";
import type { Registers } from "./data/merge.js";
import { copy, freeze, type Json, type JsonObject, same } from "./data/values.js";
import { InvalidQuery, SyncBusy } from "./errors.js";
import { endpointOf } from "./live/endpoint.js";
import { Live } from "./live/live.js";
import type { LiveOptions, OpenOptions } from "./options.js";
import { compile, Query, type QueryOptions, RecordView, type Where } from "./query.js";
import { StatusView } from "./status.js";
import { enqueue } from "./store/enqueue.js";
import type { Status } from "./store/explain.js";
import { Hub } from "./store/hub.js";
import type { Source } from "./store/observed.js";
import { migrate } from "./store/open.js";
import { listed, type Queued } from "./store/outbox.js";
import { drop, type Requeue, requeue } from "./store/requeue.js";
import { type ChangeState, keepConflicts, type Transaction } from "./store/store.js";
import { OwnDevice } from "./sync/device.js";
import { Exchange } from "./sync/exchange.js";
import { RETRY } from "./sync/retry.js";
import { serverOf } from "./sync/server.js";
import type { Report } from "./sync/session.js";
import { Tabs } from "./sync/tabs.js";
import { sleep } from "./timing.js";

/** How a replica is opened; see Replica.open. */
export type ReplicaOptions<S extends object = AnyTables> = OpenOptions<S, Replica<S>>;

/**
 * One device's copy of an app's data, in the browser's store `name`. Every write is durable, visible and queued when
 * its promise is fulfilled; `sync()` exchanges it with the server, `live()` does so all the time. The tabs of an
 * origin share a store and are one device.
 */
export class Replica<S extends object = AnyTables> {
  declare readonly name: string;
  declare readonly app: string;
  readonly #hub = new Hub();
  readonly #closing = new AbortController();
  readonly #device: OwnDevice;
  readonly #source: Source = {
    read: (work) => this.#device.store.read(work),
    on: (listener) => this.on(listener),
  };
  #live: Live | null = null;
  #tabs!: Tabs;
  // Private to TypeScript only: the modules beside the core (history, search, undo) reach these as replica["exchange"].
  declare private exchange: Exchange;
  declare private readonly extra: JsonObject;
  declare private readonly options: ReplicaOptions<S>;
  /** The last write or batch since the replica was opened. */
  protected written: readonly Written[] = [];

  private constructor(name: string, options: ReplicaOptions<S>) {
    const { schemaVersion, actor, origin } = options;
    this.name = name;
    this.app = checkId("the app", options.app);
    this.options = options;
    const publish = (event: Event): void => {
      this.#hub.publish(event);
      this.#tabs.post({ kind: "event", event });
    };
    this.#device = new OwnDevice(this.app, options, publish, (why) => {
      this.#live?.restart(why);
      publish(changesOf([], "device", true));
    });
    this.extra = {
      schemaVersion,
      actor: actor === undefined ? actor : copy(actor, "actor", "actor", 1),
      origin,
    } as JsonObject; // JSON leaves out what was not given
  }

  /** Opens, or creates, a replica. Raises WrongReplica when the store is another app's, device's or user's; InvalidWrite, StoreFailed. */
  static async open<S extends object = AnyTables>(
    name: string,
    options: ReplicaOptions<S>,
  ): Promise<Replica<S>> {
    const replica = new Replica<S>(name, options);
    await replica.#open(options).catch(async (error) => {
      await replica.close(); // as far as it was opened
      throw error;
    });
    return replica;
  }

  async #open(options: ReplicaOptions<S>): Promise<void> {
    const { schemaVersion, callbackTimeout, onMigrate, clientId, locks, onConflict } = options;
    if (clientId !== undefined) checkId("the client id", clientId);
    await this.#device.open(this.name, options);
    this.#tabs = new Tabs(`syncd:${this.name}`, this.durable, locks);
    this.#tabs.on((message) => {
      if (message.kind === "event" && message.event.kind !== "state") this.#hub.publish(message.event);
    });
    if (this.#device.chosen) this.#tabs.post({ kind: "event", event: changesOf([], "tab", true) });
    this.on((event) => event.kind === "conflict" && onConflict?.(event.conflict));
    this.exchange = new Exchange({
      tabs: this.#tabs,
      server: serverOf(options),
      device: this.#device,
      retry: { ...RETRY, ...options.retry },
      live: () => this.#live,
      closing: this.#closing.signal,
    });
    if (schemaVersion === undefined) return;
    const batch = new Batch<S>({ ...this.extra, origin: "migration" }, this.#device.user);
    const written = await migrate(
      this.#device.store,
      schemaVersion,
      callbackTimeout,
      (from) => onMigrate?.(from, batch, this),
      (tx) => enqueue(tx, batch.writes, this.#device.wall(), this.#device.limits, true),
    );
    // It may have asked, and so made what is kept in memory.
    if (written?.[0]) this.#committed(written.map(({ key }) => key));
  }

  /** This device's id on the server. */
  get clientId(): string {
    return this.#device.client();
  }

  /**
   * The id that this device had until the server told that its store is a copy, say out of a backup, of which the other
   * one pushes too; else null. It goes on under another id, with what was not sent.
   */
  get copiedFrom(): string | null {
    return this.#device.copiedFrom;
  }

  /** Whether the data is still there after the page is gone; not so in some private modes. */
  get durable(): boolean {
    return this.#device.store.durable;
  }

  /** Asks the browser not to evict this origin's stores. Whether it will not. */
  async persist(): Promise<boolean> {
    return this.durable && !!(await globalThis.navigator?.storage?.persist?.());
  }

  // -- writing ---------------------------------------------------------------------------------------

  /** Writes a record: creates it, or brings it back if deleted. Fields not named stay. Returns the changeId. Every write raises
   * NotAllowed (`not_a_writer`) in a space of which the user is known to be a reader. */
  put<T extends TableOf<S>>(
    table: T,
    id: string,
    fields: Partial<FieldsOf<S, T>>,
    place?: Place,
  ): Promise<string> {
    return this.#one((batch) => batch.put(table, id, fields, place));
  }

  /** Writes some fields of a record. A deleted record stays deleted. Returns the changeId. As `delete` and `undelete` it raises
   * NoSuchRecord where there is none on this device, unless `upsert`. */
  patch<T extends TableOf<S>>(
    table: T,
    id: string,
    fields: Partial<FieldsOf<S, T>>,
    place?: WriteOptions,
  ): Promise<string> {
    return this.#one((batch) => batch.patch(table, id, fields, place));
  }

  /** Deletes a record; `undelete` brings it back. Returns the changeId. */
  delete(table: TableOf<S>, id: string, place?: WriteOptions): Promise<string> {
    return this.#one((batch) => batch.delete(table, id, place));
  }

  /** Brings a deleted record back. Returns the changeId. */
  undelete(table: TableOf<S>, id: string, place?: WriteOptions): Promise<string> {
    return this.#one((batch) => batch.undelete(table, id, place));
  }

  async #one(write: (batch: Batch<S>) => void): Promise<string> {
    return (await this.batch(write))[0] as string;
  }

  /**
   * Several writes as one: one transaction here and one push, all or nothing on the server. Returns the changeIds.
   * Raises BatchTooLarge, NoSuchRecord, and what `write` raises; nothing is written then.
   */
  async batch(write: (batch: Batch<S>) => void | Promise<void>): Promise<string[]> {
    const batch = new Batch<S>(this.extra, this.#device.user);
    await write(batch);
    return this.commit(async () => batch.writes);
  }

  /** Writes and queues, as one batch, what is planned in the same transaction. Returns the changeIds. */
  private async commit(plan: (tx: Transaction) => Promise<readonly Write[]>): Promise<string[]> {
    const written = await this.#device.store.write(async (tx) =>
      enqueue(tx, await plan(tx), this.#device.wall(), this.#device.limits),
    );
    if (!written[0]) return [];
    this.written = written;
    this.#committed(written.map(({ key }) => key));
    return written.map(({ changeId }) => changeId);
  }

  /** A fresh record id (UUIDv7): unique everywhere, and kind to the server's indexes. */
  newId(): string {
    return newId(this.#device.wall());
  }

  // -- reading ---------------------------------------------------------------------------------------

  /**
   * The record as this device sees it, own unsent writes included; null if there is none. A deleted one is returned
   * only with `deleted`. Await it, or subscribe to it. Raises InvalidQuery for what can be no name.
   */
  get<T extends TableOf<S>>(
    table: T,
    id: string,
    options: Place & { readonly deleted?: boolean } = {},
  ): RecordView<FieldsOf<S, T>> {
    return new RecordView(this.#source, this.#key(table, id, options), options.deleted);
  }

  /** The records of a table that fulfil every condition. Await it, or subscribe to it. Raises InvalidQuery. */
  query<T extends TableOf<S>>(
    table: T,
    where: Where<FieldsOf<S, T>> = [],
    options: QueryOptions<FieldsOf<S, T>> = {},
  ): Query<FieldsOf<S, T>> {
    const asked = compile(table, where, options, this.#device.user);
    return new Query(this.#source, this.options.indexes?.(this.#source, asked) ?? asked);
  }

  /** Every register of a record with its stamp, the tombstone `deletedAt` included; empty if unknown. */
  async registers(table: TableOf<S>, id: string, place: Place = {}): Promise<Registers> {
    const key = this.#key(table, id, place);
    const row = await this.#device.store.read((tx) => tx.get("records", key));
    return new Map(freeze([...(row?.view ?? [])]));
  }

  /** The shared spaces that the server said this user is in, with their names and the user's roles, as of the last sync. */
  async spaces(): Promise<JoinedSpace[]> {
    const rows = (await this.#device.store.read((tx) => tx.all("spaces"))).filter(({ id }) => spaceKey(id));
    return rows.map((row) => ({ name: null, role: null, ...row }) as JoinedSpace);
  }

  /** Where the replica stands as a whole. Await it, or subscribe to it. */
  status(): StatusView {
    return new StatusView(this.#source, () => this.#live?.state ?? liveState("closed"));
  }

  /** Everything that happens from now on. Returns how to stop it. */
  on(listener: Listener): () => void {
    return this.#hub.on(listener);
  }

  #key(table: string, id: string, { space }: Place): Key {
    checkId("the table", table, InvalidQuery);
    return [this.spaceOf(space), table, checkId("the record id", id, InvalidQuery)];
  }

  /** A space that is asked for, by its name in here. Raises InvalidQuery. */
  private spaceOf(space: string | null | undefined): string {
    return checkSpace(space, this.#device.user, InvalidQuery);
  }

  // -- the outbox ------------------------------------------------------------------------------------

  /** What waits to be sent, in the order written. */
  pending(): Promise<Queued[]> {
    return this.#listed("pending");
  }

  /** What the server refused, with its reason; still visible in the records until fixed or dropped. */
  rejected(): Promise<Queued[]> {
    return this.#listed("rejected");
  }

  /** Unsent writes to spaces that were left. Each one's `change` is plain JSON, ready to export. */
  keptAside(): Promise<Queued[]> {
    return this.#listed("aside");
  }

  #listed(state: ChangeState): Promise<Queued[]> {
    return this.#device.store.read((tx) => listed(tx, state));
  }

  /** Edits a refused change and queues it, and its batch, again. Returns its new changeId. Raises NoSuchChange. */
  fix(changeId: string, fields: object): Promise<string> {
    return this.#requeue(changeId, { fields });
  }

  /** Queues a refused or set-aside change again as it is, with the rest of its batch. */
  requeue(changeId: string): Promise<string> {
    return this.#requeue(changeId, {});
  }

  /** Queues a refused or set-aside change again, alone, for another space (null: the personal one). */
  async move(changeId: string, space: string | null): Promise<string> {
    return this.#requeue(changeId, { space: this.#device.checkSpace(space), alone: true });
  }

  async #requeue(changeId: string, how: Requeue): Promise<string> {
    const fresh = await this.#device.store.write((tx) => requeue(tx, changeId, this.#device.wall(), how));
    this.#committed(fresh.keys);
    return fresh.changeId;
  }

  /** Gives up a refused or set-aside change, and its batch unless `alone`: what the server has shows again. Raises NoSuchChange. */
  async drop(changeId: string, { alone }: { readonly alone?: boolean } = {}): Promise<void> {
    this.#committed(await this.#device.store.write((tx) => drop(tx, changeId, alone)));
  }

  /** Values of this device and of others that stand against each other, oldest first, until `clearConflicts`. */
  async conflicts(): Promise<Conflict[]> {
    const rows = await this.#device.store.read((tx) => tx.all("conflicts"));
    return rows.map(({ conflict }) => freeze(conflict));
  }

  /** Forgets these conflicts, or all of them where none is named. */
  async clearConflicts(...dismissed: Conflict[]): Promise<void> {
    const other = (held: object): boolean =>
      !dismissed.some((one: object) => same(one as Json, held as Json));
    await this.#device.store.write((tx) => keepConflicts(tx, (held) => dismissed[0] && other(held)));
    this.#committed([]);
  }

  /** Why a record is not synced, or that it is. */
  async why(table: TableOf<S>, id: string, place: Place = {}): Promise<Status> {
    const key = this.#key(table, id, place);
    const { explain } = await import("./store/explain.js");
    return this.#device.store.read((tx) => explain(tx, key));
  }

  // -- syncing ---------------------------------------------------------------------------------------

  /**
   * Sends what is pending and fetches what is new, with retries, and says what happened; what others write meanwhile may
   * be left to the next. Raises Offline, ServerBusy, NotAllowed, Refused, BadReply, NotConnected, and SyncBusy when another
   * tab is at it for longer than `patience` milliseconds; nothing is lost by any of them, and the next sync goes on.
   */
  sync({ patience }: { patience?: number } = {}): Promise<Report> {
    return this.exchange.sync("both", patience);
  }

  /** Only sends (each answer still brings some of what is new). Raises what `sync` raises. */
  push({ patience }: { patience?: number } = {}): Promise<Report> {
    return this.exchange.sync("push", patience);
  }

  /** Only fetches. Raises what `sync` raises. */
  pull({ patience }: { patience?: number } = {}): Promise<Report> {
    return this.exchange.sync("pull", patience);
  }

  /**
   * Keeps the replica current from now on, until the answer or the replica is closed. One tab has the connection, the
   * others follow. Raises NotConnected, and SyncBusy when it is live already.
   */
  live({ policy, verify = {} }: LiveOptions = {}): Live {
    if ((this.#live?.state.name ?? "closed") !== "closed") throw new SyncBusy("it is live already.");
    const closing = new AbortController();
    const { signal } = closing;
    const endpoint = endpointOf(this.exchange, policy, this.options.webSocket);
    this.#live = new Live(endpoint, this.#tabs, this.#hub, closing);
    // What verifies is loaded when it may first be due. Where it cannot be had, the next live sync tries again.
    if (verify)
      sleep(verify.quiet ?? 30_000, signal)
        .then(
          async () =>
            signal.aborted ||
            (await import("./live/verify-live.js")).verifyLive(this.exchange, this, verify, signal),
        )
        .catch(() => {});
    return this.#live;
  }

  /** The application wrote these records. */
  #committed(keys: readonly Key[]): void {
    this.#hub.publish(changesOf(keys, "device"));
    this.#tabs.post({ kind: "event", event: changesOf(keys, "tab") });
  }

  /** Ends a live sync and closes the store. Everything written is in it. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#live?.close();
    this.#tabs?.close();
    this.#device.store?.close();
  }
}
