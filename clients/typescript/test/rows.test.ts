/** All stores of rows: the same order, limits and counts, and nothing of a transaction that fails half-way. */

import { IDBFactory } from "fake-indexeddb";
import { describe, expect, it, vi } from "vitest";
import type { Key } from "../src/data/change.js";
import { StoreFailed, WrongReplica } from "../src/index.js";
import { IndexedDbStore } from "../src/store/indexeddb.js";
import { MemoryStore } from "../src/store/memory.js";
import {
  LAYOUT,
  type OutboxRow,
  type RecordRow,
  type RowStore,
  type RowTransaction,
  Store,
  within,
} from "../src/store/store.js";
import { FILES, newFolder } from "./files.js";

const AT = "2026-01-01T10:00:00.000000Z";

function record(space: string, table: string, id: string, n = 1): RecordRow {
  const view = new Map([["n", { value: n, at: AT, client: "me" }]]);
  return { space, table, id, deleted: false, round: 0, view, base: null };
}

function queued(position: number, part: Partial<OutboxRow> = {}): OutboxRow {
  return {
    position,
    changeId: `c${position}`,
    batch: "b",
    space: "",
    table: "t",
    id: "r",
    state: "pending",
    body: "{}",
    size: 2,
    code: null,
    detail: null,
    ...part,
  };
}

const prepare = async (): Promise<void> => undefined;

async function browser(factory = new IDBFactory()): Promise<IndexedDbStore> {
  return IndexedDbStore.open("rows", { factory, durability: "normal", prepare });
}

