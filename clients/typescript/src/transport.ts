/** Performs the steps of a session over HTTP, and gets the tokens that it takes. */

import { NotAllowed, Offline, SyncdError } from "./errors.js";
import { SLOWEST } from "./pace.js";
import { parseRetryAfter } from "./retry.js";
import type { Answer, Report, Send, Session } from "./sync.js";
import { inTime, sleep } from "./turn.js";

/**
 * A JWT, or a function that returns one and is asked again when it was refused or is about to end; null where the user
 * has to sign in.
 */
export type Token = string | (() => MaybeToken | Promise<MaybeToken>);
type MaybeToken = string | null | undefined;

export interface Server {
  readonly url: string;
  readonly token: Token;
  readonly fetch: typeof fetch;
  /** How long a function of the application has to answer, in milliseconds. */
  readonly timeout: number;
}

export type Request = Pick<Send, "method" | "path" | "body" | "travel">;

const TIMEOUT = 30_000;
/** What a server takes of a token. */
const LARGEST = 16 * 1024;

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

/**
 * The token now, without the blanks around it. Raises NotAllowed where there is none to be had without the user
 * (`no_token`: the function gave none, or no answer in time), and for one that no server takes (`bad_token`,
 * `token_too_large`); Offline `no_token` where the function failed, which is a reason to try later.
 */
export async function freshToken(
  { token, timeout }: Server,
  checkUser: (user: string) => Promise<void>,
): Promise<string> {
  const late = new NotAllowed(`no token in ${timeout} ms.`, "no_token");
  const given = typeof token === "string" ? token : await inTime(token, timeout, late).catch(explain);
  const fresh = typeof given === "string" ? given.trim() : "";
  if (fresh === "") throw new NotAllowed("no token.", "no_token");
  if (fresh.length > LARGEST) throw new NotAllowed(`longer than ${LARGEST}.`, "token_too_large");
  if (!/^[!-~]+$/.test(fresh)) throw new NotAllowed("no header carries it.", "bad_token");
  const user = claim(fresh, "sub");
  if (typeof user === "string") await checkUser(user);
  return fresh;
}

function explain(error: unknown): never {
  if (error instanceof SyncdError) throw error;
  throw new Offline("the token function failed", "no_token", error);
}

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
    const text = await textOf(response, moved);
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

async function textOf(response: Response, moved: (more?: number) => void): Promise<string> {
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
