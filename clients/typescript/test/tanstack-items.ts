/** A collection of TanStack DB over a replica for tests, and what one shows, without what TanStack DB adds itself. */

import { createCollection } from "@tanstack/db";
import type { Replica } from "../src/index.js";
import { syncdCollectionOptions } from "../src/tanstack/index.js";
import { open } from "./devices.js";

export interface Tables {
  tasks: { title: string; done: boolean; list: string; note: string | null; tags: string[]; n: number };
  lists: { name: string };
}

/** A replica that was never synced, with a collection of its tasks. */
export async function tasksOf(where?: { done: boolean }) {
  const replica = (await open()) as unknown as Replica<Tables>;
  const tasks = createCollection(syncdCollectionOptions({ replica, table: "tasks", where }));
  return { replica, tasks };
}

export function plain(item: object | undefined): object | undefined {
  return item && Object.fromEntries(Object.entries(item).filter(([name]) => !name.startsWith("$")));
}

/** All items, by key. */
export function seen<T extends object>(collection: {
  entries(): Iterable<[string | number, T]>;
}): (T & { id: string })[] {
  const sorted = [...collection.entries()].sort(([one], [other]) => (one < other ? -1 : 1));
  return sorted.map(([, item]) => plain(item) as T & { id: string });
}

/** Numbers that are the same for a seed. */
export function drawn(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}
