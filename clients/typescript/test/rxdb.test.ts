/** RxDB itself, replicated through a real server. */

import { randomUUID } from "node:crypto";
import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { createRxDatabase, type RxCollection, type RxDatabase, type RxStorage } from "rxdb";
import { getRxStorageDexie } from "rxdb/plugins/storage-dexie";
import { getRxStorageMemory } from "rxdb/plugins/storage-memory";
import { firstValueFrom } from "rxjs";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import WebSocket from "ws";
import type { Replica, SocketConstructor } from "../src/index.js";
import { type ReplicateOptions, type SyncdReplication, SyncdServer } from "../src/rxdb/index.js";
import { createSpace, putMember, removeMember } from "../src/spaces.js";
import { open, QUICK, until } from "./devices.js";
import { RealServer } from "./server.js";

interface Task {
  id: string;
  title?: string;
  done?: boolean;
  note?: string | null;
  tags?: string[];
}

const SCHEMA = {
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

let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start();
});
afterAll(() => server.remove());

const databases: RxDatabase[] = [];
afterEach(async () => {
  await Promise.all(databases.splice(0).map((database) => database.close()));
});

interface Device {
  readonly tasks: RxCollection<Task>;
  readonly replication: SyncdReplication<Task>;
  readonly errors: Error[];
}

interface DeviceOptions extends Partial<ReplicateOptions<Task>> {
  readonly fetch?: typeof fetch;
  readonly webSocket?: null;
  readonly tasks?: RxCollection<Task>;
}

async function collection(
  name: string = `db-${randomUUID()}`,
  storage: RxStorage<unknown, unknown> = getRxStorageMemory(),
): Promise<RxCollection<Task>> {
  const database = await createRxDatabase({ name, storage });
  databases.push(database);
  const { tasks } = await database.addCollections({ tasks: { schema: SCHEMA } });
  return tasks as unknown as RxCollection<Task>;
}

