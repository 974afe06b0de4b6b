/** Performs the steps of a session over HTTP, and gets the tokens that it takes. */

import { NotAllowed, Offline, SyncdError } from "./errors.js";
import type { Answer, Report, Send, Session } from "./sync.js";
import { sleep } from "./turn.js";

/** A JWT, or a function that returns one and is asked again when it was refused or is about to end. */
export type Token = string | (() => string | Promise<string>);

export interface Server {
  readonly url: string;
  readonly token: Token;
  readonly fetch: typeof fetch;
}

export type Request = Pick<Send, "method" | "path" | "body">;

const TIMEOUT = 30_000;

/** A claim of a JWT, unverified; undefined where there is none, or no JWT. */
export function claim(token: string, name: string): unknown {
  try {
    const part = (token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(part), (letter) => letter.charCodeAt(0));
    return (JSON.parse(new TextDecoder().decode(bytes)) as { [name: string]: unknown })[name];
  } catch {
    return undefined;
  }
}

/** The token now. A provider that fails is a reason to try later, like a network that does. Raises SyncdError. */
export async function freshToken(token: Token, checkUser: (user: string) => Promise<void>): Promise<string> {
  const answer = await ask(token);
  if (typeof answer !== "string") throw new NotAllowed("the token is no text.", "no_token");
  const user = claim(answer, "sub");
  if (typeof user === "string") await checkUser(user);
  return answer;
}

async function ask(token: Token): Promise<string> {
  try {
    return typeof token === "string" ? token : await token();
  } catch (error) {
    if (error instanceof SyncdError) throw error;
    throw new Offline(`no token: ${String(error)}.`, "no_token");
  }
}

/** Runs a session to its end. Raises what it raises, and Offline when `signal` ends it. */
export async function perform(
  session: Session,
  server: Server,
  client: string,
  fresh: () => Promise<string>,
  signal: AbortSignal,
): Promise<Report> {
  let token = await fresh();
  for (let step = await session.next(); step.kind !== "done"; step = await session.next()) {
    if (signal.aborted) throw new Offline("the replica was closed.", "closed");
    if (step.kind === "wait") await sleep(step.pause, signal);
    else if (step.kind === "renew") token = await fresh();
    else {
      await request(server, step, headers(client, token, step), signal).then(
        (answer) => session.receive(step, answer),
        (cause) => session.failed(cause),
      );
    }
  }
  return session.report;
}

/** One request and its whole answer. Raises what `fetch` raises, also when `signal` or 30 seconds end it. */
export async function request(
  { url, fetch }: Server,
  { method, path, body }: Request,
  headers: Record<string, string>,
  signal: AbortSignal,
): Promise<Answer> {
  const ending = new AbortController();
  const end = (): void => ending.abort();
  const timer = setTimeout(end, TIMEOUT);
  signal.addEventListener("abort", end);
  try {
    const options = { method, body, headers, signal: ending.signal, cache: "no-store" } as const;
    const response = await fetch(url + path, options);
    const retryAfter = response.headers.get("retry-after");
    return { status: response.status, retryAfter, body: await response.text() };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
  }
}

/** What a device says of itself with each request. */
export function headers(client: string, token: string, { body }: Request): Record<string, string> {
  const ascii = /^[\x20-\x7e]*$/.test(client); // the push's body names it too
  return {
    Authorization: `Bearer ${token}`,
    Accept: "application/json",
    "X-Sync-Protocol": "1",
    ...(ascii ? { "X-Client-Id": client } : {}),
    ...(body === null ? {} : { "Content-Type": "application/json" }),
  };
}
