/** Databases of RxDB that are replicated through a real server, for the tests. */

import { randomUUID } from "node:crypto";
import { createRxDatabase, type RxCollection, type RxDatabase, type RxStorage } from "rxdb";
import { getRxStorageMemory } from "rxdb/plugins/storage-memory";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import WebSocket from "ws";
import type { SocketConstructor } from "../src/index.js";
import { type ReplicateOptions, type SyncdReplication, SyncdServer } from "../src/rxdb/index.js";
import { open, QUICK } from "./devices.js";
import { RealServer } from "./server.js";

export interface Task {
  id: string;
  title?: string;
  done?: boolean;
  note?: string | null;
  tags?: string[];
}

export const SCHEMA = {
  version: 0,
  primaryKey: "id",
  type: "object",
  properties: {
    id: { type: "string", maxLength: 100 },
    title: { type: "string" },
    done: { type: "boolean" },
    note: { type: ["string", "null"] },
    tags: { type: "array", items: { type: "string" } },
  },
  required: ["id"],
} as const;

/** Of the tests of one file. */
export let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start();
});
afterAll(() => server.remove());

export const databases: RxDatabase[] = [];
afterEach(async () => {
  await Promise.all(databases.splice(0).map((database) => database.close()));
});

export interface Device {
  readonly tasks: RxCollection<Task>;
  readonly replication: SyncdReplication<Task>;
  readonly errors: Error[];
}

interface DeviceOptions extends Partial<ReplicateOptions<Task>> {
  readonly fetch?: typeof fetch;
  readonly webSocket?: null;
  readonly tasks?: RxCollection<Task>;
}

export async function collection(
  name: string = `db-${randomUUID()}`,
  storage: RxStorage<unknown, unknown> = getRxStorageMemory(),
): Promise<RxCollection<Task>> {
  const database = await createRxDatabase({ name, storage });
  databases.push(database);
  const { tasks } = await database.addCollections({ tasks: { schema: SCHEMA } });
  return tasks as unknown as RxCollection<Task>;
}

export async function device(token: string, options: DeviceOptions = {}): Promise<Device> {
  const { fetch: given, webSocket = WebSocket as unknown as SocketConstructor, tasks, ...others } = options;
  const rxServer = new SyncdServer({
    app: "app",
    url: server.url,
    token,
    webSocket,
    retry: { attempts: 1 },
    policy: QUICK,
    ...(given ? { fetch: given } : {}),
  });
  const used = tasks ?? (await collection());
  const replication = rxServer.replicate<Task>({ collection: used, retryTime: 100, ...others });
  const errors: Error[] = [];
  replication.state.error$.subscribe((error) => errors.push(error));
  return { tasks: used, replication, errors };
}

export function user(...options: string[]): Promise<string> {
  return server.token(`rx-${randomUUID()}`, ...options);
}

export async function seen({ tasks }: Device, id = "milk"): Promise<object | null> {
  return (await tasks.findOne(id).exec())?.toJSON() ?? null;
}

export async function settled(...devices: Device[]): Promise<void> {
  for (const { replication } of [...devices, ...devices]) {
    replication.state.reSync();
    await replication.state.awaitInSync();
  }
}

export interface Line {
  cut: boolean;
  /** Where the requests went that got through. */
  readonly asked: string[];
  readonly fetch: typeof fetch;
}

/** Something to wait for. */
export function gate(): { readonly open: Promise<void>; readonly go: () => void } {
  let go = (): void => {};
  const open = new Promise<void>((resolve) => {
    go = resolve;
  });
  return { open, go };
}

/** A line to the server that can be cut. */
export function line(): Line {
  const asked: string[] = [];
  const own: Line = {
    cut: false,
    asked,
    fetch: async (address, options) => {
      if (own.cut) throw new TypeError("cut");
      asked.push(`${options?.method} ${new URL(String(address)).pathname}`);
      return fetch(address, options);
    },
  };
  return own;
}

/** What one of our own replicas has, to see what is really on the server. */
export async function onServer(
  token: string,
  space: string | null = null,
): Promise<{ [id: string]: object }> {
  const replica = await open({ url: server.url, token });
  await replica.sync();
  const rows = await replica.query("tasks", [], { space });
  return Object.fromEntries(rows.map(({ id, fields }) => [id, fields]));
}

/** Two devices that have the same task, and a line for each. */
export async function pair(): Promise<{ token: string; one: Device; two: Device; lines: [Line, Line] }> {
  const token = await user();
  const lines: [Line, Line] = [line(), line()];
  const [one, two] = [
    await device(token, { fetch: lines[0].fetch }),
    await device(token, { fetch: lines[1].fetch }),
  ];
  await one.tasks.insert({ id: "milk", title: "Buy milk", done: false });
  await settled(one, two);
  expect(await seen(two)).toEqual({ id: "milk", title: "Buy milk", done: false });
  return { token, one, two, lines };
}
