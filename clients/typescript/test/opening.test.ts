/** How a store is opened: which one it is, whose, and what brings it up to the application's schema. */

import { IDBFactory } from "fake-indexeddb";
import { describe, expect, it } from "vitest";
import { StoreFailed, WrongReplica } from "../src/index.js";
import { MemoryStore } from "../src/store/memory.js";
import { claimMeta, claimStore, migrate, openStore } from "../src/store/open.js";
import { LAYOUT, Store, type Transaction } from "../src/store/store.js";

const claim = async ({ meta }: Transaction): Promise<void> => claimMeta(meta, "app", "app");

function memory(): Store {
  return new Store(new MemoryStore(LAYOUT), 1000);
}

describe("a store", () => {
  it("is the browser's, of a name of our own, and prepared", async () => {
    const indexedDB = new IDBFactory();
    const store = await openStore("mine", { indexedDB }, claim);
    expect([store.durable, (await indexedDB.databases()).map(({ name }) => name)]).toEqual([
      true,
      ["syncd:mine"],
    ]);
    expect(await store.read(async ({ meta }) => meta.app)).toBe("app");
    store.close();
    expect((await openStore("global", {}, claim)).durable).toBe(true);
  });

  it("is in memory where there is no other, unless it has to last", async () => {
    const store = await openStore("mine", { indexedDB: null }, claim);
    expect([store.durable, await store.read(async ({ meta }) => meta.app)]).toEqual([false, "app"]);
    const lasting = openStore("mine", { indexedDB: null, requireDurable: true }, claim);
    await expect(lasting).rejects.toBeInstanceOf(StoreFailed);
    await expect(lasting).rejects.toThrow("no IndexedDB");
  });

  it("is the application's own, which runs what prepares it", async () => {
    const asked: string[] = [];
    const store = await openStore(
      "mine",
      {
        store: async (name, prepare) => {
          asked.push(name);
          const rows = new MemoryStore(LAYOUT);
          await rows.write(prepare);
          return rows;
        },
      },
      claim,
    );
    expect([asked, await store.read(async ({ meta }) => meta.app)]).toEqual([["mine"], "app"]);
    store.close();
    await expect(store.read(async () => 1)).rejects.toBeInstanceOf(StoreFailed);
  });

  it("that comes too late is closed, and one that cannot be opened has failed", async () => {
    let closed = (): void => undefined;
    const closing = new Promise<void>((resolve) => {
      closed = resolve;
    });
    class Late extends MemoryStore {
      override close(): void {
        closed();
      }
    }
    let comes = (): void => undefined;
    const coming = new Promise<void>((resolve) => {
      comes = resolve;
    });
    const late = openStore(
      "mine",
      {
        callbackTimeout: 5,
        store: async () => {
          await coming;
          return new Late(LAYOUT);
        },
      },
      claim,
    );
    await expect(late).rejects.toBeInstanceOf(StoreFailed);
    comes();
    await closing;
    const failing = openStore("mine", { store: async () => Promise.reject(new RangeError("x")) }, claim);
    await expect(failing).rejects.toMatchObject({ code: "store_failed" });
  });

  it("is one app's and one device's", async () => {
    const store = memory();
    const claimed = (app: string, client?: string): Promise<string> =>
      store.write(async ({ meta }) => claimStore(meta, app, client, 1));
    const client = await claimed("app");
    expect(client).toMatch(/^00000000-0001-7/);
    expect([await claimed("app"), await claimed("app", client)]).toEqual([client, client]);
    await expect(claimed("other")).rejects.toBeInstanceOf(WrongReplica);
    await expect(claimed("app", "other")).rejects.toBeInstanceOf(WrongReplica);
    expect(await store.read(async ({ meta }) => [meta.app, meta.client])).toEqual(["app", client]);
  });
});

describe("the application's schema", () => {
  async function brought(
    store: Store,
    version: number,
    during: (from: number) => void | Promise<void> = () => undefined,
    timeout = 1000,
  ): Promise<[number[], number]> {
    const told: number[] = [];
    let queued = 0;
    await migrate(
      store,
      version,
      timeout,
      async (from) => {
        told.push(from);
        await during(from);
      },
      async () => {
        queued += 1;
      },
    );
    return [told, queued];
  }

  const version = (of: Store): Promise<number | null> => of.read(async ({ meta }) => meta.schema);

  it("is noted in a new store, and brought up once in an old one", async () => {
    const store = memory();
    expect([await brought(store, 2), await version(store)]).toEqual([[[], 1], 2]);
    expect(await brought(store, 2)).toEqual([[], 0]);
    expect([await brought(store, 3), await version(store)]).toEqual([[[2], 1], 3]);
    await expect(brought(store, 2)).rejects.toBeInstanceOf(WrongReplica);
    expect(await version(store)).toBe(3);
  });

  it("of 0 is one like others", async () => {
    const store = memory();
    await brought(store, 0);
    expect([await brought(store, 1), await version(store)]).toEqual([[[0], 1], 1]);
  });

  it("that another tab has brought up meanwhile is left to it", async () => {
    const store = memory();
    await brought(store, 1);
    const quicker = async (): Promise<void> =>
      store.write(async ({ meta }) => {
        meta.schema = 3;
      });
    expect([await brought(store, 2, quicker), await version(store)]).toEqual([[[1], 0], 3]);
  });

  it("stays what it was where that fails, or takes ten times as long as a callback may", async () => {
    const store = memory();
    await brought(store, 1);
    await expect(brought(store, 2, () => Promise.reject(new Error("bug")))).rejects.toThrow("bug");
    const never = brought(store, 2, () => new Promise(() => {}), 2);
    await expect(never).rejects.toMatchObject({
      code: "callback_timeout",
      detail: expect.stringContaining("20"),
    });
    expect(await version(store)).toBe(1);
  });
});
