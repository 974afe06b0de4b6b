/** A card's past as the server tells it, by field. */

import { type Json, Refused } from "@syncd/client";
import { changes, type PastChange } from "@syncd/client/history";
import type { Session } from "./session.js";

/** A write of one field. `at` is RFC 3339 text, when the writer wrote it; `lost`: superseded on arrival. */
export interface FieldWrite {
  readonly seq: number;
  readonly value: Json;
  readonly user: string;
  readonly device: string;
  readonly at: string;
  readonly lost: boolean;
}

/** How many changes are fetched: of a card that has more, the newest. */
const MOST = 200;

/** The writes of each field, newest first; none where the server does not have the card yet. Raises SyncdError. */
export async function historyOf(
  { replica, space }: Session,
  card: string,
): Promise<Map<string, FieldWrite[]>> {
  const found: PastChange[] = [];
  try {
    for await (const change of changes(replica, "cards", card, { space, page: MOST })) {
      found.push(change);
      if (found.length >= MOST) break;
    }
  } catch (error) {
    if (!(error instanceof Refused && error.code === "record_not_found")) throw error;
  }
  return byField(found);
}

/** Changes, newest first, as writes of fields. */
export function byField(past: readonly PastChange[]): Map<string, FieldWrite[]> {
  const found = new Map<string, FieldWrite[]>();
  const note = (
    { seq, user, client: device }: PastChange,
    fields: PastChange["fields"],
    lost: boolean,
  ): void => {
    for (const [field, { value, at }] of fields) {
      const writes = found.get(field) ?? [];
      found.set(field, [...writes, { seq, value, user, device, at, lost }]);
    }
  };
  for (const change of past) {
    note(change, change.fields, false);
    note(change, change.superseded, true);
  }
  return found;
}
