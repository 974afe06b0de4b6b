/** A server, and the steps of a session that are performed with it. */

import { Offline } from "../errors.js";
import { CALLBACK_TIMEOUT, sleep } from "../timing.js";
import type { Report, Session } from "./session.js";
import type { Token, TokenSource } from "./tokens.js";
import { headers, type Line, request } from "./transport.js";

/** A server, and how it is asked. */
export interface Server extends TokenSource, Line {}

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
    if (signal.aborted) throw new Offline("it is closed", "closed");
    if (step.kind === "wait") await sleep(step.pause, signal);
    else if (step.kind === "renew") token = await ask();
    else {
      await request(server, step, headers(token), signal).then(
        (answer) => session.receive(step, answer),
        (cause) => session.failed(step, cause),
      );
    }
  }
  return session.report;
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
