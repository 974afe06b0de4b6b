/** Modules that are loaded where an answer of the server needs them. */

import { Offline } from "../errors.js";
import type { Page } from "./reply.js";
import type { FindConflicts } from "./unseen.js";

/** Raises Offline where it cannot be had. */
export function onDemand<T>(load: () => Promise<T>): Promise<T> {
  return load().catch((error) => {
    throw new Offline("a module is missing", "offline", error);
  });
}

/** What finds conflicts in an answer that may have some. Raises Offline. */
export async function finderOf({ wire }: Page): Promise<FindConflicts | undefined> {
  return wire.unseen ? (await onDemand(() => import("./unseen.js"))).findUnseen : undefined;
}
