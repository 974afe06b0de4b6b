/** What an application says when it opens a replica, and what follows from it. */

import type { AnyTables, Batch } from "./batch.js";
import type { SocketConstructor } from "./endpoint.js";
import type { Durability } from "./indexeddb.js";
import type { Json } from "./json.js";
import type { MakeStore } from "./opening.js";
import type { Limits } from "./outbox.js";
import type { Replica } from "./replica.js";
import type { Conflict } from "./reply.js";
import type { LivePolicy, RetryPolicy } from "./retry.js";
import type { Locks } from "./tabs.js";
import { claim, type Server, type Token } from "./transport.js";

/** How a replica is opened; see Replica.open. */
export interface ReplicaOptions<S extends object = AnyTables> {
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
  readonly onMigrate?: (from: number, batch: Batch<S>, replica: Replica<S>) => void | Promise<void>;
  /** Kept with every change and sent back with it. */
  readonly actor?: Json;
  readonly origin?: string;
  /** "full", the default, asks for a flush to the disk at each write; "normal" survives the browser's death only. */
  readonly durability?: Durability;
  /** Raises StoreFailed instead of keeping everything in memory where the browser offers no IndexedDB. */
  readonly requireDurable?: boolean;
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
  /** Whether, and how often, the replica is verified and mended by itself; see @syncd/client/verify. */
  readonly verify?: Watching | false;
}

/** How often, and after how long without an event, a replica is verified by itself. Milliseconds. */
export interface Watching {
  readonly every?: number;
  readonly quiet?: number;
}

/** Milliseconds that the application's functions have to answer. */
export const CALLBACK_TIMEOUT = 30_000;

/** The server, if there is one. */
export function serverOf({
  url,
  token,
  fetch: given,
  callbackTimeout = CALLBACK_TIMEOUT,
}: {
  url?: string;
  token?: Token;
  fetch?: typeof fetch;
  callbackTimeout?: number;
}): Server | null {
  if (url === undefined || token === undefined) return null;
  const base = /^https?:/.test(url) ? url : new URL(url, globalThis.location?.href).href;
  // A browser's own fetch wants to be called as a function of the window.
  const fetched: typeof fetch = given ?? ((...request) => fetch(...request));
  return { url: base.replace(/\/+$/, ""), token, fetch: fetched, timeout: callbackTimeout };
}

/** Whose the replica is to be, as far as that is known without asking. */
export function usersOf({ user, token }: { readonly user?: string; readonly token?: Token }): string[] {
  const subject = typeof token === "string" ? claim(token, "sub") : undefined;
  return [user, subject].filter((name) => typeof name === "string");
}

/** The environment's own WebSocket. */
export function browserSocket(): SocketConstructor | null {
  return (globalThis as { WebSocket?: SocketConstructor }).WebSocket ?? null;
}
