/** Queues of writes for tests: stores in memory, and what is in them. */

import { type Key, readChange, type Write, type Written } from "../src/data/change.js";
import type { Registers } from "../src/data/merge.js";
import type { JsonObject } from "../src/index.js";
import * as queueing from "../src/store/enqueue.js";
import { MemoryStore } from "../src/store/memory.js";
import * as outbox from "../src/store/outbox.js";
import { load, pick } from "../src/store/records.js";
import { LAYOUT, Store } from "../src/store/store.js";

export const NOW = Date.parse("2026-01-01T10:00:00Z");

export function store(): Store {
  return new Store(new MemoryStore(LAYOUT), 5000);
}

export function write(
  id: string,
  values: JsonObject = { n: 1 },
  space = "",
  op: Write["op"] = "update",
): Write {
  return { op, key: [space, "t", id], values: new Map(Object.entries(values)), extra: {}, upsert: true };
}

/** Queues writes, as one batch unless `apart`, in a transaction of their own. */
export function put(to: Store, writes: Write[], apart = false, wall = NOW): Promise<Written[]> {
  return to.write((tx) => queueing.enqueue(tx, writes, wall, queueing.LIMITS, apart));
}

export function packed(from: Store, changes = 1000, bytes = 1e6, last = Infinity): Promise<string[]> {
  return from.read(async (tx) => {
    const rows = await outbox.pack(tx, last, changes, bytes);
    return rows.map(({ body }) => readChange(JSON.parse(body)).key[2]);
  });
}

export async function states(of: Store): Promise<string[]> {
  return (await of.read((tx) => tx.all("outbox"))).map(({ id, state, code }) =>
    `${id} ${state} ${code ?? ""}`.trim(),
  );
}

export async function seen(of: Store, id: string, space = ""): Promise<Registers> {
  return of.read(async (tx) => {
    const key: Key = [space, "t", id];
    return pick(await load(tx, [key]), key).view;
  });
}
