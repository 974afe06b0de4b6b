/** What happens to a replica. Pure. */

import { byText, type Conflict, type Key } from "./change.js";
import type { Json } from "./values.js";

/** The name of a record; `space` is null for the personal one. */
export interface RecordKey {
  readonly space: string | null;
  readonly table: string;
  readonly id: string;
}

/**
 * Records that may read differently now. `source`: "server" for what others wrote, "device" for this replica's own
 * writes, "tab" for writes of another tab. `everything`: too many to be listed: read again whatever is shown.
 */
export interface Changes {
  readonly kind: "changes";
  readonly records: readonly RecordKey[];
  readonly source: "server" | "device" | "tab";
  readonly everything: boolean;
}

/** The server's word on own changes: how many it has now, and the changeIds that it refused. */
export interface Answered {
  readonly kind: "answered";
  readonly accepted: number;
  readonly rejected: readonly string[];
}

/** Two values that stand against each other, of which one was written without having seen the other. */
export interface Conflicted {
  readonly kind: "conflict";
  readonly conflict: Conflict;
}

/** What another device says of itself in a space: any JSON, or null when it is not there any more. */
export interface Presence {
  readonly kind: "presence";
  readonly space: string | null;
  readonly user: string;
  readonly client: string;
  readonly state: Json;
}

/** A shared space of the user, as the server told it last. `name` and `role` are null where it has not yet. */
export interface JoinedSpace {
  readonly id: string;
  readonly name: string | null;
  readonly role: "owner" | "writer" | "reader" | null;
}

/**
 * The user's shared spaces are others now: those that were `joined` and `left`, by id, and those of which the server told
 * another `role` or name, as they are now.
 */
export interface SpacesChanged {
  readonly kind: "spaces";
  readonly joined: readonly string[];
  readonly left: readonly string[];
  readonly role: readonly JoinedSpace[];
}

export type LiveName =
  | "connecting"
  | "live"
  | "polling"
  | "following"
  | "offline"
  | "busy"
  | "refused"
  | "closed";

/**
 * Where a live sync stands. `code` and `detail` say why where it is not "live".
 *
 * connecting: on the way, or catching up. live: what happens is here at once. polling: sockets are blocked, so it
 * asks over HTTP. offline, busy: it tries again by itself. refused: token, permission or protocol; it tries again
 * now and then. closed: not live. With `following` another tab has the connection, and this is how that one stands;
 * the name "following" says that it has not told yet.
 */
export interface LiveState {
  readonly kind: "state";
  readonly name: LiveName;
  readonly code: string | null;
  readonly detail: string;
  readonly following: boolean;
  /** Where the login is why: the user has to sign in, or the server does not believe the token, as `detail` says. */
  readonly login?: "signed_out" | "refused" | undefined;
}

/**
 * What a comparison with the server found: so many `spaces` with so many `records` were compared, `differences` of the
 * records were otherwise than on the server, and `repaired` of them are no more. `skipped`: spaces (null: the personal
 * one) that were written to all the time, or that the server was not ready to compare. `restarted`: so much was
 * different that everything was fetched again.
 */
export interface Verified {
  readonly kind: "verified";
  readonly spaces: number;
  readonly records: number;
  readonly differences: number;
  readonly repaired: number;
  readonly skipped: readonly (string | null)[];
  readonly restarted: boolean;
}

export type Event = Changes | Answered | Conflicted | Presence | SpacesChanged | LiveState | Verified;
export type Listener = (event: Event) => void;

/** More records than this are not listed in an event. */
const MOST = 1000;

export function changesOf(keys: readonly Key[], source: Changes["source"], everything = false): Changes {
  const distinct = byText(keys);
  const all = everything || distinct.size > MOST;
  const records = Array.from(all ? [] : distinct.values(), ([space, table, id]) => ({
    space: space || null,
    table,
    id,
  }));
  return { kind: "changes", records, source, everything: all };
}

export function liveState(
  name: LiveName,
  code: string | null = null,
  detail = "",
  following = false,
  login?: LiveState["login"],
): LiveState {
  return { kind: "state", name, code, detail, following, login };
}
