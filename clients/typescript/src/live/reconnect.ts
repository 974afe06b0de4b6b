/** Why a connection ended, and what to do then. Pure: time and chance are arguments. */

import { CLOSED, RETRYABLE } from "../error-codes.js";
import { NotAllowed, nameOf, Offline, ServerBusy, StoreFailed, SyncdError } from "../errors.js";
import type { Trouble } from "../store/store.js";
import { type LivePolicy, LONGEST } from "../sync/retry.js";

/**
 * Why a connection is over, or why there was none. `opened`: the server had accepted the token. `renew`: it does
 * not accept it. `restarting`: it said that it goes away, so every device comes back at once. `suspect`: the push
 * that was under way may be why. `blocked`: there are no sockets at all.
 */
export interface Ending {
  readonly state: "offline" | "busy" | "refused";
  readonly code: string;
  readonly detail: string;
  readonly opened?: boolean;
  readonly renew?: boolean;
  readonly restarting?: boolean;
  readonly suspect?: boolean;
  readonly blocked?: boolean;
  /** The store failed here, which says nothing of the server. */
  readonly local?: boolean;
  /** It was catching up, over a line that may be too slow for what comes in one piece: HTTP is seen to move. */
  readonly behind?: boolean;
  readonly retryAfter?: number;
}

/** What is wrong with a token. */
export const NOT_ALLOWED = ["unauthorized", "forbidden", "no_token", "bad_token", "token_too_large"];
/** How long a store that failed is left alone, in milliseconds: there may be room again at any time. */
const STORE_PAUSE = 4000;

/** How the outbox calls it; see status.ts. Of a store that failed it knows nothing: what is unsent waits. */
export function troubleOf({ state, code, detail, local }: Ending): Trouble | null {
  return local
    ? null
    : { kind: state === "refused" && NOT_ALLOWED.includes(code) ? "forbidden" : state, code, detail };
}

/** A socket that was closed with `code`, for the reason that the server gave. */
export function closed(code: number, reason: string, opened: boolean): Ending {
  const name = CLOSED[code] ?? `closed_${code}`;
  const detail = reason || `it was closed: ${name} (${code}).`;
  const renew = NOT_ALLOWED.includes(name);
  const suspect = code === 1009 || code === 4400;
  const restarting = name === "closing" || name === "restarting";
  const state = RETRYABLE.includes(name) ? "busy" : renew || suspect ? "refused" : "offline";
  return { state, code: name, detail, opened, renew, suspect, restarting };
}

/** What a sync over HTTP, or the replica itself, raised. */
export function failed(error: SyncdError): Ending {
  const { code, detail } = error;
  if (error instanceof Offline) return { state: "offline", code, detail };
  if (error instanceof ServerBusy)
    return { state: "busy", code, detail, retryAfter: Math.min(error.retryAfter ?? 0, LONGEST) };
  if (error instanceof StoreFailed) return { state: "busy", code, detail, local: true };
  const unnamed = error instanceof NotAllowed && !NOT_ALLOWED.includes(code);
  return { state: "refused", code: unnamed ? "unauthorized" : code, detail };
}

/** Anything that was raised. */
export function endingOf(error: unknown): Ending {
  if (error instanceof SyncdError) return failed(error);
  return { state: "refused", code: "internal", detail: `This client failed (${nameOf(error)}).` };
}

/**
 * What comes next: a pause in milliseconds, or polling. `silent`: the application need not hear of it. `fix`: one
 * sync over HTTP before the pause, which finds out what is wrong with the push.
 */
export interface Plan {
  readonly pause: number;
  readonly poll?: boolean;
  readonly silent?: boolean;
  readonly fix?: boolean | undefined;
}

/** Decides when to connect again, over the life of a live sync. `renewable`: the token comes from a function. */
export class Reconnect {
  readonly #policy: LivePolicy;
  readonly #renewable: boolean;
  #attempt = 0;
  #blocked = 0;
  #renewed = false;

  constructor(policy: LivePolicy, renewable: boolean) {
    this.#policy = policy;
    this.#renewable = renewable;
  }

  /** The plan after a connection that lasted so many milliseconds; `chance` is uniform in [0, 1). */
  after(ending: Ending, lasted: number, chance: number): Plan {
    if (ending.opened && lasted >= this.#policy.steady) {
      this.#attempt = 0;
      this.#renewed = false;
    }
    const part = 0.5 + chance / 2;
    const pause = this.#policy.refusedInterval * part;
    const plan: Plan = { pause };
    if (ending.local) return { ...plan, pause: STORE_PAUSE * part };
    if (ending.renew) return this.#refusedToken(plan);
    this.#blocked = ending.opened ? 0 : this.#blocked + 1;
    const poll = ending.blocked || this.#blocked >= this.#policy.blockedAfter;
    if (ending.state === "refused" && !ending.suspect) return { ...plan, poll };
    this.#attempt += 1;
    return { ...plan, pause: this.#backoff(ending, chance), poll, fix: ending.suspect };
  }

  #refusedToken(plan: Plan): Plan {
    if (!this.#renewable || this.#renewed) return plan;
    this.#renewed = true;
    return { ...plan, pause: 0, silent: true };
  }

  #backoff(ending: Ending, chance: number): number {
    const grown = Math.min(this.#policy.longest, this.#policy.first * 2 ** (this.#attempt - 1));
    const longest = ending.restarting ? Math.max(grown, this.#policy.restartSpread) : grown;
    return (ending.retryAfter ?? 0) + chance * longest;
  }
}
