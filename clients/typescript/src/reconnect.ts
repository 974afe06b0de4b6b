/** Why a connection ended, and what to do then. Pure: time and chance are arguments. */

import { NotAllowed, Offline, ServerBusy, SyncdError } from "./errors.js";
import type { LivePolicy } from "./retry.js";
import type { Trouble } from "./store.js";

/** Refusals that pass by themselves. */
export const RETRYABLE: ReadonlySet<string> = new Set([
  "busy",
  "starting",
  "too_many_requests",
  "database_unavailable",
  "memberships_unavailable",
  "keys_unavailable",
  "internal",
]);

/**
 * Why a connection is over, or why there was none. `opened`: the server had accepted the token. `renew`: it does
 * not accept it. `restarting`: it said that it goes away, so every device comes back at once. `suspect`: the push
 * that was under way may be why.
 */
export interface Ending {
  readonly state: "offline" | "busy" | "refused";
  readonly code: string;
  readonly detail: string;
  readonly opened?: boolean;
  readonly renew?: boolean;
  readonly restarting?: boolean;
  readonly suspect?: boolean;
  readonly retryAfter?: number;
}

const NOT_ALLOWED = ["unauthorized", "forbidden"];

/** How the outbox calls it; see status.ts. */
export function troubleOf({ state, code, detail }: Ending): Trouble {
  return { kind: state === "refused" && NOT_ALLOWED.includes(code) ? "forbidden" : state, code, detail };
}

const LOST: Ending = { state: "offline", code: "connection_lost", detail: "The connection was lost." };
const CLOSED: { readonly [code: number]: Ending } = {
  1000: { state: "offline", code: "closing", detail: "The server closed the connection.", restarting: true },
  1001: { state: "offline", code: "closing", detail: "The server is going away.", restarting: true },
  1009: {
    state: "refused",
    code: "body_too_large",
    detail: "The push is larger than the server takes.",
    suspect: true,
  },
  1011: { state: "busy", code: "internal", detail: "The server had to give the connection up." },
  1012: { state: "offline", code: "restarting", detail: "The server is restarting.", restarting: true },
  1013: { state: "busy", code: "busy", detail: "The server asks to try again later." },
  4400: { state: "refused", code: "malformed", detail: "The server could not read a frame.", suspect: true },
  4401: {
    state: "refused",
    code: "unauthorized",
    detail: "The server does not accept the token.",
    renew: true,
  },
  4403: { state: "refused", code: "forbidden", detail: "The server does not allow this.", renew: true },
  4408: { state: "offline", code: "auth_timeout", detail: "The token did not reach the server in time." },
  4429: { state: "busy", code: "too_many_requests", detail: "The server asks to try again later." },
};

/** A socket that was closed with `code`; 1005 and 1006 are a browser's words for one that just ended. */
export function closed(code: number, reason: string, opened: boolean): Ending {
  const known = CLOSED[code] ?? (code === 1005 || code === 1006 ? LOST : { ...LOST, code: `closed_${code}` });
  return { ...known, opened, detail: reason || known.detail };
}

/** What a sync over HTTP, or the replica itself, raised. */
export function failed(error: SyncdError): Ending {
  const { code, detail } = error;
  if (error instanceof Offline) return { state: "offline", code, detail };
  if (error instanceof ServerBusy) return { state: "busy", code, detail, retryAfter: error.retryAfter ?? 0 };
  const unnamed = error instanceof NotAllowed && !NOT_ALLOWED.includes(code);
  return { state: "refused", code: unnamed ? "unauthorized" : code, detail };
}

/** Anything that was raised. */
export function endingOf(error: unknown): Ending {
  if (error instanceof SyncdError) return failed(error);
  return { state: "refused", code: "internal", detail: `This client failed: ${String(error)}.` };
}

/**
 * What comes next: a pause in milliseconds, or polling. `silent`: the application need not hear of it. `mend`: one
 * sync over HTTP before the pause, which finds out what is wrong with the push.
 */
export interface Plan {
  readonly pause: number;
  readonly poll: boolean;
  readonly silent: boolean;
  readonly mend: boolean;
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
    const plan: Plan = { pause: this.#slowly(chance), poll: false, silent: false, mend: false };
    if (ending.renew) return this.#refusedToken(plan);
    this.#blocked = ending.opened ? 0 : this.#blocked + 1;
    const poll = this.#blocked >= this.#policy.blockedAfter;
    if (ending.state === "refused" && !ending.suspect) return { ...plan, poll };
    this.#attempt += 1;
    return { ...plan, pause: this.#backoff(ending, chance), poll, mend: ending.suspect ?? false };
  }

  #refusedToken(plan: Plan): Plan {
    if (!this.#renewable || this.#renewed) return plan;
    this.#renewed = true;
    return { ...plan, pause: 0, silent: true };
  }

  #slowly(chance: number): number {
    return this.#policy.refusedInterval * (0.5 + chance / 2);
  }

  #backoff(ending: Ending, chance: number): number {
    const grown = Math.min(this.#policy.longest, this.#policy.first * 2 ** Math.min(this.#attempt - 1, 30));
    const longest = ending.restarting ? Math.max(grown, this.#policy.restartSpread) : grown;
    return (ending.retryAfter ?? 0) + chance * longest;
  }
}
