/** Requests over HTTP. */

import { SLOWEST } from "./pace.js";
import { parseRetryAfter } from "./retry.js";
import type { Answer, Send } from "./session.js";

export type Request = Pick<Send, "method" | "path" | "body" | "travel">;

/** Where requests go, and how. */
export interface Line {
  readonly url: string;
  readonly fetch: typeof fetch;
}

const TIMEOUT = 30_000;

/**
 * One request and its whole answer. Raises what `fetch` raises, also when `signal` ends it, or when nothing has moved
 * for 30 seconds. What is sent moves unseen, so it may `travel` for longer.
 */
export async function request(
  { url, fetch }: Line,
  { method, path, body, travel }: Request,
  headers: Record<string, string>,
  signal: AbortSignal,
): Promise<Answer> {
  const ending = new AbortController();
  const { signal: over } = ending;
  const end = (): void => ending.abort();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const moved = (more = 0): void => {
    clearTimeout(timer);
    timer = setTimeout(end, TIMEOUT + more);
  };
  const ended = new Promise<never>((_, reject) => {
    over.addEventListener("abort", () => reject(over.reason));
  });
  const answer = async (): Promise<Answer> => {
    const options = { method, body, headers, signal: over, cache: "no-store" } as const;
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

/** What is said with each request, of a body also where there is none. Which device it is from is in the bodies that have to say so. */
export function headers(token: string): Record<string, string> {
  return {
    Authorization: `Bearer ${token}`,
    "X-Sync-Protocol": "1",
    "Content-Type": "application/json",
  };
}