async function device(token: string, options: DeviceOptions = {}): Promise<Device> {
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

function user(...options: string[]): Promise<string> {
  return server.token(`rx-${randomUUID()}`, ...options);
}

async function seen({ tasks }: Device, id = "milk"): Promise<object | null> {
  return (await tasks.findOne(id).exec())?.toJSON() ?? null;
}

async function settled(...devices: Device[]): Promise<void> {
  for (const { replication } of [...devices, ...devices]) {
    replication.state.reSync();
    await replication.state.awaitInSync();
  }
}

interface Line {
  cut: boolean;
  /** Where the requests went that got through. */
  readonly asked: string[];
  readonly fetch: typeof fetch;
}

/** Something to wait for. */
function gate(): { readonly open: Promise<void>; readonly go: () => void } {
  let go = (): void => {};
  const open = new Promise<void>((resolve) => {
    go = resolve;
  });
  return { open, go };
}

/** A line to the server that can be cut. */
function line(): Line {
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
async function onServer(token: string, space: string | null = null): Promise<{ [id: string]: object }> {
  const replica = await open({ url: server.url, token });
  await replica.sync();
  const rows = await replica.query("tasks", [], { space });
  return Object.fromEntries(rows.map(({ id, fields }) => [id, fields]));
}

/** Two devices that have the same task, and a line for each. */
async function pair(): Promise<{ token: string; one: Device; two: Device; lines: [Line, Line] }> {
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

describe("two databases of RxDB", () => {
  it("have what either wrote, live", async () => {
    const token = await user();
    const [one, two] = [await device(token), await device(token)];
    await one.tasks.insert({ id: "milk", title: "Buy milk", done: false, tags: ["shop"] });
    await until("it is there", () => seen(two));
    expect(await seen(two)).toEqual({ id: "milk", title: "Buy milk", done: false, tags: ["shop"] });
    await two.tasks.findOne("milk").patch({ done: true });
    await until("it is done", async () => ((await seen(one)) as Task).done);
    expect(await seen(one)).toEqual({ id: "milk", title: "Buy milk", done: true, tags: ["shop"] });
    expect([...one.errors, ...two.errors]).toEqual([]);
  });

  it("replicate once, where they are told to", async () => {
    const token = await user();
    const one = await device(token, { live: false });
    await one.tasks.insert({ id: "milk", title: "Buy milk" });
    await until("it is over", () => one.replication.state.isStopped());
    const two = await device(token, { live: false });
    await until("it is over", () => two.replication.state.isStopped());
    const [first, second] = [await seen(one), await seen(two)];
    expect([first, second]).toEqual([
      { id: "milk", title: "Buy milk" },
      { id: "milk", title: "Buy milk" },
    ]);
  });

  it("have nothing of a deleted record when it is forgotten and made anew with fewer fields", async () => {
    const name = `rx-${randomUUID()}`;
    const token = await server.token(name);
    const one = await device(token);
    await one.tasks.insert({ id: "milk", title: "Buy milk", done: false, note: "two" });
    await settled(one);
    await one.tasks.findOne("milk").remove();
    await settled(one);
    await server.forget(`_personal:${name}`);
    const fields = { title: { value: "Buy more", at: new Date().toISOString() } };
    const made = { changeId: randomUUID(), table: "tasks", id: "milk", op: "insert", fields };
    await server.request(token, "POST", "/sync/app", { clientId: "other", changes: [made] });
    await until("it is made anew", () => seen(one));
    expect(await seen(one)).toEqual({ id: "milk", title: "Buy more" });
  });

  it("make anew themselves, whole and no more, what they deleted and is forgotten", async () => {
    const name = `rx-${randomUUID()}`;
    const token = await server.token(name);
    const [one, two] = [await device(token), await device(token)];
    for (const id of ["fewer", "same"]) await one.tasks.insert({ id, title: "Buy milk", done: false });
    await settled(one, two);
    for (const id of ["fewer", "same"]) await one.tasks.findOne(id).remove();
    await settled(one, two);
    await server.forget(`_personal:${name}`);
    const made = [
      { id: "fewer", title: "Buy more" },
      { id: "same", title: "Buy milk" },
    ];
    for (const task of made) await one.tasks.insert(task);
    await settled(one, two);
    expect(await one.replication.rejected()).toEqual([]);
    for (const task of made)
      expect([await seen(one, task.id), await seen(two, task.id)]).toEqual([task, task]);
  });

  it("make anew what a start from the beginning did not bring again", async () => {
    const name = `rx-${randomUUID()}`;
    const token = await server.token(name);
    const [one, two] = [await device(token, { autoStart: false }), await device(token)];
    await one.replication.state.start();
    await one.tasks.insert({ id: "milk", title: "Buy milk", done: false });
    await settled(one, two);
    await two.tasks.findOne("milk").remove();
    await settled(two);
    await one.replication.state.pause();
    await server.forget(`_personal:${name}`);
    await one.replication.state.start();
    await until("it is gone", async () => (await seen(one)) === null);
    await one.tasks.insert({ id: "milk", title: "Buy milk" });
    await settled(one, two);
    expect([await seen(one), await seen(two)]).toEqual([
      { id: "milk", title: "Buy milk" },
      { id: "milk", title: "Buy milk" },
    ]);
    expect(await one.replication.rejected()).toEqual([]);
  });

  it("poll where there are no sockets", async () => {
    const token = await user();
    const [one, two] = [await device(token, { webSocket: null }), await device(token, { webSocket: null })];
    await one.tasks.insert({ id: "milk", title: "Buy milk" });
    await until("it is there", () => seen(two));
    expect(await seen(two)).toEqual({ id: "milk", title: "Buy milk" });
  });

  it("write only the fields that were edited", async () => {
    const { token, one } = await pair();
    await one.tasks.findOne("milk").patch({ done: true });
    await settled(one);
    const found = (await server.request(token, "GET", "/sync/app/records/tasks/milk/history")) as {
      changes: { op: string; fields: object }[];
    };
    expect(found.changes.map(({ op, fields }) => [op, Object.keys(fields).sort()])).toEqual([
      ["update", ["done"]],
      ["insert", ["deletedAt", "done", "title"]],
    ]);
  });

  it("merge what was edited offline, field by field, the later edit of one field winning", async () => {
    const { token, one, two, lines } = await pair();
    for (const own of lines) own.cut = true;
    await one.tasks.findOne("milk").patch({ title: "Buy oat milk", note: "from one" });
    await new Promise((resolve) => setTimeout(resolve, 20));
    await two.tasks.findOne("milk").patch({ done: true, note: "from two" });
    for (const own of lines.reverse()) {
      own.cut = false; // the later edit comes first: the earlier one must lose all the same
      await settled(own === lines[0] ? two : one);
    }
    await settled(one, two);
    const expected = { title: "Buy oat milk", done: true, note: "from two" };
    expect(await seen(one)).toEqual({ id: "milk", ...expected });
    expect(await seen(two)).toEqual({ id: "milk", ...expected });
    expect(await onServer(token)).toEqual({ milk: expected });
  });

  it("keep an edit that was not sent yet while others edit the same document", async () => {
    const { one, two, lines } = await pair();
    lines[0].cut = true;
    await one.tasks.findOne("milk").patch({ title: "Buy oat milk" });
    await two.tasks.findOne("milk").patch({ done: true });
    await settled(two);
    lines[0].cut = false;
    await settled(one, two);
    expect(await seen(one)).toEqual({ id: "milk", title: "Buy oat milk", done: true });
    expect(await seen(two)).toEqual(await seen(one));
  });

  it("delete, and bring back", async () => {
    const { token, one, two } = await pair();
    await one.tasks.findOne("milk").remove();
    await until("it is gone", async () => (await seen(two)) === null);
    expect(await onServer(token)).toEqual({});
    await two.tasks.insert({ id: "milk", title: "Buy milk again" });
    await until("it is back", () => seen(one));
    await settled(one, two);
    expect(await seen(one)).toMatchObject({ title: "Buy milk again" });
    expect(await seen(two)).toEqual(await seen(one));
    expect(Object.keys(await onServer(token))).toEqual(["milk"]);
  });

  it("do not bring back what somebody else deleted by editing it", async () => {
    const { one, two, lines } = await pair();
    lines[0].cut = true;
    await one.tasks.findOne("milk").patch({ title: "Buy oat milk" });
    await two.tasks.findOne("milk").remove();
    await settled(two);
    lines[0].cut = false;
    await settled(one, two);
    expect([await seen(one), await seen(two)]).toEqual([null, null]);
  });

  it("take a field away, and keep a null where the schema allows one", async () => {
    const { one, two } = await pair();
    await one.tasks.findOne("milk").modify((task) => {
      delete task.title;
      task.note = null;
      return task;
    });
    await settled(one, two);
    expect(await seen(two)).toEqual({ id: "milk", done: false, note: null });
    expect(await seen(one)).toEqual({ id: "milk", done: false, note: null });
  });

  it("hold more documents than a page", async () => {
    const token = await user();
    const one = await device(token);
    await one.tasks.bulkInsert(Array.from({ length: 257 }, (_, n) => ({ id: `t${n}`, title: String(n) })));
    await settled(one);
    const two = await device(token, { batchSize: 50 });
    await settled(two);
    expect(await two.tasks.count().exec()).toBe(257);
    expect(await seen(two, "t256")).toEqual({ id: "t256", title: "256" });
  });

  it("and our own client have the same", async () => {
    const { token, one } = await pair();
    const replica = await open({ url: server.url, token });
    await replica.sync();
    await replica.patch("tasks", "milk", { title: "From a replica" });
    await replica.sync();
    await until("it is there", async () => ((await seen(one)) as Task).title === "From a replica");
  });
});

describe("a device with a wrong clock", () => {
  it("does not lose what it edits knowingly", async () => {
    const token = await user();
    const replica = await open({ url: server.url, token, wall: () => Date.now() + 50_000 });
    await replica.put("tasks", "milk", { title: "From the future" });
    await replica.sync();
    const one = await device(token);
    await settled(one);
    await one.tasks.findOne("milk").patch({ title: "Mine" });
    await settled(one);
    expect(await seen(one)).toMatchObject({ title: "Mine" });
    expect(await onServer(token)).toEqual({ milk: { title: "Mine" } });
  });

  it("does not lose it either where the server lowers its stamp", async () => {
    const token = await user();
    const replica = await open({ url: server.url, token, wall: () => Date.now() + 40_000 });
    await replica.put("tasks", "milk", { title: "From the future" });
    await replica.sync();
    const one = await device(token);
    await settled(one);
    const clock = vi
      .spyOn(Date, "now")
      .mockImplementation(() => performance.timeOrigin + performance.now() + 600_000);
    await one.tasks.findOne("milk").patch({ title: "Mine" });
    clock.mockRestore();
    await settled(one);
    expect(await onServer(token)).toEqual({ milk: { title: "Mine" } });
  });
});

describe("a device that comes back", () => {
  it("sends what it wrote, after a restart too, and goes on from its checkpoint", async () => {
    const token = await user();
    const storage = getRxStorageDexie({ indexedDB: new IDBFactory(), IDBKeyRange });
    const own = line();
    const before = await device(token, { tasks: await collection("kept", storage), fetch: own.fetch });
    await before.tasks.insert({ id: "milk", title: "Buy milk" });
    await settled(before);
    own.cut = true;
    await before.tasks.findOne("milk").patch({ title: "Buy oat milk" });
    await before.tasks.database.close();
    const sinces: string[] = [];
    const noting: typeof fetch = async (address, options) => {
      const url = new URL(String(address));
      if (url.pathname.endsWith("/pull")) sinces.push(url.searchParams.get("since") ?? "");
      return fetch(address, options);
    };
    const after = await device(token, { tasks: await collection("kept", storage), fetch: noting });
    await settled(after);
    expect(await onServer(token)).toEqual({ milk: { title: "Buy oat milk" } });
    expect(sinces.length).toBeGreaterThan(0);
    expect(sinces).not.toContain("");
  });

  it("has its change once where the answer was lost", async () => {
    const token = await user();
    let lost = 0;
    const losing: typeof fetch = async (address, options) => {
      const answer = await fetch(address, options);
      if (options?.method !== "POST" || lost > 0) return answer;
      lost += 1;
      await answer.text();
      throw new TypeError("lost");
    };
    const one = await device(token, { fetch: losing });
    await one.tasks.insert({ id: "milk", title: "Buy milk" });
    await settled(one);
    expect(lost).toBe(1);
    const found = (await server.request(token, "GET", "/sync/app/records/tasks/milk/history")) as {
      changes: object[];
    };
    expect(found.changes).toHaveLength(1);
  });

  it("has what others wrote to what it has sent, while it is still sending the rest", async () => {
    const token = await user();
    const tasks = await collection();
    const ids = ["a", "b", "c", "d", "e"];
    await tasks.bulkInsert(ids.map((id) => ({ id, title: "mine" })));
    const gates = [gate(), gate()] as const;
    let pulled = false;
    const holding: typeof fetch = async (address, options) => {
      if (String(address).includes("/pull")) await gates[0].open;
      if (String(options?.body).includes('"id":"d"')) await gates[1].open;
      const answer = await fetch(address, options);
      pulled ||= (await answer.clone().text()).includes("theirs");
      return answer;
    };
    const one = await device(token, { tasks, fetch: holding, batchSize: 1, webSocket: null });
    await until("it was sent", async () => "b" in (await onServer(token)));
    const replica = await open({ url: server.url, token });
    await replica.sync();
    await replica.patch("tasks", "b", { title: "theirs" });
    await replica.sync();
    gates[0].go();
    await until("it was pulled", () => pulled);
    await new Promise((resolve) => setTimeout(resolve, 500));
    gates[1].go();
    await settled(one);
    expect(Object.keys(await onServer(token)).sort()).toEqual(ids);
    expect(await seen(one, "b")).toEqual({ id: "b", title: "theirs" });
  });

  it("misses after a restore what was acknowledged before its checkpoint had come past it", async () => {
    const token = await user();
    const pulls: URLSearchParams[] = [];
    let [acknowledging, deaf, cut] = [false, false, 0];
    const hearing: typeof fetch = async (address, options) => {
      const { searchParams } = new URL(String(address));
      if (options?.method === "POST") {
        const answer = await fetch(address, options);
        await answer.clone().text();
        deaf = acknowledging;
        return answer;
      }
      if (deaf) throw new TypeError("deaf");
      pulls.push(searchParams);
      // of what it begins again with, nothing comes the first time
      if (searchParams.get("since") === "" && acknowledging && cut++ === 0) throw new TypeError("cut");
      return fetch(address, options);
    };
    const one = await device(token, { fetch: hearing, webSocket: null });
    await one.tasks.insert({ id: "first", title: "before" });
    await settled(one);
    await server.keep();
    acknowledging = true;
    await one.tasks.bulkInsert(["gone", "gone-too"].map((id) => ({ id, title: "acknowledged" })));
    await until("acknowledged", () => deaf);
    await server.restore();
    expect(Object.keys(await onServer(token))).toEqual(["first"]);
    const desk = await open({ url: server.url, token });
    await desk.put("tasks", "since", { title: "others" });
    await desk.sync();
    pulls.length = 0;
    deaf = false;
    const ids = async () => (await one.tasks.find().exec()).map(({ id }) => id).sort();
    await until("begun again", async () => (await ids()).join() === "first,since");
    expect(cut).toBe(2);
    expect(pulls[0]?.has("pushed")).toBe(true);
    pulls.length = 0;
    acknowledging = false;
    await one.tasks.insert({ id: "unsent", title: "mine" });
    await settled(one);
    expect(Object.keys(await onServer(token)).sort()).toEqual(["first", "since", "unsent"]);
    expect(pulls.map((params) => params.get("since"))).not.toContain("");
    expect(pulls.filter((params) => params.has("pushed")).length).toBeGreaterThan(0);
    await settled(one);
    expect(pulls.at(-1)?.getAll("pushed")).toEqual([]);
  });

  it("begins again where the server does not know its cursor", async () => {
    const token = await user();
    const other = await RealServer.start();
    try {
      const othersToken = await other.token("somebody");
      let moved = false;
      const moving: typeof fetch = (address, options) => {
        if (!moved) return fetch(address, options);
        const headers = { ...(options?.headers as object), Authorization: `Bearer ${othersToken}` };
        return fetch(String(address).replace(server.url, other.url), { ...options, headers });
      };
      const one = await device(token, { fetch: moving, webSocket: null });
      await one.tasks.bulkInsert(["kept", "gone"].map((id) => ({ id, title: "here" })));
      await settled(one);
      const change = { table: "tasks", id: "kept", op: "insert", data: { title: "there" } };
      await other.request(othersToken, "POST", "/sync/app", { clientId: "c", changes: [change] });
      moved = true;
      await one.tasks.insert({ id: "new", title: "unsent" });
      await settled(one);
      expect((await one.tasks.find().exec()).map(({ id, title }) => [id, title]).sort()).toEqual([
        ["kept", "there"],
        ["new", "unsent"],
      ]);
    } finally {
      await other.remove();
    }
  });
});

/** Numbers that are the same each time. */
function dice(seed: number): (limit: number) => number {
  let state = seed * 7919;
  return (limit) => {
    state = (state * 48_271) % 2_147_483_647;
    return state % limit;
  };
}

/** Some edit of a task, as the dice fall. */
async function edit({ tasks }: Device, id: string, step: number, what: number): Promise<void> {
  const found = await tasks.findOne(id).exec();
  if (found === null) await tasks.insert({ id, title: `new ${step}`, done: false });
  else if (what === 0) await found.incrementalRemove();
  else if (what < 3) await found.incrementalPatch({ title: `t${step}` });
  else if (what < 5)
    await found.incrementalPatch({ done: step % 2 === 0, note: step % 3 === 0 ? null : `n${step}` });
  else await found.incrementalPatch({ tags: [`g${step}`] });
}

async function all({ tasks }: Device): Promise<object> {
  const found = await tasks.find().exec();
  return Object.fromEntries(found.map((task) => [task.id, { ...task.toJSON(), id: undefined }]));
}

/** The server's fields as a document: a field that was taken away is null there, and none here but the note may be. */
function asDocument(fields: object): object {
  return Object.fromEntries(
    Object.entries(fields).filter(([field, value]) => value !== null || field === "note"),
  );
}

/** Each device has what the server has. */
async function expectServers(token: string, devices: readonly Device[]): Promise<void> {
  const found = Object.entries(await onServer(token));
  const expected = Object.fromEntries(found.map(([id, fields]) => [id, asDocument(fields)]));
  for (const rx of devices) expect(await all(rx)).toEqual(expected);
}

/** Sixty edits of five tasks, by two databases whose lines are cut now and then, and by a replica of our own. */
async function play(
  devices: readonly Device[],
  lines: readonly Line[],
  replica: Replica,
  seed: number,
): Promise<void> {
  const random = dice(seed);
  for (let step = 0; step < 60; step++) {
    const [id, place] = [`t${random(5)}`, random(3)];
    const [own, rx] = [lines[place], devices[place]];
    if (own === undefined || rx === undefined) {
      await (random(5) === 0 ? replica.delete("tasks", id) : replica.put("tasks", id, { title: `r${step}` }));
      if (random(2) === 0) await replica.sync();
      continue;
    }
    if (random(4) === 0) own.cut = !own.cut;
    await edit(rx, id, step, random(6));
    if (random(3) === 0) await new Promise((resolve) => setTimeout(resolve, random(80)));
  }
}

describe("many devices", () => {
  it.each([1, 2, 3])("hold the same after any edits, on and off line (seed %d)", async (seed) => {
    const token = await user();
    const lines = [line(), line()];
    const devices = await Promise.all(lines.map((own) => device(token, { fetch: own.fetch })));
    const replica = await open({ url: server.url, token });
    await play(devices, lines, replica, seed);
    for (const own of lines) own.cut = false;
    for (let turn = 0; turn < 2; turn++) {
      await replica.sync();
      await settled(...devices);
    }
    await expectServers(token, devices);
    expect(Object.keys(await onServer(token)).length).toBeGreaterThan(1);
    for (const rx of devices) expect(await rx.replication.rejected()).toEqual([]);
  });

  it("hold the same where one makes anew, without its fields, what another deleted", async () => {
    const { token, one, two } = await pair();
    await one.tasks.findOne("milk").patch({ note: "old", tags: ["old"] });
    await settled(one, two);
    await two.tasks.findOne("milk").remove();
    await settled(two, one);
    await one.tasks.insert({ id: "milk", title: "Made anew", done: false });
    await settled(one, two);
    expect(await onServer(token)).toEqual({
      milk: { title: "Made anew", done: false, note: null, tags: null },
    });
    expect(await seen(two)).toEqual({ id: "milk", title: "Made anew", done: false, note: null });
    await expectServers(token, [one, two]);
  });
});

describe("a space", () => {
  interface Shared {
    readonly space: string;
    readonly owner: string;
    readonly member: string;
    readonly role: (role: string) => Promise<unknown>;
    readonly remove: () => Promise<unknown>;
  }

  async function shared(role: string): Promise<Shared> {
    const [space, name] = [`s-${randomUUID()}`, `member-${randomUUID()}`];
    const owner = await user();
    await server.request(owner, "POST", "/spaces", { id: space, name: "S" });
    const path = `/spaces/${space}/members/${name}`;
    const setRole = (role: string): Promise<unknown> => server.request(owner, "PUT", path, { role });
    await setRole(role);
    const remove = (): Promise<unknown> => server.request(owner, "DELETE", path);
    return { space, owner, member: await server.token(name), role: setRole, remove };
  }

  it("is replicated by itself", async () => {
    const { space, owner, member } = await shared("writer");
    const [one, two] = [await device(owner, { space }), await device(member, { space })];
    const personal = await device(member);
    await one.tasks.insert({ id: "milk", title: "Ours" });
    await personal.tasks.insert({ id: "milk", title: "Mine" });
    await until("it is there", () => seen(two));
    await settled(two, personal);
    expect(await seen(two)).toMatchObject({ title: "Ours" });
    expect(await seen(personal)).toMatchObject({ title: "Mine" });
    expect(await onServer(owner, space)).toEqual({ milk: { title: "Ours" } });
  });

  it("keeps a reader's edits apart, with the reason, until they are sent again or dropped", async () => {
    const { space, owner, member, role } = await shared("reader");
    const own = line();
    const [one, two] = [await device(owner, { space }), await device(member, { space, fetch: own.fetch })];
    await one.tasks.insert({ id: "milk", title: "Buy milk" });
    await settled(one, two);
    await two.tasks.findOne("milk").patch({ title: "Not mine to say" });
    await two.tasks.insert({ id: "new", title: "Nor this" });
    await until("both are refused", async () => (await two.replication.rejected()).length === 2);
    await settled(two);
    const rejected = await two.replication.rejected();
    expect(rejected.map(({ id, code, document }) => [id, code, document.title]).sort()).toEqual([
      ["milk", "not_a_writer", "Not mine to say"],
      ["new", "not_a_writer", "Nor this"],
    ]);
    expect(await seen(two)).toEqual({ id: "milk", title: "Buy milk" });
    expect(await seen(two, "new")).toBeNull();
    const pushes = own.asked.filter((asked) => asked.startsWith("POST")).length;
    await settled(two);
    expect(own.asked.filter((asked) => asked.startsWith("POST"))).toHaveLength(pushes);

    const told: number[] = [];
    const stop = two.replication.rejected$.subscribe((all) => told.push(all.length));
    const [milk, other] = ["milk", "new"].map((id) => rejected.find((one) => one.id === id)?.changeId ?? "");
    await expect(two.replication.retry(milk as string)).rejects.toMatchObject({ code: "not_a_writer" });
    await role("writer");
    await two.replication.retry(milk as string);
    await until("it is taken", async () => ((await seen(one)) as Task).title === "Not mine to say");
    await two.replication.drop(other as string);
    await settled(two);
    expect(await seen(two)).toEqual({ id: "milk", title: "Not mine to say" });
    expect(await two.replication.rejected()).toEqual([]);
    await until("it was told", () => told.at(-1) === 0);
    expect(told[0]).toBe(2);
    stop.unsubscribe();
  });

  it("that is joined later comes whole", async () => {
    const { space, owner, member, role, remove } = await shared("writer");
    await remove();
    const [one, two] = [await device(owner, { space }), await device(member, { space })];
    await one.tasks.insert({ id: "milk", title: "Ours" });
    await settled(one, two);
    expect(await seen(two)).toBeNull();
    await role("reader");
    await until("it is there", () => seen(two));
    expect(await seen(two)).toEqual({ id: "milk", title: "Ours" });
  });

  it("that was left is gone, and what was not sent is kept apart", async () => {
    const { space, owner, member, remove } = await shared("writer");
    const own = line();
    const [one, two] = [await device(owner, { space }), await device(member, { space, fetch: own.fetch })];
    await one.tasks.bulkInsert(["milk", "eggs"].map((id) => ({ id, title: "Ours" })));
    await until("they are there", async () => (await two.tasks.count().exec()) === 2);
    own.cut = true;
    await two.tasks.findOne("milk").patch({ title: "Unsent" });
    await remove();
    own.cut = false;
    await until("they are gone", async () => (await two.tasks.count().exec()) === 0);
    const rejected = await two.replication.rejected();
    expect(rejected.map(({ id, code, document }) => [id, code, document.title])).toEqual([
      ["milk", "space_not_found", "Unsent"],
    ]);
    await settled(one);
    expect(await seen(one)).toMatchObject({ title: "Ours" });
    expect(await one.tasks.count().exec()).toBe(2);
  });
});

describe("a space that a database is put back into", () => {
  it("has nothing of what was pushed there, and deleted, before it was read", async () => {
    const [name, other] = [`rx-${randomUUID()}`, `rx-${randomUUID()}`];
    const [member, owner] = [
      await server.token(name),
      await open({ url: server.url, token: await server.token(other) }),
    ];
    const { id: space } = await createSpace(owner, "Garden");
    await putMember(owner, space, name);
    await owner.put("tasks", "milk", { title: "Ours" }, { space });
    await owner.sync();
    let mute = false;
    const deaf: typeof fetch = async (address, options) => {
      if (mute && options?.method === "GET") throw new TypeError("cut");
      return fetch(address, options);
    };
    const two = await device(member, { space, fetch: deaf });
    await until("it is there", () => seen(two));
    await removeMember(owner, space, name);
    await until("it is gone", async () => (await seen(two)) === null);
    mute = true;
    await putMember(owner, space, name);
    await two.tasks.insert({ id: "new", title: "Mine" });
    await until("it was taken", async () => {
      await owner.sync();
      return owner.get("tasks", "new", { space });
    });
    await owner.delete("tasks", "new", { space });
    await owner.sync();
    mute = false;
    two.replication.state.reSync();
    await until("it is there again", () => seen(two));
    await until("what was deleted is gone", async () => (await seen(two, "new")) === null, 10_000);
    expect(await two.replication.rejected()).toEqual([]);
  });
});

/** What an IndexedDB holds, in another one, where RxDB finds it by another name: of one it opens no second. */
async function imageOf(factory: IDBFactory): Promise<IDBFactory> {
  const image = new IDBFactory();
  for (const { name = "", version } of await factory.databases()) {
    const from = await done(factory.open(name));
    const opening = image.open(name.replace("copied", "image"), version);
    const tables = [...from.objectStoreNames];
    opening.onupgradeneeded = () => {
      for (const table of tables) {
        const { keyPath, autoIncrement, indexNames } = from.transaction(table).objectStore(table);
        const store = opening.result.createObjectStore(table, { keyPath, autoIncrement });
        for (const index of indexNames) {
          const {
            keyPath: path,
            unique,
            multiEntry,
          } = from.transaction(table).objectStore(table).index(index);
          store.createIndex(index, path, { unique, multiEntry });
        }
      }
    };
    const to = await done(opening);
    for (const table of tables) {
      const rows = await done(from.transaction(table).objectStore(table).getAll());
      const store = to.transaction(table, "readwrite").objectStore(table);
      for (const row of rows) await done(store.put(row));
    }
    from.close();
    to.close();
  }
  return image;
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

describe("a database", () => {
  it("that was copied goes on as another device, and says so", async () => {
    const token = await user();
    const machine = new IDBFactory();
    const stored = (name: string, indexedDB: IDBFactory) =>
      collection(name, getRxStorageDexie({ indexedDB, IDBKeyRange }));
    const before = await device(token, { tasks: await stored("copied", machine) });
    await before.tasks.insert({ id: "milk", title: "Buy milk" });
    await settled(before);
    await before.tasks.database.close();
    const image = await imageOf(machine);
    const one = await device(token, { tasks: await stored("copied", machine) });
    const two = await device(token, { tasks: await stored("image", image) });
    for (const [own, title] of [
      [one, "One's"],
      [two, "Two's"],
    ] as const) {
      await own.tasks.findOne("milk").patch({ title });
      await settled(own);
    }
    const told = [one, two].map(({ replication }) => firstValueFrom(replication.copiedFrom$));
    expect(await Promise.all(told)).toEqual([null, expect.any(String)]);
    await settled(one, two);
    expect(await seen(one)).toEqual(await seen(two));
    expect(await onServer(token)).toEqual({ milk: { title: ((await seen(one)) as Task).title } });
    const found = (await server.request(token, "GET", "/sync/app/records/tasks/milk/history")) as {
      changes: { clientId: string }[];
    };
    expect(new Set(found.changes.map(({ clientId }) => clientId)).size).toBe(2);
    expect(await two.replication.rejected()).toEqual([]);
  });

  it("is one user's: nothing of it goes to another", async () => {
    const tasks = await collection();
    const mine = await device(await user(), { tasks });
    await tasks.insert({ id: "milk", title: "Mine" });
    await settled(mine);
    await mine.replication.state.cancel();
    await tasks.findOne("milk").patch({ title: "Still mine" });
    const token = await user();
    const theirs = await device(token, { tasks });
    await until("it is refused", () => theirs.errors.length > 0);
    expect(JSON.stringify((theirs.errors[0] as Error & { parameters: object }).parameters)).toContain(
      "wrong_replica",
    );
    await theirs.replication.state.cancel();
    expect(await onServer(token)).toEqual({});
    expect(await seen(theirs)).toEqual({ id: "milk", title: "Still mine" });
  });

  it("has several collections on one socket, and comes back when the server was away", async () => {
    const database = await createRxDatabase({ name: `db-${randomUUID()}`, storage: getRxStorageMemory() });
    databases.push(database);
    const made = await database.addCollections({ tasks: { schema: SCHEMA }, lists: { schema: SCHEMA } });
    let sockets = 0;
    const counting = class extends WebSocket {
      constructor(address: string) {
        super(address);
        sockets += 1;
      }
    };
    const token = await user();
    const shared = { app: "app", url: server.url, token, policy: QUICK, retry: { attempts: 1 } };
    const one = new SyncdServer({ ...shared, webSocket: counting as unknown as SocketConstructor });
    for (const tasks of Object.values(made)) {
      await one.replicate({ collection: tasks, retryTime: 100 }).state.awaitInSync();
    }
    const replica = await open({ url: server.url, token, retry: { attempts: 3 } });
    await replica.put("lists", "home", { title: "Home" });
    await replica.sync();
    await until("it is there", () => made.lists.findOne("home").exec());
    expect(sockets).toBe(1);
    await server.stop();
    await made.tasks.insert({ id: "milk", title: "Written while it was away" });
    await server.start();
    await until("it has arrived", async () => "milk" in (await onServer(token)));
  });
});

describe("one bad edit", () => {
  it("does not hold up the others", async () => {
    const token = await user();
    const own = line();
    own.cut = true;
    const one = await device(token, { fetch: own.fetch });
    await one.tasks.insert({ id: "bad", title: "no \u0000 text" });
    await one.tasks.insert({ id: "huge", title: "x".repeat(1_100_000) });
    await one.tasks.insert({ id: "good", title: "fine" });
    own.cut = false;
    await settled(one);
    expect(await onServer(token)).toEqual({ good: { title: "fine" } });
    const rejected = await one.replication.rejected();
    expect(rejected.map(({ id, code }) => [id, code]).sort()).toEqual([
      ["bad", "invalid_write"],
      ["huge", "change_too_large"],
    ]);
    expect((await one.tasks.find().exec()).map(({ id }) => id)).toEqual(["good"]);
  });
});
