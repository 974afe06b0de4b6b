/** What is loaded with the first answer of the server. */

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
