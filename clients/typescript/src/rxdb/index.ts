/**
 * @syncd/client/rxdb: a collection of RxDB, replicated with a table of a syncd server. RxDB stores, queries and
 * observes; this pulls, pushes and merges field by field.
 */

import type { RxCollection } from "rxdb";
import { type RxReplicationState, replicateRxCollection } from "rxdb/plugins/replication";
import {
  defer,
  distinctUntilChanged,
  filter,
  from,
  map,
  merge,
  type Observable,
  retry,
  Subject,
  share,
  switchMap,
} from "rxjs";
import { checkId, checkSpace } from "../data/change.js";
import { NoSuchChange, NotConnected } from "../errors.js";
import type { SocketConstructor } from "../live/endpoint.js";
import type { ApiClient } from "../sync/request.js";
import { LIVE, type LivePolicy, RETRY, type RetryPolicy } from "../sync/retry.js";
import { type Server, serverOf } from "../sync/server.js";
import { freshToken, type Token, usersOf } from "../sync/tokens.js";
import { Mutex } from "../timing.js";
import { type Document, shapeOf, type WriteRow } from "./documents.js";
import type { Feed, Written } from "./feed.js";
import { type Hint, hints$ } from "./hints.js";
import { type Checkpoint, type Pulled, pull } from "./pull.js";
import { again, idOf, push } from "./push.js";
import { Redelivery } from "./redelivery.js";
import { type Rejected, Shadow } from "./shadow.js";

export type { Checkpoint } from "./pull.js";
export type { Rejected } from "./shadow.js";

export interface ServerOptions {
  /** The app's name on the server. */
  readonly app: string;
  /** The server; a relative one is of the page's origin. */
  readonly url: string;
  readonly token: Token;
  readonly fetch?: typeof fetch;
  /** How long `token` has to answer, in milliseconds; 30,000 by default. */
  readonly callbackTimeout?: number;
  /** Without one (null, or a Node without it) it polls. */
  readonly webSocket?: SocketConstructor | null;
  readonly retry?: Partial<RetryPolicy>;
  readonly policy?: Partial<LivePolicy>;
}

export interface ReplicateOptions<D> {
  readonly collection: RxCollection<D>;
  /** The table on the server; the collection's name by default. */
  readonly table?: string;
  /** The space on the server; null, the default, is the user's personal one. */
  readonly space?: string | null;
  readonly replicationIdentifier?: string;
  /** The version of the application's own schema, sent with every push. */
  readonly schemaVersion?: number;
  readonly live?: boolean;
  readonly retryTime?: number;
  readonly waitForLeadership?: boolean;
  readonly autoStart?: boolean;
  readonly batchSize?: number;
}

/** An app on a server, for one user. Its collections share a socket. */
export class SyncdServer {
  readonly app: string;
  readonly #server: Server;
  readonly #socket: SocketConstructor | null;
  readonly #retry: RetryPolicy;
  readonly #policy: LivePolicy;
  readonly #lines = new Map<string, Observable<Hint>>();

  /** Raises NotConnected, InvalidWrite. */
  constructor(options: ServerOptions) {
    const server = serverOf(options);
    if (server === null) throw new NotConnected();
    this.app = checkId("the app", options.app);
    this.#server = server;
    const { webSocket = (globalThis as { WebSocket?: SocketConstructor }).WebSocket ?? null } = options;
    this.#socket = webSocket;
    // RxDB repeats what fails, after its own `retryTime`.
    this.#retry = { ...RETRY, attempts: 3, ...options.retry };
    this.#policy = { ...LIVE, ...options.policy };
  }

