/** Which changes a push that is refused whole is refused for. A module of its own, loaded when one is. */

import type { Packed, Refusal } from "../data/change.js";
import { blamedIn } from "./blamed.js";
import type { Problem } from "./reply.js";

/** The changes that are to be set aside, by changeId: none where the refusal is not about changes, or names none. */
export function refusalsIn(problem: Problem, pushed: readonly Packed[]): Map<string, Refusal> {
  const refusals = new Map<string, Refusal>();
  if (![400, 413, 422].includes(problem.status)) return refusals;
  for (const [place, refusal] of blamedIn(problem)) {
    const change = pushed[place];
    if (change !== undefined) refusals.set(change.changeId, refusal);
  }
  return refusals;
}
