/**
 * What a live sync verifies now and then. The core loads this when it is first due, so it is one file with all that it
 * needs: sharing code with it would cut the core into pieces, and make it larger for every page.
 */

import type { Source } from "../store/observed.js";
import type { Exchange } from "../sync/exchange.js";
import { keepVerifiedBy, type Watching } from "../sync/verification.js";

/** Keeps a replica verified for as long as the live sync that wants it. `ended` is aborted when that ends. */
export function verifyLive(
  exchange: Exchange,
  source: Pick<Source, "on">,
  how: Watching,
  ended: AbortSignal,
): void {
  if (ended.aborted) return; // while this was loaded
  ended.addEventListener("abort", keepVerifiedBy(exchange, source, how));
}
