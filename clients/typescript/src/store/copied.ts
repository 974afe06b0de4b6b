/** A store that is a copy of another one: how the server hears of it, and the client id it goes on under. */

import { resettle } from "./restamp.js";
import { keyOf, type Transaction } from "./store.js";

/**
 * The incarnations that a push names: that of the last push which was answered, and those since, of which the last is of
 * this `opening` of the store. A copy of the store does not have the one that another copy has pushed as meanwhile.
 */
export function incarnate({ meta }: Transaction, opening: string): readonly string[] | undefined {
  const held = meta.incarnations ?? [];
  const number = Number.parseInt(held.at(-1) ?? "0", 10) + 1;
  if (opening) meta.incarnations = [...held.slice(-30), `${number}.${opening}`];
  return meta.incarnations;
}

/** Another copy of this store pushes under its client id: it goes on under another one, with what is unsent. */
export async function takeName(tx: Transaction, client: string): Promise<void> {
  tx.meta.client = client;
  tx.meta.incarnations = tx.meta.acked = [];
  await resettle(tx, (await tx.all("outbox")).map(keyOf));
}
