/** Performs the steps of a session over HTTP, and gets the tokens that it takes. */

import { NotAllowed, Offline, SyncdError } from "./errors.js";
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

export type Request = Pick<Send, "method" | "path" | "body">;

const TIMEOUT = 30_000;
/** Bytes a millisecond of the slowest line that is waited for. */
export const SLOWEST = 2;
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
  const late = new NotAllowed(`the token function gave no answer in ${timeout} ms.`, "no_token");
  const given = typeof token === "string" ? token : await inTime(token, timeout, late).catch(explain);
  const fresh = typeof given === "string" ? given.trim() : "";
  if (fresh === "") throw new NotAllowed("there is no token.", "no_token");
  if (fresh.length > LARGEST)
    throw new NotAllowed(
      `the token has ${fresh.length} characters; a server takes ${LARGEST}.`,
      "token_too_large",
    );
  if (!/^[!-~]+$/.test(fresh))
    throw new NotAllowed("the token holds a blank, or a letter that no header can carry.", "bad_token");
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
  client: string,
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
      await request(server, step, headers(client, token, step), signal).then(
        (answer) => session.receive(step, answer),
        (cause) => session.failed(cause),
      );
    }
  }
  return session.report;
}

/**
 * One request and its whole answer. Raises what `fetch` raises, also when `signal` ends it, or when nothing has moved
 * for 30 seconds. What is sent moves unseen: so a body has the time that a slow line takes for it.
 */
export async function request(
  { url, fetch }: Server,
  { method, path, body }: Request,
  headers: Record<string, string>,
  signal: AbortSignal,
): Promise<Answer> {
  const ending = new AbortController();
  const end = (): void => ending.abort();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const moved = (bytes = 0): void => {
    clearTimeout(timer);
    timer = setTimeout(end, TIMEOUT + bytes / SLOWEST);
  };
  const ended = new Promise<never>((_, reject) => {
    ending.signal.addEventListener("abort", () => reject(ending.signal.reason));
  });
  const answer = async (): Promise<Answer> => {
    const options = { method, body, headers, signal: ending.signal, cache: "no-store" } as const;
    const response = await fetch(url + path, options);
    moved(Number(response.headers.get("content-length")));
    const retryAfter = response.headers.get("retry-after");
    return { status: response.status, retryAfter, body: await textOf(response, moved) };
  };
  moved(body?.length);
  signal.addEventListener("abort", end);
  try {
    return await Promise.race([answer(), ended]); // a fetch of the application's need not heed the signal
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
  }
}

async function textOf(response: Response, moved: () => void): Promise<string> {
  const reader = response.body?.getReader();
  if (reader === undefined) return response.text(); // not every environment reads in parts
  const decoder = new TextDecoder();
  for (let text = ""; ; ) {
    const { done, value } = await reader.read();
    moved();
    text += decoder.decode(value, { stream: !done });
    if (done) return text;
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
