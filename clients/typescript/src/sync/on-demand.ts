/** What is loaded when an answer of the server needs it. */

import type { Packed } from "../data/change.js";
import type { Cure } from "./cure.js";
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

/** What is to be done about a push that is refused whole; null: nothing, also where what knows it cannot be had. */
export function loadCure(problem: Problem, pushed: readonly Packed[]): Promise<Cure | null> {
  return import("./cure.js").then(
    ({ cureOf }) => cureOf(problem, pushed),
    () => null,
  );
}
