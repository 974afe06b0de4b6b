/** What a live sync needs of its replica. */

import type { Applied } from "./apply.js";
import type { Event } from "./events.js";
import type { Limits } from "./outbox.js";
import type { Page } from "./reply.js";
import type { LivePolicy } from "./retry.js";
import type { Store } from "./store.js";
import type { Report, Scope } from "./sync.js";

/** The part of a WebSocket that is used, so that others than the browser's will do. */
export interface Socket {
  addEventListener(
    type: "open" | "message" | "close" | "error",
    listener: (event: SocketEvent) => void,
  ): void;
  send(text: string): void;
  close(): void;
}

export interface SocketEvent {
  readonly data?: unknown;
  readonly code?: number;
  readonly reason?: string;
}

export type SocketConstructor = new (address: string) => Socket;

/**
 * A replica, seen by its live sync. `fresh` asks for the token and raises SyncdError. `exchange` performs one sync
 * over HTTP, for which the caller has the turn. `tell` announces what an answer changed; `publish` anything else.
 */
export interface Endpoint {
  readonly app: string;
  readonly address: string;
  readonly schemaVersion: number | null;
  readonly limits: Limits;
  readonly policy: LivePolicy;
  readonly renewable: boolean;
  readonly store: Store;
  readonly socket: SocketConstructor | null;
  client(): string;
  wall(): number;
  fresh(): Promise<string>;
  checkUser(user: string): Promise<void>;
  exchange(scope: Scope, signal: AbortSignal): Promise<Report>;
  tell(page: Page | null, done: Applied): void;
  publish(event: Event): void;
}
