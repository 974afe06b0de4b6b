/** What a live sync needs of its replica. */

import type { Event } from "./events.js";
import type { LivePolicy } from "./retry.js";
import type { Device, Report, Scope } from "./sync.js";

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
 * over HTTP, for which the caller has the turn. `publish` tells everybody.
 */
export interface Endpoint extends Device {
  readonly address: string;
  readonly policy: LivePolicy;
  readonly renewable: boolean;
  readonly socket: SocketConstructor | null;
  fresh(): Promise<string>;
  /** Raises InvalidWrite for a space that cannot be, or is somebody else's own. */
  checkSpace(space: string | null): void;
  exchange(scope: Scope, signal: AbortSignal): Promise<Report>;
  publish(event: Event): void;
}
