/** When to try again. Pure: randomness and time are arguments. */

/**
 * Exponential backoff with full jitter; a Retry-After of the server is a lower bound. Milliseconds throughout.
 * `attempts` counts the first one. A server that asks for more than `patience` is not waited for: the sync ends
 * with ServerBusy, which carries the time.
 */
export interface RetryPolicy {
  readonly attempts: number;
  readonly first: number;
  readonly longest: number;
  readonly patience: number;
}

export const RETRY: RetryPolicy = { attempts: 6, first: 250, longest: 20_000, patience: 60_000 };

/** The pause after the failed attempt number `attempt` (from 1), or null to give up. `chance` is in [0, 1). */
export function delay(
  policy: RetryPolicy,
  attempt: number,
  retryAfter: number | null,
  chance: number,
): number | null {
  if (attempt >= policy.attempts) return null;
  const backoff = chance * Math.min(policy.longest, policy.first * 2 ** (attempt - 1));
  if (retryAfter === null) return backoff;
  return retryAfter <= policy.patience ? retryAfter + Math.min(backoff, policy.first) : null;
}

/** So long at most, in milliseconds, a live sync waits because the server says so. */
export const LONGEST = 300_000;

/**
 * Retry-After in milliseconds, whether it gives seconds or an HTTP date; null where it is missing, wrong or over. A
 * date is one of the server's clock, so it is measured against the answer's own Date, where that can be read.
 */
export function parseRetryAfter(headers: Headers, now: number): number | null {
  const text = headers.get("retry-after") ?? "";
  const wait = /^\d+$/.test(text)
    ? Number(text) * 1000
    : Date.parse(text) - (Date.parse(headers.get("date") ?? "") || now);
  return wait >= 0 ? wait : null;
}

/** Whether a refusal with this HTTP status passes by itself. A quota that is used up (507) does not. */
export function passes(status: number): boolean {
  return status >= 500 ? status !== 507 : [408, 425, 429].includes(status);
}

/**
 * The times of a live sync, in milliseconds. Each interval is varied at random, so that devices spread out.
 *
 * `first`, `longest`: backoff between connections, with full jitter. `restartSpread`: over how long devices come
 * back when the server says that it restarts. `steady`: a connection that lasted so long ends the backoff.
 * `pingInterval`, `pingTimeout`: a connection that is silent for both is dead. `pushInterval`: from a push's answer
 * to the next push, which takes all that was written meanwhile. `answerTimeout`: so long it waits for a push's
 * answer while nothing else comes either. `blockedAfter`: after so many sockets in a row that could not be opened
 * it polls over HTTP every `pollInterval`, and tries a socket every `socketInterval`. `refusedInterval`: between
 * tries after a refusal. `renewBefore`: how long before its end a token is replaced.
 */
export interface LivePolicy {
  readonly first: number;
  readonly longest: number;
  readonly restartSpread: number;
  readonly steady: number;
  readonly openTimeout: number;
  readonly pingInterval: number;
  readonly pingTimeout: number;
  readonly pushInterval: number;
  readonly answerTimeout: number;
  readonly blockedAfter: number;
  readonly pollInterval: number;
  readonly socketInterval: number;
  readonly refusedInterval: number;
  readonly renewBefore: number;
}

export const LIVE: LivePolicy = {
  first: 500,
  longest: 30_000,
  restartSpread: 5_000,
  steady: 10_000,
  openTimeout: 10_000,
  pingInterval: 10_000,
  pingTimeout: 8_000,
  pushInterval: 20,
  answerTimeout: 30_000,
  blockedAfter: 3,
  pollInterval: 5_000,
  socketInterval: 60_000,
  refusedInterval: 60_000,
  renewBefore: 30_000,
};
