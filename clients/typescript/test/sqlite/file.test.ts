/** A replica in a file: whose it is, and what is left in it. */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { Replica, type ReplicaOptions, StoreFailed, WrongReplica } from "../../src/index.js";
import { destroy, signOut } from "../../src/sign-out.js";
import { FILES, newFolder, prepare, record } from "../files.js";
import { connect, executed } from "../node-sqlite.js";

/** All that lies in a folder, as text. */
function bytesIn(folder: string): string {
  return readdirSync(folder)
    .map((name) => readFileSync(join(folder, name), "latin1"))
    .join("");
}

afterEach(() => {
  vi.useRealTimers();
});

describe.each(FILES)("a file of %s", (_name, kind) => {
  const options = (folder: string): ReplicaOptions => ({ app: "app", store: kind(folder, { patience: 50 }) });

  it("has one replica at a time, and then the next", async () => {
    const folder = newFolder();
    const first = await Replica.open("notes", options(folder));
    await first.put("t", "a", { n: 1 });
    expect(first.durable).toBe(true);
    await expect(Replica.open("notes", options(folder))).rejects.toThrow(/notes is open in another/);
    await first.close();
    await first.close();
    const second = await Replica.open("notes", options(folder));
    expect(await second.query("t")).toHaveLength(1);
    expect(second.clientId).toBe(first.clientId);
    await second.close();
  });

  it("is one app's, and let go of by whoever it is not of", async () => {
    const folder = newFolder();
    await (await Replica.open("notes", options(folder))).close();
    await expect(Replica.open("notes", { ...options(folder), app: "other" })).rejects.toThrow(WrongReplica);
    await (await Replica.open("notes", options(folder))).close();
  });

  it("keeps what a record has, whatever its names and numbers are", async () => {
    const folder = newFolder();
    const fields = {
      __proto__x: 1,
      constructor: "c",
      "10": "ten",
      "9": ["nine", null, { deep: { "": "" } }],
      big: 2n ** 70n,
      long: 9007199254740993n,
      half: 0.5,
      tiny: 5e-324,
      no: null,
      yes: true,
      text: "\u2028 \"'\\ \u{1f600} $[0] %",
      '"quoted"': 1,
    };
    const proto = JSON.parse('{"__proto__": {"a": 1}}') as object;
    const first = await Replica.open("notes", options(folder));
    await first.put("t", "'; DROP TABLE records; --", { ...fields, ...proto });
    await first.put("t", "p", proto);
    const before = await first.query("t");
    const registers = await first.registers("t", "p");
    await first.close();
    const second = await Replica.open("notes", options(folder));
    expect(await second.query("t")).toEqual(before);
    expect(before.find(({ id }) => id !== "p")?.fields).toEqual({ ...fields, ...proto });
    expect(Object.keys(before.find(({ id }) => id === "p")?.fields ?? {})).toEqual(["__proto__"]);
    expect(await second.registers("t", "p")).toEqual(registers);
    await second.close();
  });

  it("of the first format is taken over with what waits in it", async () => {
    const folder = newFolder();
    const first = await Replica.open("notes", options(folder));
    await first.put("t", "a", { n: 1 });
    await first.close();
    await executed(join(folder, "notes"), "ALTER TABLE outbox DROP COLUMN field");
    await executed(join(folder, "notes"), "PRAGMA user_version = 1");
    for (let n = 0; n < 2; n++) {
      const again = await Replica.open("notes", options(folder));
      expect(await again.pending()).toMatchObject([{ id: "a", code: null, field: null }]);
      await again.close();
    }
  });

  it("that is something else's, or a newer version's, is left alone", async () => {
    const folder = newFolder();
    const others = { other: "PRAGMA user_version = 1", python: "PRAGMA application_id = 7" };
    const opened = (name: string): Promise<Replica> => Replica.open(name, options(folder));
    for (const [name, sql] of Object.entries(others)) {
      const other = connect(join(folder, name));
      other.exec(`CREATE TABLE records (id TEXT); ${sql}`);
      other.close();
      const before = readFileSync(join(folder, name));
      await expect(opened(name)).rejects.toThrow(WrongReplica);
      await expect(kind(folder).destroy(name)).rejects.toThrow(WrongReplica);
      expect(readFileSync(join(folder, name)).equals(before)).toBe(true);
    }
    await (await opened("newer")).close();
    await executed(join(folder, "newer"), "PRAGMA user_version = 3");
    await expect(opened("newer")).rejects.toThrow(/a newer version wrote .*newer: upgrade/);
    await expect(opened("no/folder")).rejects.toMatchObject({ code: "store_failed" });
    expect(readdirSync(folder).sort()).toEqual(["newer", "other", "python"]);
  });

  it("that a newer version wrote, or that is damaged, can be wiped by who has it alone", async () => {
    const folder = newFolder();
    const opened = (name: string): Promise<Replica> => Replica.open(name, options(folder));
    await (await opened("newer")).close();
    await executed(join(folder, "newer"), "PRAGMA user_version = 3");
    const used = connect(join(folder, "newer"));
    used.exec("BEGIN IMMEDIATE");
    await expect(kind(folder, { patience: 0 }).destroy("newer")).rejects.toThrow(/open in another/);
    used.exec("ROLLBACK");
    used.close();
    await kind(folder).destroy("newer");
    writeFileSync(join(folder, "damaged"), "no database ".repeat(1000));
    await expect(opened("damaged")).rejects.toMatchObject({ code: "store_failed" });
    await kind(folder).destroy("damaged");
    await (await opened("torn")).close();
    const torn = readFileSync(join(folder, "torn"));
    writeFileSync(join(folder, "torn"), torn.fill(255, 100, 4096));
    await expect(opened("torn")).rejects.toMatchObject({ code: "store_failed" });
    await kind(folder).destroy("torn");
    expect(readdirSync(folder)).toEqual([]);
  });

  it("keeps nothing of a write that failed while more of it was asked", async () => {
    const store = await kind(newFolder())("notes", prepare);
    const asked: Promise<unknown>[] = [];
    const failing = store.write(async (rows) => {
      for (let n = 0; n < 20; n++) {
        rows.put("records", record(String(n), "lost"));
        asked.push(rows.all("records").catch(() => undefined));
      }
      throw new Error("the work failed");
    });
    await expect(failing).rejects.toThrow("the work failed");
    await Promise.all(asked);
    expect(await store.read((rows) => rows.all("records"))).toEqual([]);
    let late: Promise<unknown> | undefined;
    await store.write(async (rows) => {
      late = new Promise((over) => setTimeout(over, 50)).then(() => {
        rows.put("records", record("late", "lost"));
        return rows.all("records");
      });
    });
    await expect(late).rejects.toThrow(StoreFailed);
    expect(await store.read((rows) => rows.all("records"))).toEqual([]);
    store.close();
  });

  it("has nothing of what was overwritten or deleted some seconds ago, nor when it is closed", async () => {
    const folder = newFolder();
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const store = await kind(folder)("notes", prepare);
    const canaries = ["one", "two", "three"].map((part) => `canary-${part}`);
    await store.write(async (rows) => {
      for (const [n, text] of canaries.entries()) rows.put("records", record(String(n), text));
    });
    await store.write(async (rows) => rows.put("records", record("0", "gone")));
    await store.write(async (rows) => rows.delete("records", ["", "t", "1"]));
    expect(bytesIn(folder)).toContain("canary-one");
    await vi.advanceTimersByTimeAsync(10_000);
    await store.read(async (rows) => rows.all("records"));
    expect(canaries.map((text) => bytesIn(folder).includes(text))).toEqual([false, false, true]);
    await store.write(async (rows) => rows.delete("records", ["", "t", "2"]));
    vi.useRealTimers();
    store.close();
    (await kind(folder)("notes", prepare)).close();
    expect(bytesIn(folder)).not.toContain("canary");
  });

  it("is deleted by who signs out with wipe, who has to say where it is", async () => {
    const folder = newFolder();
    const store = kind(folder);
    const replica = await Replica.open("notes", { app: "app", store });
    await replica.put("t", "a", { n: 1 });
    const { indexedDB } = globalThis;
    Reflect.deleteProperty(globalThis, "indexedDB");
    try {
      await expect(signOut(replica, { wipe: true })).rejects.toBeInstanceOf(StoreFailed);
    } finally {
      globalThis.indexedDB = indexedDB;
    }
    expect(await replica.pending()).toHaveLength(1);
    await expect(destroy("notes", { store: kind(folder, { patience: 0 }) })).rejects.toThrow(
      /open in another/,
    );
    expect(await signOut(replica, { wipe: true, store })).toHaveLength(1);
    expect(readdirSync(folder)).toEqual([]);
    await destroy("notes", { store });
    expect(readdirSync(folder)).toEqual([]);
  });
});
