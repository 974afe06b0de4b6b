/** A store that was copied: the server tells the second copy, which goes on as another device. */

import { IDBFactory } from "fake-indexeddb";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LAYOUT, type Name } from "../src/store/store.js";
import { expectSame, open, QUICK } from "./devices.js";
import { page, problem, results, Script } from "./script.js";
import { RealServer } from "./server.js";

let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start();
});
afterAll(() => server.remove());

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** A browser with the same store as another one, as an image of its machine has it. */
async function imageOf(factory: IDBFactory, name: string): Promise<IDBFactory> {
  const image = new IDBFactory();
  const names = Object.keys(LAYOUT.keys) as Name[];
  const from = await done(factory.open(`syncd:${name}`));
  const opening = image.open(`syncd:${name}`, from.version);
  opening.onupgradeneeded = () => {
    for (const table of names) {
      const store = opening.result.createObjectStore(table, { keyPath: [...LAYOUT.keys[table]] });
      for (const [index, members] of Object.entries(LAYOUT.indexes[table] ?? {}))
        store.createIndex(index, [...members]);
    }
  };
  const to = await done(opening);
  for (const table of names) {
    const rows = await done(from.transaction(table).objectStore(table).getAll());
    const store = to.transaction(table, "readwrite").objectStore(table);
    for (const row of rows) await done(store.put(row));
  }
  from.close();
  to.close();
  return image;
}

function incarnations(script: Script): unknown[] {
  return script.pushes.map((push) => (push as unknown as { incarnations?: string[] }).incarnations);
}

describe("a store that was copied", () => {
  it("pushes under another client id, once the server has told it, what it has not sent", async () => {
    const script = new Script();
    const replica = await open({ url: "http://server/", token: "t", fetch: script.fetch });
    const before = replica.clientId;
    await replica.put("t", "r", { n: 1 });
    script.answers.push(problem(409, "device_copied"));
    expect((await replica.sync()).pushed).toBe(1);
    expect([replica.copiedFrom, replica.clientId === before]).toEqual([before, false]);
    const [first, second] = script.pushes;
    expect([first?.clientId, second?.clientId]).toEqual([before, replica.clientId]);
    expect(second?.changes).toEqual(first?.changes);
    expect((await replica.registers("t", "r")).get("n")?.client).toBe(replica.clientId);
  });

  it("names what it may have pushed as, and after an answer the last of them", async () => {
    const script = new Script();
    const own = { url: "http://server/", token: "t", fetch: script.fetch, retry: { attempts: 1 } };
    const shared = { ...own, name: "file", indexedDB: new IDBFactory() };
    const first = await open(shared);
    await first.put("t", "r", { n: 1 });
    script.answers.push(new Error("lost"));
    await expect(first.push()).rejects.toThrow();
    await first.close();
    const second = await open(shared);
    await second.push();
    await second.put("t", "r", { n: 2 });
    await second.push();
    const [one, two, three] = incarnations(script) as [string[], string[], string[]];
    expect(two[0]).toBe(one[0]);
    expect(three).toHaveLength(2);
    expect(three[0]).toBe(two[1]);
    expect(three.map((name) => Number.parseInt(name, 10))).toEqual([2, 3]);
  });

  it("is not looked for where the application names the client", async () => {
    const script = new Script();
    const replica = await open({ url: "http://server/", token: "t", fetch: script.fetch, clientId: "own" });
    await replica.put("t", "r", { n: 1 });
    script.answers.push((body) => results(body), page());
    await replica.sync();
    expect(incarnations(script)).toEqual([undefined]);
  });

  it.each(["synced", "live"])("ends equal with the other one while both are %s", async (how) => {
    const own = { url: server.url, token: await server.token(`image-${how}`), name: "app" };
    const indexedDB = new IDBFactory();
    const phone = await open({ ...own, indexedDB, wall: () => 1_000_000 });
    await phone.put("t", "r", { n: "first" });
    await phone.sync();
    const other = await open({ ...own, indexedDB: await imageOf(indexedDB, "app"), wall: () => 1_000_000 });
    // Two machines: their tabs do not hear of each other.
    const before = phone.clientId;
    expect(other.clientId).toBe(before);
    const lives = how === "live" ? [phone, other].map((one) => one.live({ policy: QUICK })) : [];
    for (const one of [phone, other]) {
      await one.patch("t", "r", { n: one === phone ? "phone" : "other" });
      if (how === "synced") await one.sync();
    }
    for (const live of lives) expect(await live.waitUntilSynced(30_000)).toBe(true);
    expect([phone.copiedFrom, other.copiedFrom].sort()).toEqual([before, null].sort());
    for (const live of lives) await live.close();
    for (const one of [phone, other, phone]) await one.sync();
    await expectSame(phone, other);
  });
});
