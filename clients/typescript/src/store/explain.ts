/** Why a record is not synced, in one word and one sentence. A module of its own, which is loaded when that is asked. */

import type { Key } from "../data/change.js";
import { NO_ACCESS, SPACE_LEFT } from "../error-codes.js";
import { type Choice, keeps, type Transaction } from "./store.js";

export type StatusName =
  | "synced"
  | "waiting"
  | "offline"
  | "busy"
  | "rejected"
  | "no_permission"
  | "set_aside"
  | "clock_lowered"
  | "not_replicated"
  | "unknown";

/** The answer of `why`. `code` is the server's where it gave one; `pending` counts unsent changes. */
export interface Status {
  readonly state: StatusName;
  readonly detail: string;
  readonly code: string | null;
  readonly pending: number;
}

function status(state: StatusName, detail: string, code: string | null = null, pending = 0): Status {
  return { state, detail, code, pending };
}

const WAITING = {
  offline: "offline",
  busy: "busy",
  forbidden: "no_permission",
  refused: "rejected",
} as const;

/** Where a record stands between this device and the server. */
export async function explain(tx: Transaction, key: Key): Promise<Status> {
  const queued = await tx.all("outbox", key, "record");
  const pending = queued.filter(({ state }) => state === "pending").length;
  const refused = queued.find(({ state }) => state === "rejected");
  if (refused !== undefined) {
    const state = NO_ACCESS.includes(refused.code ?? "") ? "no_permission" : "rejected";
    return status(state, `The server refused ${refused.changeId}: ${refused.detail}`, refused.code, pending);
  }
  const { trouble, client } = tx.meta;
  if (pending > 0) {
    return trouble
      ? status(WAITING[trouble.kind], trouble.detail, trouble.code, pending)
      : status("waiting", "It is sent at the next sync.", null, pending);
  }
  if (queued.some(({ state }) => state === "aside")) {
    return status("set_aside", SPACE_LEFT, "space_left");
  }
  const row = await tx.get("records", key);
  if (row === undefined && !keeps(tx.meta.asks, key))
    return status("not_replicated", notKept(tx.meta.asks, key), "not_replicated");
  if (row === undefined) return status("unknown", "No such record.");
  const lowered = [...row.view.values()].some(
    (register) => register.client === client && (register.sent ?? "") > register.at,
  );
  return lowered ? status("clock_lowered", "Synced; the clock was ahead.") : status("synced", "Synced.");
}

function notKept(choice: Choice | undefined, [space, table]: Key): string {
  const place = space ? `The space "${space}"` : "The personal space";
  return `${keeps({ spaces: choice?.spaces }, [space, table, ""]) ? `The table "${table}"` : place} is not kept in this replica.`;
}
