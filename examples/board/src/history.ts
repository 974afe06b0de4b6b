/** A card's past as the server tells it, by field. */

import type { Json } from "@syncd/client";
import { freshToken } from "./identity.js";
import { APP, type Session } from "./session.js";

/** A write of one field. `at` is RFC 3339 text, when the writer wrote it; `lost`: superseded on arrival. */
export interface FieldWrite {
  readonly seq: number;
  readonly value: Json;
  readonly user: string;
  readonly device: string;
  readonly at: string;
  readonly lost: boolean;
}

interface WireChange {
  readonly seq: number;
  readonly userId: string;
  readonly clientId: string;
  readonly fields: WireFields;
  readonly superseded: WireFields;
}
type WireFields = { readonly [field: string]: { readonly value: Json; readonly at: string } };

/** How many changes are asked for: a card that has more shows the newest. */
const LIMIT = 200;

/** The writes of each field, newest first. Raises Error with a reason to show. */
export async function historyOf(session: Session, card: string): Promise<Map<string, FieldWrite[]>> {
  const token = await freshToken(session.identity.name);
  const address = `/sync/${APP}/records/cards/${encodeURIComponent(card)}/history`;
  const query = new URLSearchParams({ spaceId: session.space, limit: String(LIMIT) });
  const answer = await fetch(`${address}?${query}`, { headers: { authorization: `Bearer ${token}` } });
  if (answer.status === 404) return new Map(); // it was written here, and not sent yet
  if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
  return byField((await answer.json()).changes);
}

/** Changes, newest first, as writes of fields. */
export function byField(changes: readonly WireChange[]): Map<string, FieldWrite[]> {
  const found = new Map<string, FieldWrite[]>();
  const note = (change: WireChange, fields: WireFields, lost: boolean): void => {
    for (const [field, { value, at }] of Object.entries(fields)) {
      const { seq, userId: user, clientId: device } = change;
      const writes = found.get(field) ?? [];
      found.set(field, [...writes, { seq, value, user, device, at, lost }]);
    }
  };
  for (const change of changes) {
    note(change, change.fields, false);
    note(change, change.superseded ?? {}, true);
  }
  return found;
}