  /** Keeps a collection and a table the same from now on, or until they are, with `live: false`. */
  replicate<D>(options: ReplicateOptions<D>): SyncdReplication<D> {
    const { collection, table = collection.name, space = null, schemaVersion = null } = options;
    const key = checkSpace(space, usersOf(this.#server)[0] ?? "");
    const name = JSON.stringify([this.#server.url, this.app, table, key]);
    const { replicationIdentifier = `syncd ${name}` } = options;
    const shadow = new Shadow(collection.database, replicationIdentifier);
    const [turn, closing] = [new Mutex(), new AbortController()];
    const feed: Feed = {
      table: checkId("the table", table),
      space: key,
      shape: shapeOf(collection.schema.primaryPath as string, collection.schema.jsonSchema),
      shadow,
      schemaVersion,
      apiClient: () => this.#apiClient(shadow, closing.signal),
      written: (ids) => writtenOf(collection as unknown as RxCollection, ids),
      alone: (work) => turn.run(work),
    };
    return new SyncdReplication(feed, this.#hints(feed), { ...options, replicationIdentifier }, closing);
  }

  async #apiClient(shadow: Shadow, closing: AbortSignal): Promise<ApiClient> {
    const [client, server, retry] = [await shadow.client(), this.#server, this.#retry];
    const fresh = (): Promise<string> => freshToken(server, (user) => shadow.checkUser(user));
    return { app: this.app, client, server, retry, closing, fresh };
  }

  /** What there is to pull for a feed; feeds of one device share the socket. */
  #hints(feed: Feed): Observable<Hint> {
    const clients = defer(() => feed.shadow.device$()).pipe(
      retry({ delay: this.#policy.first }), // the pulls tell what is wrong
      switchMap((device) => device),
      map(({ client }) => client),
      distinctUntilChanged(),
    );
    const shared = clients.pipe(
      switchMap(() => feed.apiClient()),
      switchMap((apiClient) => this.#line(apiClient)),
    );
    return shared.pipe(filter((tables) => tables.length === 0 || tables.includes(feed.table)));
  }

  #line(apiClient: ApiClient): Observable<Hint> {
    const known =
      this.#lines.get(apiClient.client) ?? hints$(apiClient, this.#socket, this.#policy).pipe(share());
    this.#lines.set(apiClient.client, known);
    return known;
  }
}

/** A collection on its way to and from the server. */
export class SyncdReplication<D> {
  /** RxDB's own: `awaitInSync()`, `error$`, `active$`, `cancel()` and the rest. */
  readonly state: RxReplicationState<D, Checkpoint>;
  readonly #feed: Feed;
  readonly #written = new Subject<Hint>();
  readonly #redelivery: Redelivery;

  constructor(
    feed: Feed,
    hints: Observable<Hint>,
    {
      collection,
      batchSize = 100,
      table,
      space,
      schemaVersion,
      ...others
    }: ReplicateOptions<D> & { readonly replicationIdentifier: string },
    closing: AbortController,
  ) {
    this.#feed = feed;
    this.#redelivery = new Redelivery(feed);
    const { hashFunction } = collection.database;
    this.state = replicateRxCollection<D, Checkpoint>({
      ...others,
      // Of several tabs the leader alone replicates: what is kept of the server is theirs together.
      toggleOnDocumentVisible: false,
      collection,
      pull: {
        batchSize,
        stream$: merge(hints, this.#written).pipe(map(() => "RESYNC" as const)),
        handler: async (checkpoint, size) => (await this.#pull(checkpoint, size)) as never,
      },
      push: {
        batchSize,
        handler: async (rows) => (await this.#push(rows as unknown as WriteRow[], hashFunction)) as never,
      },
    });
    const edits = collection.storageInstance.changeStream().subscribe((bulk) => void this.#edited(bulk));
    this.state.canceled$.pipe(filter(Boolean)).subscribe(() => {
      edits.unsubscribe();
      closing.abort();
    });
  }

  async #pull(checkpoint: Checkpoint | undefined, size: number): Promise<Pulled> {
    const pulled = await this.#redelivery.complete(await pull(this.#feed, checkpoint, size));
    void this.#passed();
    return pulled;
  }

  /** RxDB goes through what was pulled now; what comes while it is paused it drops. */
  async #passed(): Promise<void> {
    const replication = this.state.internalReplicationState;
    if (replication === undefined) return;
    let dropped = false;
    const pauses = replication.events.paused.subscribe((paused) => {
      dropped ||= paused;
    });
    await replication.streamQueue.down;
    pauses.unsubscribe();
    if (this.#redelivery.written(dropped)) this.#written.next([]);
  }

  async #push(rows: readonly WriteRow[], hash: (text: string) => Promise<string>): Promise<Document[]> {
    this.#editing(rows.map((row) => idOf(this.#feed, row)));
    const { differing, edited } = await push(this.#feed, rows, async (text) => hash(text));
    this.#redelivery.ignored(edited);
    this.#written.next([]); // what was pushed is pulled too: that is how its place in the feed is passed
    return differing;
  }

  /** Documents were written here, unless it was RxDB, as they were pulled. */
  async #edited({ context, events }: EventBulk): Promise<void> {
    if (context === (await this.state.internalReplicationState?.downstreamBulkWriteFlag)) return;
    this.#editing(events.map(({ documentId }) => documentId));
  }

  /** RxDB is through with an edit, and has noted what was pushed, when its queue is, whatever is repeated until then. */
  #editing(ids: readonly string[]): void {
    const through = this.#redelivery.editing(ids);
    void (this.state.internalReplicationState?.streamQueue.up ?? Promise.resolve()).then(() => {
      if (through()) this.#written.next([]);
    });
  }

  /** Edits that the server refused, oldest first. Their documents are as the server has them. */
  rejected(): Promise<Rejected[]> {
    return this.#feed.shadow.rejected();
  }

  /** The same, now and at each change. */
  get rejected$(): Observable<Rejected[]> {
    return from(this.#feed.shadow.rejected$()).pipe(switchMap((rejected) => rejected));
  }

  /**
   * The client id that this database had until the server heard of another copy of it (say, from a backup of the
   * machine): it goes on as another device, with what was not sent. Null where that never was.
   */
  get copiedFrom$(): Observable<string | null> {
    return from(this.#feed.shadow.device$()).pipe(
      switchMap((device) => device),
      map(({ copiedFrom = null }) => copiedFrom),
      distinctUntilChanged(),
    );
  }

  /** Sends a refused edit again, say because you are a writer now. Raises SyncdError, and NoSuchChange. */
  async retry(changeId: string): Promise<void> {
    const rejected = (await this.rejected()).find((one) => one.changeId === changeId);
    if (rejected === undefined) throw new NoSuchChange(changeId);
    await again(this.#feed, rejected);
    await this.drop(changeId);
    this.#written.next([]);
  }

  /** Forgets a refused edit. */
  drop(changeId: string): Promise<void> {
    return this.#feed.shadow.forget(changeId);
  }
}

/** What RxDB tells of a write to its storage. */
interface EventBulk {
  readonly context: string;
  readonly events: readonly { readonly documentId: string }[];
}

async function writtenOf(collection: RxCollection, ids: readonly string[]): Promise<Map<string, Written>> {
  const found = await collection.storageInstance.findDocumentsById([...ids], true);
  const primary = collection.schema.primaryPath as string;
  return new Map(
    found.map((row) => {
      const document = row as unknown as Document;
      return [String(document[primary]), { at: row._meta.lwt, document }];
    }),
  );
}
