/** Which changes of a push a refusal blames. */

import { type Refusal, textOr } from "../data/change.js";
import type { JsonObject } from "../data/values.js";
import type { Problem } from "./reply.js";

/** By index in the push, where the pointers name changes. */
export function blamedIn({ errors, detail, code }: Problem): Map<number, Refusal> {
  const blamed = new Map<number, Refusal>();
  for (const error of errors) {
    const said = { ...(error as JsonObject) };
    const pointer = textOr(said.pointer, "");
    const [, place] = /^\/changes\/(\d+)(?:\/|$)/.exec(pointer) ?? [];
    if (!place || blamed.has(+place)) continue;
    const why = `${textOr(said.detail, detail)} (${pointer})`;
    blamed.set(+place, { code: textOr(said.code, code), detail: why });
  }
  return blamed;
}
