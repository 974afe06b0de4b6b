/** What a live sync needs of its replica. */

import type { Exchange } from "../sync/exchange.js";
import { LIVE, type LivePolicy, RETRY } from "../sync/retry.js";
import type { Device, Report, Scope } from "../sync/session.js";

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

export type SocketConstructor = new (url: string) => Socket;

/**
 * A replica, seen by its live sync. `fresh` asks for the token and raises SyncdError. `exchange` performs one sync
 * over HTTP, for which the caller has the turn.
 */
export interface Endpoint extends Device {
  readonly url: string;
  readonly policy: LivePolicy;
  readonly renewable: boolean;
  readonly socket: SocketConstructor | null;
  fresh(): Promise<string>;
  exchange(scope: Scope, signal: AbortSignal): Promise<Report>;
}

/** Of a replica that syncs by this exchange. Raises NotConnected. */
export function endpointOf(
  exchange: Exchange,
  policy: Partial<LivePolicy> | undefined,
  socket = (globalThis as { WebSocket?: SocketConstructor }).WebSocket ?? null,
): Endpoint {
  const {
    server,
    parts: { device },
  } = exchange;
  return {
    ...device,
    url: `${server.url.replace(/^http/, "ws")}/ws/${encodeURIComponent(device.app)}`,
    policy: { ...LIVE, ...policy },
    renewable: typeof server.token === "function",
    socket,
    fresh: () => exchange.fresh(),
    exchange: (scope, signal) => exchange.perform(scope, signal, { ...RETRY, attempts: 1 }),
  };
}
