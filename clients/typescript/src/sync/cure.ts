/** What is to be done about a push that is refused whole. A module of its own, loaded when one is. */

import type { Packed, Refusal } from "../data/change.js";
import { blamedIn } from "./blamed.js";
import type { Problem } from "./reply.js";

/** Changes that are set aside, by changeId; and how many the next push may have, where that is fewer. */
export interface Cure {
  readonly refusals: ReadonlyMap<string, Refusal>;
  readonly most?: number;
}

/** Null: nothing can be done. */
export function cureOf(problem: Problem, pushed: readonly Packed[]): Cure | null {
  const { status } = problem;
  const batches = new Set(pushed.map(({ batch }) => batch));
  const blamed = new Map<string, Refusal>();
  for (const [place, refusal] of blamedIn(problem)) {
    const change = pushed[place];
    if (change !== undefined) blamed.set(change.changeId, refusal);
  }
  const large = status === 413 || status === 422;
  if ((large || status === 400) && blamed.size > 0) return { refusals: blamed };
  if (large && batches.size > 1) return { refusals: new Map(), most: pushed.length >> 1 }; // two batches are two changes at least
  if (large && batches.size > 0)
    return { refusals: new Map(pushed.map(({ changeId }) => [changeId, problem])) };
  return null;
}
