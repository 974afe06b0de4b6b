/** Leaving a device: a store that is deleted is gone, with all that was in it. */

import { IDBFactory } from "fake-indexeddb";
import { describe, expect, it } from "vitest";
import { Replica, StoreFailed } from "../src/index.js";
import { destroy, signOut } from "../src/sign-out.js";

async function names(indexedDB: IDBFactory): Promise<(string | undefined)[]> {
  return (await indexedDB.databases()).map(({ name }) => name);
}

describe("who signs out", () => {
  it("finds everything again the next time, and is told what was not sent", async () => {
    const indexedDB = new IDBFactory();
    const replica = await Replica.open("notes", { app: "app", indexedDB });
    await replica.put("notes", "one", { title: "tea" });
    expect((await signOut(replica, { indexedDB })).map(({ change }) => change.id)).toEqual(["one"]);
    await expect(replica.pending()).rejects.toBeInstanceOf(StoreFailed);
    const again = await Replica.open("notes", { app: "app", indexedDB });
    expect((await again.get("notes", "one"))?.fields.title).toBe("tea");
    await again.close();
  });

  it("leaves nothing with wipe", async () => {
    const indexedDB = new IDBFactory();
    const replica = await Replica.open("notes", { app: "app", indexedDB });
    await replica.put("notes", "one", { title: "tea" });
    expect(await signOut(replica, { wipe: true, indexedDB })).toHaveLength(1);
    expect(await names(indexedDB)).toEqual([]);
    const again = await Replica.open("notes", { app: "app", indexedDB });
    expect(await again.pending()).toEqual([]);
    await again.close();
  });

  it("is told where another tab keeps the store", async () => {
    const indexedDB = new IDBFactory();
    await destroy("nowhere", { indexedDB });
    const open = indexedDB.open("syncd:held", 1);
    await new Promise((resolve) => {
      open.onsuccess = resolve;
    });
    await expect(destroy("held", { indexedDB, patience: 50 })).rejects.toThrow("another tab");
    open.result.close();
    await destroy("held", { indexedDB });
    expect(await names(indexedDB)).toEqual([]);
  });
});
