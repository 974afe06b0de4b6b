/** What is loaded when an answer of the server needs it. */

import type { Page } from "./reply.js";
import type { FindConflicts } from "./unseen.js";

/**
 * What finds conflicts in an answer that may have some; none where it cannot be had: a browser may not try again until the
 * page is loaded again, and a sync has to go on.
 */
export async function finderOf({ wire }: Page): Promise<FindConflicts | undefined> {
  return wire.unseen ? (await import("./unseen.js").catch(() => undefined))?.findUnseen : undefined;
}
