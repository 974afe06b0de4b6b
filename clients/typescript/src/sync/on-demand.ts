/** What is loaded when an answer of the server needs it. */

import type { Packed, Refusal } from "../data/change.js";
import type { Problem } from "./reply.js";
import type { FindConflicts } from "./unseen.js";

/**
 * What finds conflicts in an answer, and keeps what it tells of spaces; null where it cannot be had: a browser may not try
 * again until the page is loaded again, and a sync has to go on. So what comes once must not need it.
 */
export function loadFinder(): Promise<FindConflicts | null> {
  return import("./unseen.js").then(
    ({ findUnseen }) => findUnseen,
    () => null,
  );
}

/** For which changes a push is refused whole, by changeId; null where what reads it cannot be had. */
export function loadRefusals(
  problem: Problem,
  pushed: readonly Packed[],
): Promise<Map<string, Refusal> | null> {
  return import("./refusals.js").then(
    ({ refusalsIn }) => refusalsIn(problem, pushed),
    () => null,
  );
}