describe.each<[string, () => Promise<RowStore>]>([
  ["in memory", async () => new MemoryStore(LAYOUT)],
  ["in IndexedDB", browser],
  ...FILES.map(([name, kind]): [string, () => Promise<RowStore>] => [
    `in a file of ${name}`,
    () => kind(newFolder())("rows", prepare),
  ]),
])("a store %s", (_name, make) => {
  async function filled(): Promise<RowStore> {
    const store = await make();
    await store.write(async (rows) => {
      for (const [space, id] of [
        ["s", "b"],
        ["", "c"],
        ["s", "a"],
        ["", "B"],
        ["sz", "a"],
      ])
        rows.put("records", record(space as string, "t", id as string));
      rows.put("records", record("s", "u", "a"));
      rows.put("outbox", queued(10));
      rows.put("outbox", queued(9, { state: "rejected" }));
      rows.put("outbox", queued(2, { batch: "other" }));
    });
    return store;
  }

  async function ids(store: RowStore, ...asked: Parameters<RowTransaction["all"]>): Promise<string[]> {
    const found = await store.read((rows) => rows.all("records", ...(asked.slice(1) as [])));
    return found.map(({ space, table, id }) => `${space}/${table}/${id}`);
  }

  it("has rows by their key, in the order of all its parts", async () => {
    const store = await filled();
    expect(await ids(store, "records")).toEqual(["/t/B", "/t/c", "s/t/a", "s/t/b", "s/u/a", "sz/t/a"]);
    expect(await ids(store, "records", ["s"])).toEqual(["s/t/a", "s/t/b", "s/u/a"]);
    expect(await ids(store, "records", ["s", "t"])).toEqual(["s/t/a", "s/t/b"]);
    expect(await ids(store, "records", ["s", "t", "b"])).toEqual(["s/t/b"]);
    expect(await ids(store, "records", ["x"])).toEqual([]);
    expect(await ids(store, "records", ["u"], "table")).toEqual(["s/u/a"]);
    expect(await ids(store, "records", [], undefined, 2)).toEqual(["/t/B", "/t/c"]);
    expect(await store.read((rows) => rows.get("records", ["s", "t", "b"]))).toEqual(record("s", "t", "b"));
    expect(await store.read((rows) => rows.get("records", ["s", "t", "z"]))).toBeUndefined();
  });

  it("has the queue by number, by state and by batch, as far as is asked for, and counts it", async () => {
    const store = await filled();
    const [all, pending, first, batch, change, count, none] = await store.read(async (rows) => [
      (await rows.all("outbox")).map(({ position }) => position),
      (await rows.all("outbox", ["pending"], "state")).map(({ position }) => position),
      (await rows.all("outbox", ["pending"], "state", 1)).map(({ position }) => position),
      (await rows.all("outbox", ["b"], "batch")).map(({ position }) => position),
      (await rows.all("outbox", ["c9"], "change")).map(({ position }) => position),
      await rows.count("outbox", ["pending"], "state"),
      await rows.count("outbox", ["aside"], "state"),
    ]);
    expect([all, pending, first, batch, change]).toEqual([[2, 9, 10], [2, 10], [2], [9, 10], [9]]);
    expect([count, none]).toEqual([2, 0]);
  });

  it("finds many records at once, those that are there, near and far", async () => {
    const store = await filled();
    const among = async (...keys: Key[]): Promise<string[]> => {
      const found = await store.read((rows) => rows.among(keys));
      const wanted = keys.map((key) => key.join("/"));
      return found
        .map(({ space, table, id }) => `${space}/${table}/${id}`)
        .filter((name) => wanted.includes(name))
        .sort();
    };
    expect(await among()).toEqual([]);
    expect(await store.read((rows) => rows.among([]))).toEqual([]);
    expect(await among(["s", "t", "b"], ["s", "t", "z"])).toEqual(["s/t/b"]);
    expect(await among(["sz", "t", "a"], ["", "t", "B"])).toEqual(["/t/B", "sz/t/a"]);
    expect(await among(["sz", "t", "a"])).toEqual(["sz/t/a"]);
    const every: Key[] = [
      ["", "t", "B"],
      ["", "t", "c"],
      ["s", "t", "a"],
      ["s", "u", "a"],
    ];
    expect(await among(...every)).toHaveLength(4);
    await store.write(async (rows) => {
      for (const id of ["c", "d", "e"]) rows.put("records", record("s", "t", id));
    });
    expect(await among(["s", "t", "a"], ["s", "t", "dd"], ["s", "t", "z"])).toEqual(["s/t/a"]);
    expect(
      await store.read((rows) =>
        rows.among([
          ["s", "t", "aa"],
          ["s", "t", "z"],
        ]),
      ),
    ).not.toContain(undefined);
    const found = await store.read((rows) => rows.among([["s", "t", "a"]]));
    expect(found.find(({ id }) => id === "a")?.view).toEqual(record("s", "t", "a").view);
  });

  it("keeps nothing of a transaction that fails half-way", async () => {
    const store = await filled();
    const before = await store.read((rows) => Promise.all([rows.all("records"), rows.all("outbox")]));
    const failing = store.write(async (rows) => {
      rows.put("records", record("s", "t", "a", 2));
      rows.put("records", record("s", "t", "a", 3));
      rows.put("records", record("s", "t", "new"));
      rows.delete("records", ["s", "t", "b"]);
      rows.put("records", record("s", "t", "b", 4));
      rows.delete("records", ["s", "t", "nobody"]);
      rows.delete("outbox", [9]);
      expect(await rows.all("records", ["s", "t"])).toHaveLength(3);
      throw new Error("half-way");
    });
    await expect(failing).rejects.toThrow("half-way");
    expect(await store.read((rows) => Promise.all([rows.all("records"), rows.all("outbox")]))).toEqual(
      before,
    );
    await store.write(async (rows) => rows.delete("records", ["s", "t", "b"]));
    expect(await store.read((rows) => rows.get("records", ["s", "t", "b"]))).toBeUndefined();
  });

  it("writes one after the other", async () => {
    const store = await make();
    const add = (): Promise<void> =>
      store.write(async (rows) => {
        const held = await rows.get("outbox", [1]);
        await rows.get("outbox", [1]);
        rows.put("outbox", queued(1, { size: (held?.size ?? 0) + 1 }));
      });
    const failing = store.write(async () => Promise.reject(new Error("no")));
    await Promise.all([add(), failing.catch(() => undefined), add(), add()]);
    expect((await store.read((rows) => rows.get("outbox", [1])))?.size).toBe(3);
  });

  it("that was closed takes and gives nothing any more", async () => {
    const store = await filled();
    store.close();
    store.close();
    const closed = async (): Promise<unknown> => store.read((rows) => rows.all("records"));
    await expect(closed()).rejects.toThrow(/closed/);
  });

  it("keeps the few values where they were changed, and only then", async () => {
    const rows = await make();
    const store = new Store(rows, 1000);
    const kept = (): Promise<unknown> => rows.read((tx) => tx.get("meta", ["meta"]));
    expect(await store.read(async ({ meta }) => meta)).toEqual({
      app: "",
      client: "",
      user: "",
      clock: "1970-01-01T00:00:00.000000Z",
      cursor: "",
      roles: "",
      round: 0,
      restarting: false,
      trouble: null,
      schema: null,
      position: 0,
      number: 0,
    });
    await store.write(async () => undefined);
    expect(await kept()).toBeUndefined();
    expect(await store.write(async ({ meta }) => (meta.position += 7))).toBe(7);
    expect(await kept()).toMatchObject({ name: "meta", meta: { position: 7 } });
    const failing = store.write(async ({ meta }) => {
      meta.position = 8;
      throw new WrongReplica("no");
    });
    await expect(failing).rejects.toBeInstanceOf(WrongReplica);
    expect(await store.read(async ({ meta }) => meta.position)).toBe(7);
    await expect(store.write(async () => Promise.reject(new RangeError("x")))).rejects.toBeInstanceOf(
      StoreFailed,
    );
    expect(store.durable).toBe(rows.durable);
  });
});

