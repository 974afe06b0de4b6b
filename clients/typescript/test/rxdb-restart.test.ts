/** RxDB itself, replicated through a real server: what is closed, copied, cut off or restored goes on. */

import { randomUUID } from "node:crypto";
import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { createRxDatabase } from "rxdb";
import { getRxStorageDexie } from "rxdb/plugins/storage-dexie";
import { getRxStorageMemory } from "rxdb/plugins/storage-memory";
import { firstValueFrom } from "rxjs";
import { describe, expect, it } from "vitest";
import WebSocket from "ws";
import type { SocketConstructor } from "../src/index.js";
import { SyncdServer } from "../src/rxdb/index.js";
import { open, QUICK, until } from "./devices.js";
import {
  collection,
  databases,
  device,
  gate,
  line,
  onServer,
  SCHEMA,
  seen,
  server,
  settled,
  type Task,
  user,
} from "./rxdb-devices.js";
import { RealServer } from "./server.js";

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

  async function deleteUnanswered(lost: "answer" | "request"): Promise<void> {
    const token = await user();
    const storage = getRxStorageDexie({ indexedDB: new IDBFactory(), IDBKeyRange });
    let mute = false;
    const losing: typeof fetch = async (address, options) => {
      if (mute && (lost === "request" || options?.method === "GET")) throw new TypeError("lost");
      const answer = await fetch(address, options);
      if (mute) throw new TypeError("lost");
      return answer;
    };
    const stored = (): ReturnType<typeof collection> => collection(`made-${lost}`, storage);
    const before = await device(token, { tasks: await stored(), fetch: losing, webSocket: null });
    await settled(before);
    mute = true;
    await before.tasks.insert({ id: "milk", title: "Buy milk" });
    await until("it was sent", () => before.errors.some(({ message }) => message.includes("RC_PUSH")));
    expect(Object.keys(await onServer(token))).toEqual(lost === "answer" ? ["milk"] : []);
    await before.tasks.findOne("milk").remove();
    await before.tasks.database.close();
    const pulling = gate();
    const fetching: typeof fetch = async (address, options) => {
      if (options?.method === "GET") await pulling.open;
      return fetch(address, options);
    };
    const after = await device(token, { tasks: await stored(), fetch: fetching, webSocket: null });
    const { state } = after.replication;
    await until("it has sent what it has", () => state.internalReplicationState?.firstSyncDone.up.getValue());
    pulling.go();
    await settled(after);
    expect(await onServer(token)).toEqual({});
    expect(await seen(after)).toBeNull();
    expect(await after.replication.rejected()).toEqual([]);
  }

  it("deletes what it made and deleted, where the answer was lost", () => deleteUnanswered("answer"));

  it("deletes what it made and deleted, where the request was lost", () => deleteUnanswered("request"));

  it("sends nothing of what was made and deleted before it was ever sent", async () => {
    const own = line();
    const one = await device(await user(), { autoStart: false, fetch: own.fetch, webSocket: null });
    await one.tasks.insert({ id: "milk", title: "Buy milk" });
    await one.tasks.findOne("milk").remove();
    await one.replication.state.start();
    await settled(one);
    expect(own.asked.length).toBeGreaterThan(0);
    expect(own.asked.filter((asked) => asked.startsWith("POST"))).toEqual([]);
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
    // RxDB keeps a checkpoint with documents only: where the push was answered after them, it is the next ones' to pass it.
    let more = 0;
    await until("nothing is named any more", async () => {
      await desk.put("tasks", "since", { title: `more ${++more}` });
      await desk.sync();
      await settled(one);
      return pulls.at(-1)?.getAll("pushed").length === 0;
    });
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

  it("goes on where the adapter's own collection could not be opened the first time", async () => {
    const storage = getRxStorageMemory();
    let failures = 0;
    const failing: typeof storage = {
      ...storage,
      createStorageInstance: async (params) => {
        if (params.collectionName === "syncd" && failures++ === 0) throw new Error("not now");
        return storage.createStorageInstance(params);
      },
    };
    const token = await user();
    const one = await device(token, { tasks: await collection(`db-${randomUUID()}`, failing) });
    await one.tasks.insert({ id: "milk", title: "Buy milk" });
    await until("it was sent", async () => "milk" in (await onServer(token)), 10_000);
    expect(failures).toBeGreaterThan(1);
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
