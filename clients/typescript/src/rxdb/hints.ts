/** A socket that tells when there is something to pull. It carries no data: what it misses is pulled all the same. */

import { Observable } from "rxjs";
import { objectOf } from "../data/change.js";
import { dump, parse } from "../data/values.js";
import type { Socket, SocketConstructor } from "../live/endpoint.js";
import type { ApiClient } from "../sync/request.js";
import { delay, LIVE, type LivePolicy } from "../sync/retry.js";
import { sleep } from "../timing.js";

/** The tables that have news; empty where any may have. */
export type Hint = readonly string[];

/** Emits while it is subscribed to, and at each connection and each failed one: so it polls where sockets are blocked. */
export function hints$(
  apiClient: ApiClient,
  socket: SocketConstructor | null,
  policy: LivePolicy,
): Observable<Hint> {
  return new Observable((subscriber) => {
    const ending = new AbortController();
    const line = { apiClient, socket, policy, tell: (hint: Hint) => subscriber.next(hint) };
    void listen(line, ending.signal);
    return () => ending.abort();
  });
}

interface HintConnection {
  readonly apiClient: ApiClient;
  readonly socket: SocketConstructor | null;
  readonly policy: LivePolicy;
  readonly tell: (hint: Hint) => void;
}

async function listen(line: HintConnection, signal: AbortSignal): Promise<void> {
  const { first, longest } = line.policy;
  for (let attempt = 1; !signal.aborted; attempt++) {
    const accepted = await connection(line, signal).catch(() => false); // the pulls tell what is wrong
    if (signal.aborted) return;
    line.tell([]);
    if (accepted) attempt = 1;
    const policy = { attempts: Infinity, first, longest, patience: longest };
    await sleep(delay(policy, Math.min(attempt, 30), first, Math.random()) ?? longest, signal);
  }
}

/** One socket, until it ends. Whether the server accepted it. */
async function connection(
  { apiClient, socket: Constructor, policy, tell }: HintConnection,
  signal: AbortSignal,
): Promise<boolean> {
  if (Constructor === null) return false;
  const { app, server, client } = apiClient;
  const auth = { type: "auth", token: await apiClient.fresh(), clientId: client, protocol: 1 };
  if (signal.aborted) return false;
  const socket = new Constructor(`${server.url.replace(/^http/, "ws")}/ws/${encodeURIComponent(app)}`);
  const watch = new Heartbeat(socket, policy);
  const end = (): void => socket.close();
  signal.addEventListener("abort", end);
  let accepted = false;
  await new Promise<void>((resolve) => {
    socket.addEventListener("open", () => socket.send(dump(auth)));
    socket.addEventListener("close", () => resolve());
    socket.addEventListener("error", () => resolve());
    socket.addEventListener("message", ({ data }) => {
      watch.heard();
      const hint = readHint(String(data), app);
      if (hint === null) return;
      accepted = true;
      tell(hint);
    });
  });
  signal.removeEventListener("abort", end);
  watch.end();
  return accepted;
}

/** What a frame says there is to pull: anything, when the connection was accepted; null for nothing. */
function readHint(text: string, app: string): Hint | null {
  const { type, appId, tables } = objectOf(parse(text));
  if (type === "auth-ok") return [];
  if (type !== "sync-available" || appId !== app) return null;
  return Array.isArray(tables) ? tables.map(String) : [];
}

/** Closes a socket on which nothing is heard, not even the answer to a ping. */
class Heartbeat {
  readonly #timer: ReturnType<typeof setInterval>;
  #heard = true;

  constructor(socket: Socket, { pingInterval }: LivePolicy = LIVE) {
    this.#timer = setInterval(() => {
      if (!this.#heard) return socket.close();
      this.#heard = false;
      try {
        socket.send('{"type":"ping"}');
      } catch {
        socket.close(); // it was not open yet
      }
    }, pingInterval);
  }

  heard(): void {
    this.#heard = true;
  }

  end(): void {
    clearInterval(this.#timer);
  }
}