describe("a store in IndexedDB", () => {
  it("survives being closed, with what unsent writes lie on", async () => {
    const factory = new IDBFactory();
    const row = { ...record("", "t", "r"), base: new Map([["n", { value: 0, at: AT, client: "x" }]]) };
    const empty = { ...record("", "t", "e"), view: new Map() };
    const before = await browser(factory);
    await before.write(async (rows) => {
      rows.put("records", row);
      rows.put("records", empty);
    });
    before.close();
    const after = await browser(factory);
    expect(await after.read((rows) => rows.all("records"))).toEqual([empty, row]);
    expect(after.durable).toBe(true);
  });

  it("makes way for a newer version, which this one then does not open", async () => {
    const factory = new IDBFactory();
    const store = await browser(factory);
    await new Promise<void>((resolve, reject) => {
      const request = factory.open("rows", 9);
      request.onsuccess = () => {
        request.result.close();
        resolve();
      };
      request.onerror = () => reject(request.error);
    });
    await expect(store.read((rows) => rows.all("records"))).rejects.toBeInstanceOf(WrongReplica);
    await expect(browser(factory)).rejects.toBeInstanceOf(WrongReplica);
  });

  it("asks for the durability that it was opened with", async () => {
    const asked: (string | undefined)[] = [];
    for (const durability of ["full", "normal"] as const) {
      const factory = new IDBFactory();
      const open = factory.open.bind(factory);
      factory.open = (...name) => {
        const request = open(...name);
        request.addEventListener("success", () => {
          const begin = request.result.transaction.bind(request.result);
          request.result.transaction = (names, mode, options) => {
            asked.push(options?.durability);
            return begin(names, mode, options);
          };
        });
        return request;
      };
      const store = await IndexedDbStore.open("rows", { factory, durability, prepare });
      await store.write(async () => undefined);
    }
    expect(new Set(asked.slice(0, asked.length / 2))).toEqual(new Set(["strict"]));
    expect(new Set(asked.slice(asked.length / 2))).toEqual(new Set(["relaxed"]));
  });

  it("comes again a little later while the browser is taking it away, and gives up in the end", async () => {
    const factory = new IDBFactory();
    const open = factory.open.bind(factory);
    let aborts = 2;
    const asked: string[] = [];
    factory.open = (...name) => {
      asked.push(name[0]);
      if (aborts-- <= 0) return open(...name);
      const request = { error: new DOMException("", "AbortError") } as unknown as IDBOpenDBRequest;
      queueMicrotask(() => request.onerror?.(new Event("error")));
      return request;
    };
    await browser(factory);
    expect(asked).toHaveLength(3);
    aborts = Number.POSITIVE_INFINITY;
    vi.useFakeTimers({ toFake: ["setTimeout"] });
    const failed = expect(browser(factory)).rejects.toMatchObject({ code: "store_failed" });
    await vi.advanceTimersByTimeAsync(5000);
    vi.useRealTimers();
    await failed;
    expect(asked.length - 3).toBe(7); // after 20 ms, and twice as long each time, as long as that is within a second
  });

  it("is closed again where it cannot be prepared", async () => {
    const factory = new IDBFactory();
    const failing = async (): Promise<void> => Promise.reject(new WrongReplica("of another user"));
    const opening = IndexedDbStore.open("rows", { factory, durability: "full", prepare: failing });
    await expect(opening).rejects.toBeInstanceOf(WrongReplica);
    const gone = new Promise<string>((resolve) => {
      const request = factory.deleteDatabase("rows");
      request.onsuccess = () => resolve("gone");
      request.onblocked = () => resolve("blocked");
    });
    expect(await gone).toBe("gone");
  });
});

it("a transaction of a work has the few values at hand", async () => {
  const rows = new MemoryStore(LAYOUT);
  await rows.write((tx) => within(tx, async ({ meta }) => (meta.user = "ann")));
  expect(await rows.read((tx) => within(tx, async ({ meta }) => meta.user))).toBe("ann");
});
