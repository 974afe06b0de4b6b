/** Why a record is not synced, in one word and one sentence. */

import type { Key } from "./change.js";
import { getMeta, type Transaction, type Trouble } from "./store.js";

export type StatusName =
  | "synced"
  | "waiting"
  | "offline"
  | "busy"
  | "rejected"
  | "no_permission"
  | "set_aside"
  | "clock_lowered"
  | "unknown";

/** The answer of `why`. `code` is the server's where it gave one; `pending` counts unsent changes. */
export interface Status {
  readonly state: StatusName;
  readonly detail: string;
  readonly code: string | null;
  readonly pending: number;
}

const NO_PERMISSION = ["space_not_found", "not_a_writer", "forbidden", "unauthorized"];

function status(state: StatusName, detail: string, code: string | null = null, pending = 0): Status {
  return { state, detail, code, pending };
}

/** Where a record stands between this device and the server. */
export async function explain(tx: Transaction, key: Key): Promise<Status> {
  const queued = await tx.all("outbox", key, "record");
  const pending = queued.filter(({ state }) => state === "pending").length;
  const refused = queued.find(({ state }) => state === "rejected");
  if (refused !== undefined) {
    const state = NO_PERMISSION.includes(refused.code ?? "") ? "no_permission" : "rejected";
    return status(state, `The server refused ${refused.changeId}: ${refused.detail}`, refused.code, pending);
  }
  if (pending > 0) return explainWaiting((await getMeta(tx, "trouble")) ?? null, pending);
  if (queued.some(({ state }) => state === "aside")) {
    return status("set_aside", "The space was left before this was sent.", "space_left");
  }
  return explainSent(tx, key);
}

async function explainSent(tx: Transaction, key: Key): Promise<Status> {
  const row = await tx.get("records", key);
  if (row === undefined) return status("unknown", "There is no such record here.");
  const client = await getMeta(tx, "client");
  const lowered = Array.from(row.view.values()).some(
    (register) => register.sent && register.client === client,
  );
  if (lowered) {
    return status("clock_lowered", "Synced; this device's clock was ahead, and the server lowered a stamp.");
  }
  return status("synced", "The server has everything that this device wrote.");
}

function explainWaiting(trouble: Trouble | null, pending: number): Status {
  const detail = trouble?.detail ?? "";
  const code = trouble?.code ?? null;
  switch (trouble?.kind) {
    case "offline":
      return status("offline", `The server could not be reached: ${detail}`, code, pending);
    case "busy":
      return status("busy", `The server is busy: ${detail}`, code, pending);
    case "forbidden":
      return status("no_permission", `The server refuses this device: ${detail}`, code, pending);
    case "refused":
      return status("rejected", `The server refused the last sync: ${detail}`, code, pending);
    default:
      return status("waiting", "It is sent at the next sync; a live one sends it at once.", null, pending);
  }
}
