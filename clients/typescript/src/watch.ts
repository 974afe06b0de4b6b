/**
 * What a live sync verifies now and then. The core loads this when it is first due, so it is one file with all that it
 * needs: sharing code with it would cut the core into pieces, and make it larger for every page.
 */

import type { Watching } from "./options.js";
import type { Replica } from "./replica.js";
import { keepVerified } from "./verify.js";

/** Keeps a replica verified for as long as the live sync that wants it. `ended` is aborted when that ends. */
export function watch<S extends object>(replica: Replica<S>, how: Watching, ended: AbortSignal): void {
  if (ended.aborted) return; // while this was loaded
  ended.addEventListener("abort", keepVerified(replica, how));
}
