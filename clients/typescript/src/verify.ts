/**
 * @syncd/client/verify: does this replica hold what the server holds? Compared by digests, and repaired where it does
 * not. A page that does not use it does not load it.
 */

import type { Verified } from "./data/events.js";
import type { Replica } from "./replica.js";
import { keepVerifiedBy, verifyBy, type Watching } from "./sync/verification.js";

/**
 * Fetches what is new, compares this replica with the server, and repairs what differs; it says so in an event, too.
 *
 * It costs some hundred bytes where all is well. Unsent writes stay. What it cannot see is a value that was changed
 * in the store beside its stamp. Raises what `sync` raises; Refused `not_found` when the server is too old for it.
 */
export async function verify<S extends object>(replica: Replica<S>): Promise<Verified> {
  return verifyBy(replica["exchange"]);
}

/**
 * What `live()` does by itself, for a replica that is not live, or asked `verify: false` to do it otherwise: verifies
 * a replica whose live sync has gone quiet, at most every 6 hours (the first time so long after it was first
 * asked to), until what it returns is called. What it finds comes as an event; a failure is tried again later.
 */
export function keepVerified<S extends object>(replica: Replica<S>, how: Watching = {}): () => void {
  return keepVerifiedBy(replica["exchange"], replica, how);
}
