/** What an application says when it opens a replica, or keeps it live. */

import type { Batch, FieldsOf, TableOf } from "./batch.js";
import type { Conflict } from "./data/change.js";
import type { Json } from "./data/values.js";
import type { SocketConstructor } from "./live/endpoint.js";
import type { Indexes, Path } from "./query.js";
import type { Limits } from "./store/enqueue.js";
import type { Durability } from "./store/indexeddb.js";
import type { MakeStore } from "./store/open.js";
import type { Choosing } from "./sync/device.js";
import type { LivePolicy, RetryPolicy } from "./sync/retry.js";
import type { Locks } from "./sync/tabs.js";
import type { Token } from "./sync/tokens.js";
import type { Watching } from "./sync/verification.js";

/** How a replica, an `R`, is opened; see Replica.open. */
export interface OpenOptions<S extends object, R> {
  /** The app's name on the server. */
  readonly app: string;
  /** The server; a relative one is of the page's origin. Without it the replica works offline. */
  readonly url?: string;
  readonly token?: Token;
  /** Whose the replica is. A token that is text says so itself; where it is a function, say it here. */
  readonly user?: string;
  /**
   * This device's id; made up and kept in the store by default. One that is given must be no other store's, of whatever
   * user: two that write one field at once could end apart, and nothing would tell.
   */
  readonly clientId?: string;
  /** The version of the application's own schema, sent with every change. */
  readonly schemaVersion?: number;
  /**
   * Runs once when the store was last used with a smaller `schemaVersion`, before `open` returns. What it puts into
   * `batch` is written in one transaction with the new version.
   */
  readonly onMigrate?: (from: number, batch: Batch<S>, replica: R) => void | Promise<void>;
  /** Kept with every change and sent back with it. */
  readonly actor?: Json;
  readonly origin?: string;
  /** "full", the default, asks for a flush to the disk at each write; "normal" survives the browser's death only. */
  readonly durability?: Durability;
  /** Raises StoreFailed instead of keeping everything in memory where the browser offers no IndexedDB. */
  readonly requireDurable?: boolean;
  /** The fields whose words `search` of @syncd/client/search finds, by table, the weightiest first. */
  readonly search?: { readonly [T in TableOf<S>]?: readonly Path<FieldsOf<S, T>>[] };
  /** The fields by which records are found and sorted quickly: `indexes({ … })` of @syncd/client/indexes. */
  readonly indexes?: Indexes<S>;
  /** The spaces and tables that are kept: `partial({ spaces, tables })` of @syncd/client/partial. Without it what was chosen last is. */
  readonly partial?: Choosing<S>;
  readonly limits?: Partial<Limits>;
  readonly retry?: Partial<RetryPolicy>;
  readonly onConflict?: (conflict: Conflict) => void | Promise<void>;
  /** How long `token` and `store` have to answer, in milliseconds; 30,000 by default. `onMigrate` has ten times that. */
  readonly callbackTimeout?: number;
  /** For other environments than browsers, and for tests. `null` for `indexedDB` keeps everything in memory. */
  readonly indexedDB?: IDBFactory | null;
  readonly store?: MakeStore;
  readonly fetch?: typeof fetch;
  readonly webSocket?: SocketConstructor | null;
  readonly locks?: Locks;
  /** Milliseconds since 1970. */
  readonly wall?: () => number;
}

export interface LiveOptions {
  readonly policy?: Partial<LivePolicy>;
  /** Whether, and how often, the replica is verified and repaired by itself; see @syncd/client/verify. */
  readonly verify?: Watching | false;
}
