/** Performs the steps of a session over HTTP. */

import { Offline } from "../errors.js";
import { CALLBACK_TIMEOUT, sleep } from "../timing.js";
import { SLOWEST } from "./pace.js";
import { parseRetryAfter } from "./retry.js";
import type { Answer, Report, Send, Session } from "./session.js";
import type { Token, TokenSource } from "./tokens.js";

/** A server, and how it is asked. */
export interface Server extends TokenSource {
  readonly url: string;
  readonly fetch: typeof fetch;
}

export type Request = Pick<Send, "method" | "path" | "body" | "travel">;

const TIMEOUT = 30_000;

/** Runs a session to its end. Raises what it raises, and Offline when `signal` ends it. */
export async function perform(
  session: Session,
  server: Server,
  fresh: () => Promise<string>,
  signal: AbortSignal,
): Promise<Report> {
  const ask = (): Promise<string> => fresh().catch((error) => session.noToken(error));
  let token = await ask();
  for (let step = await session.next(); step.kind !== "done"; step = await session.next()) {
    if (signal.aborted) throw new Offline("the replica was closed.", "closed");
    if (step.kind === "wait") await sleep(step.pause, signal);
    else if (step.kind === "renew") token = await ask();
    else {
      await request(server, step, headers(token, step), signal).then(
        (answer) => session.receive(step, answer),
        (cause) => session.failed(step, cause),
      );
    }
  }
  return session.report;
}

/**
 * One request and its whole answer. Raises what `fetch` raises, also when `signal` ends it, or when nothing has moved
 * for 30 seconds. What is sent moves unseen, so it may `travel` for longer.
 */
export async function request(
  { url, fetch }: Server,
  { method, path, body, travel }: Request,
  headers: Record<string, string>,
  signal: AbortSignal,
): Promise<Answer> {
  const ending = new AbortController();
  const end = (): void => ending.abort();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const moved = (more = 0): void => {
    clearTimeout(timer);
    timer = setTimeout(end, TIMEOUT + more);
  };
  const ended = new Promise<never>((_, reject) => {
    ending.signal.addEventListener("abort", () => reject(ending.signal.reason));
  });
  const answer = async (): Promise<Answer> => {
    const options = { method, body, headers, signal: ending.signal, cache: "no-store" } as const;
    const response = await fetch(url + path, options);
    const retryAfter = parseRetryAfter(response.headers, Date.now());
    const text = await readText(response, moved);
    return { status: response.status, retryAfter, body: text, took: performance.now() - began };
  };
  const began = performance.now();
  moved(travel);
  signal.addEventListener("abort", end);
  try {
    return await Promise.race([answer(), ended]); // a fetch of the application's need not heed the signal
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
  }
}

async function readText(response: Response, moved: (more?: number) => void): Promise<string> {
  const reader = response.body?.getReader();
  moved(reader ? 0 : Number(response.headers.get("content-length")) / SLOWEST);
  if (reader === undefined) return response.text(); // not every environment reads in parts
  const decoder = new TextDecoder();
  for (let text = ""; ; ) {
    const { done, value } = await reader.read();
    moved();
    text += decoder.decode(value, { stream: !done });
    if (done) return text;
  }
}

/** What is said with each request. Which device it is from is in the bodies that have to say so. */
export function headers(token: string, { body }: Request): Record<string, string> {
  return {
    Authorization: `Bearer ${token}`,
    Accept: "application/json",
    "X-Sync-Protocol": "1",
    ...(body === null ? {} : { "Content-Type": "application/json" }),
  };
}

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
