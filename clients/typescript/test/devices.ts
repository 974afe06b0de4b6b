/** Replicas for tests, each with a store of its own unless they share one, all closed in the end. */

import { IDBFactory } from "fake-indexeddb";
import { afterEach, expect } from "vitest";
import WebSocket from "ws";
import type { LivePolicy, Register, ReplicaOptions, SocketConstructor } from "../src/index.js";
import { Replica } from "../src/index.js";
import { keptIn } from "./files.js";

export const QUICK: Partial<LivePolicy> = {
  first: 50,
  longest: 500,
  restartSpread: 200,
  openTimeout: 2000,
  pingInterval: 500,
  pingTimeout: 1000,
  answerTimeout: 3000,
  pollInterval: 200,
  socketInterval: 1000,
  refusedInterval: 500,
};

const opened: Replica<never>[] = [];

afterEach(async () => {
  await Promise.all(opened.splice(0).map((replica) => replica.close()));
});

let devices = 0;

/** A replica; `indexedDB` shared with another and the same `name` make it another tab of that one. */
export async function open(options: Partial<ReplicaOptions> & { name?: string } = {}): Promise<Replica> {
  devices += 1;
  const { indexedDB = new IDBFactory() } = options;
  const replica = await Replica.open(options.name ?? `device-${devices}`, {
    app: "app",
    webSocket: WebSocket as unknown as SocketConstructor,
    durability: "normal",
    ...options,
    ...(options.store ? {} : keptIn(indexedDB as IDBFactory | null)),
  });
  opened.push(replica as unknown as Replica<never>);
  return replica;
}

/** Waits until `check` holds. */
export async function until(what: string, check: () => unknown, patience = 30_000): Promise<void> {
  const deadline = Date.now() + patience;
  while (!(await check())) {
    if (Date.now() > deadline) throw new Error(`it never came to that: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 15));
  }
}

/** The whole of a table, to compare two replicas. */
export async function contents(
  replica: Replica,
  table = "t",
  space: string | null = null,
): Promise<{ [id: string]: { [field: string]: Register } }> {
  const rows = await replica.query(table, [], { space, deleted: true });
  const all: [string, { [field: string]: Register }][] = [];
  for (const { id } of rows)
    all.push([id, Object.fromEntries(await replica.registers(table, id, { space }))]);
  return Object.fromEntries(all);
}

export async function expectSame(one: Replica, other: Replica, space: string | null = null): Promise<void> {
  const [mine, theirs] = [await contents(one, "t", space), await contents(other, "t", space)];
  expect(withoutSent(mine)).toEqual(withoutSent(theirs));
}

/** Only the device whose stamp was lowered may know what it had been. */
function withoutSent(records: { [id: string]: { [field: string]: Register } }): object {
  const plain = ({ value, at, client }: Register): object => ({ value, at, client });
  const fields = (record: { [field: string]: Register }): object =>
    Object.fromEntries(Object.entries(record).map(([field, register]) => [field, plain(register)]));
  return Object.fromEntries(Object.entries(records).map(([id, record]) => [id, fields(record)]));
}
