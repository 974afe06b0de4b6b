/**
 * What a live sync verifies now and then. The core loads this when it is first due, so it is one file with all that it
 * needs: sharing code with it would cut the core into pieces, and make it larger for every page.
 */

import type { Watching } from "./options.js";
import type { Replica } from "./replica.js";
import { keepVerified } from "./verify.js";

const watched = new WeakMap<object, () => void>();

/** Keeps a replica verified until it is closed. Asked again, by another live sync, it is as that one wants it. */
export function watch<S extends object>(replica: Replica<S>, watching: Watching): void {
  const { closing } = replica["exchange"].party;
  if (closing.aborted) return; // while this was loaded
  watched.get(replica)?.();
  const stop = keepVerified(replica, watching);
  watched.set(replica, stop);
  closing.addEventListener("abort", stop);
}
