/** A store in a file: what it says where a driver is slow, or there is no room, and which rows it has. */

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Replica } from "../../src/index.js";
import {
  expoSqlite,
  nodeSqlite,
  type SqliteDriver,
  type SqliteFiles,
  sqliteStore,
} from "../../src/sqlite/index.js";
import * as expo from "../expo-sqlite.js";
import { newFolder, prepare, record } from "../files.js";
import { connect, executed, sqlite } from "../node-sqlite.js";

/** A driver of Node's own, of which a test sees each statement. */
function seen(see: (sql: string) => void): SqliteFiles {
  const open = (path: string): SqliteDriver => {
    const connection = connect(path);
    return {
      all(sql, values = []) {
        see(sql);
        return connection.prepare(sql).all(...values) as [];
      },
      run(sql, values = []) {
        see(sql);
        connection.prepare(sql).run(...values);
      },
      close: () => connection.close(),
    };
  };
  return { open, remove: () => undefined };
}

describe("a store in a file", () => {
  it("is its owner's until it is gone, and who had opened it meanwhile opens the next", async () => {
    const folder = newFolder();
    const path = join(folder, "notes");
    const fs = (
      process as unknown as { getBuiltinModule(name: "node:fs"): typeof import("node:fs") }
    ).getBuiltinModule("node:fs");
    const { rmSync } = fs;
    const told: string[] = [];
    (await nodeSqlite()(path, prepare)).close();
    fs.rmSync = (part, how) => {
      if (part === path) {
        const other = connect(path);
        try {
          other.exec("BEGIN IMMEDIATE");
          told.push("it was let go of");
        } catch (error) {
          told.push(String(error));
        }
        other.close();
      }
      rmSync(part, how);
    };
    try {
      await nodeSqlite().destroy(path);
    } finally {
      fs.rmSync = rmSync;
    }
    expect(told).toEqual([expect.stringMatching(/is locked/)]);
    expect(readdirSync(folder)).toEqual([]);
    // Another process opens the file, and this one deletes it before that one has it alone.
    (await nodeSqlite()(path, prepare)).close();
    await executed(path, "PRAGMA journal_mode = DELETE");
    const found = sqlite as unknown as { DatabaseSync: new (path: string) => object };
    const { DatabaseSync } = found;
    found.DatabaseSync = class extends DatabaseSync {
      constructor(path: string) {
        super(path);
        found.DatabaseSync = DatabaseSync;
        for (const part of readdirSync(folder)) rmSync(join(folder, part));
      }
    };
    const store = await nodeSqlite()(path, prepare);
    await store.write(async (rows) => rows.put("records", record("a", "kept")));
    store.close();
    const again = await nodeSqlite()(path, prepare);
    expect(await again.read((rows) => rows.all("records"))).toHaveLength(1);
    again.close();
  });

  describe("that is slow", () => {
    /** A replica over a driver that takes `pause` milliseconds for the next statement that `what` knows. */
    async function slowly(folder: string): Promise<{ replica: Replica; slow: (what: RegExp) => void }> {
      let next: RegExp | null = null;
      const files = seen(() => undefined);
      const open = async (path: string): Promise<SqliteDriver> => {
        const driver = await files.open(path);
        const later = async <T>(sql: string, work: () => T | Promise<T>): Promise<T> => {
          if (next?.test(sql)) {
            next = null;
            await new Promise((over) => setTimeout(over, 1500));
          }
          return work();
        };
        return {
          all: (sql, values) => later(sql, () => driver.all(sql, values)),
          run: (sql, values) => later(sql, () => driver.run(sql, values)),
          close: () => driver.close(),
        };
      };
      const store = sqliteStore({ ...files, open });
      const replica = await Replica.open(join(folder, "notes"), { app: "app", store, callbackTimeout: 1000 });
      const slow = (what: RegExp): void => {
        next = what;
      };
      return { replica, slow };
    }

    it("while it commits tells what became of that", async () => {
      const { replica, slow } = await slowly(newFolder());
      slow(/COMMIT/);
      await replica.put("t", "a", { n: 1 });
      expect((await replica.pending()).map(({ id }) => id)).toEqual(["a"]);
      await replica.close();
    });

    it("before that keeps nothing of a write, nor of those behind it, that it said had failed", async () => {
      const { replica, slow } = await slowly(newFolder());
      slow(/BEGIN|SELECT/);
      const asked = ["a", "b"].map((id) => replica.put("t", id, { n: 1 }));
      for (const put of asked) await expect(put).rejects.toMatchObject({ code: "store_failed" });
      await replica.put("t", "c", { n: 1 });
      expect((await replica.pending()).map(({ id }) => id)).toEqual(["c"]);
      await replica.close();
    });
  });

  it("that has no room says so, keeps nothing of the write, and goes on when there is", async () => {
    const folder = newFolder();
    let database: expo.SQLiteDatabase | undefined;
    const small = {
      ...expo,
      async openDatabaseAsync(...asked: Parameters<typeof expo.openDatabaseAsync>) {
        database = await expo.openDatabaseAsync(...asked);
        return database;
      },
    };
    const store = expoSqlite(small, { directory: folder });
    const replica = await Replica.open("notes", { app: "app", store });
    await replica.put("t", "a", { n: 1 });
    const pages = (await database?.getAllAsync<{ page_count: number }>("PRAGMA page_count", []))?.[0];
    await database?.getAllAsync(`PRAGMA max_page_count = ${(pages?.page_count ?? 0) + 5}`, []);
    const large = { text: "x".repeat(100_000) };
    const failing = replica.batch((batch) => {
      batch.put("t", "b", { n: 2 });
      batch.put("t", "c", large);
    });
    await expect(failing).rejects.toMatchObject({ code: "storage_full" });
    expect((await replica.query("t")).map(({ id }) => id)).toEqual(["a"]);
    expect(await replica.pending()).toHaveLength(1);
    await replica.put("t", "d", { n: 4 });
    await database?.getAllAsync("PRAGMA max_page_count = 1000000", []);
    await replica.put("t", "c", large);
    expect((await replica.query("t")).map(({ id }) => id).sort()).toEqual(["a", "c", "d"]);
    await replica.close();
  });

  it("is flushed through the disk's own cache, where the system has to be asked for that", async () => {
    for (const [durability, flushed] of [["full", 1] as const, ["normal", 0] as const]) {
      let driver: SqliteDriver | undefined;
      const files = seen(() => undefined);
      const open = async (path: string): Promise<SqliteDriver> => (driver = await files.open(path));
      const store = await sqliteStore({ ...files, open }, { durability })(
        join(newFolder(), "notes"),
        prepare,
      );
      const values = ["fullfsync", "checkpoint_fullfsync"].map((name) => driver?.all(`PRAGMA ${name}`));
      expect(values).toEqual([[{ fullfsync: flushed }], [{ checkpoint_fullfsync: flushed }]]);
      store.close();
    }
  });

  it("shows nothing of a transaction that could not even be taken back, and takes it back before the next", async () => {
    const folder = newFolder();
    let failing: RegExp | null = null;
    const see = (sql: string): void => {
      if (failing?.test(sql)) throw new Error(`disk I/O error at ${sql}`);
    };
    const store = await sqliteStore(seen(see))(join(folder, "notes"), prepare);
    await store.write(async (rows) => rows.put("records", record("a", "kept")));
    failing = /COMMIT|ROLLBACK/;
    const lost = store.write(async (rows) => rows.put("records", record("b", "lost")));
    await expect(lost).rejects.toThrow("COMMIT");
    await expect(store.read((rows) => rows.all("records"))).rejects.toThrow("ROLLBACK");
    failing = null;
    expect(await store.read((rows) => rows.all("records"))).toHaveLength(1);
    failing = /INSERT/;
    const swallowed = store.write(async (rows) => {
      rows.put("records", record("c", "lost"));
      await rows.all("records").catch(() => undefined);
    });
    await expect(swallowed).rejects.toThrow("INSERT");
    failing = null;
    await store.write(async (rows) => rows.put("records", record("d", "kept")));
    const ids = (await store.read((rows) => rows.all("records"))).map(({ id }) => id);
    expect(ids).toEqual(["a", "d"]);
    store.close();
  });

  it("reads what was put before, and not what is put behind it", async () => {
    const store = await nodeSqlite()(join(newFolder(), "notes"), prepare);
    await store.write(async (rows) => {
      rows.put("spaces", { id: "a" });
      const before = rows.all("spaces");
      rows.put("spaces", { id: "b" });
      rows.put("spaces", { id: "b" });
      rows.delete("spaces", ["a"]);
      expect(await before).toMatchObject([{ id: "a" }]);
      expect(await rows.all("spaces")).toMatchObject([{ id: "b" }]);
    });
    store.close();
  });

  it("looks rows up by their keys and indexes", async () => {
    const asked: string[] = [];
    const path = join(newFolder(), "notes");
    const store = await sqliteStore(seen((sql) => asked.push(sql)))(path, prepare);
    asked.length = 0;
    await store.write(async (rows) => {
      await rows.among([["", "t", "a"]]);
      await rows.get("records", ["", "t", "a"]);
      await rows.all("records", ["", "t"]);
      await rows.all("records", ["t"], "table");
      await rows.all("outbox", ["pending"], "state", 1);
      await rows.all("outbox", ["", "t", "a"], "record");
      await rows.all("outbox", ["c"], "change");
      await rows.all("outbox", ["b"], "batch");
      await rows.count("outbox", ["pending"], "state");
      await rows.all("conflicts", ["s"], "space");
      rows.delete("records", ["", "t", "a"]);
    });
    store.close();
    await (await nodeSqlite()(path, prepare)).close();
    const connection = connect(path);
    for (const sql of asked.filter((one) => /SELECT/.test(one))) {
      const values = sql.match(/\?/g)?.map(() => "[]") ?? [];
      const plan = connection.prepare(`EXPLAIN QUERY PLAN ${sql}`).all(...values) as { detail: string }[];
      const scans = plan.filter(({ detail }) => /SCAN (?!k\b)|TEMP B-TREE/.test(detail));
      expect(scans, sql).toEqual([]);
    }
    connection.close();
  });

  it("is none where nothing lasts, or where there is no SQLite", async () => {
    await expect(Replica.open(":memory:", { app: "app", store: nodeSqlite() })).rejects.toThrow(
      /no file that lasts/,
    );
    const { getBuiltinModule } = process as unknown as { getBuiltinModule: unknown };
    Object.assign(process, { getBuiltinModule: undefined });
    try {
      const asked = Replica.open(join(newFolder(), "n"), { app: "app", store: nodeSqlite() });
      await expect(asked).rejects.toThrow(/there is no node:sqlite here/);
    } finally {
      Object.assign(process, { getBuiltinModule });
    }
  });

  it("of Expo has a connection of its own beside the application's", async () => {
    const folder = newFolder();
    const replica = await Replica.open("notes", {
      app: "app",
      store: expoSqlite(expo, { directory: folder }),
    });
    const beside = await expo.openDatabaseAsync("mine", {}, folder);
    await beside.execAsync("CREATE TABLE mine (n)");
    await beside.execAsync("BEGIN");
    await replica.put("t", "a", { n: 1 });
    await beside.execAsync("ROLLBACK");
    expect(await replica.query("t")).toHaveLength(1);
    await Promise.all([replica.close(), beside.closeAsync()]);
    expect(existsSync(join(folder, "notes"))).toBe(true);
  });
});
