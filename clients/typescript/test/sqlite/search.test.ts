/** Search in a file: the index is there, is kept, and leaves nothing. */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { Replica, type ReplicaOptions, StoreFailed } from "../../src/index.js";
import { search } from "../../src/search/index.js";
import { type SqliteDriver, sqliteStore } from "../../src/sqlite/index.js";
import { FILES, newFolder } from "../files.js";
import { connect, executed } from "../node-sqlite.js";
import { page, Script, wire } from "../script.js";

const SEARCH = { t: ["title", "body"] };

async function ids(replica: Replica, text: string): Promise<string[]> {
  return (await search(replica, "t", text)).map(({ id }) => id);
}

describe.each(FILES)("a file of %s", (_name, kind) => {
  const options = (folder: string, declared: object | undefined = SEARCH): ReplicaOptions => ({
    app: "app",
    store: kind(folder, { patience: 2000 }),
    ...(declared && { search: declared }),
  });

  it("has the index, also of what a version wrote that knows of no search", async () => {
    const folder = newFolder();
    const file = join(folder, "notes");
    const first = await Replica.open("notes", options(folder));
    for (const id of ["a", "b", "c"]) await first.put("t", id, { title: "red apple" });
    expect(await ids(first, "app")).toEqual(["a", "b", "c"]);
    await first.close();
    expect(await executed(file, "SELECT count(*) AS n FROM search_records")).toEqual([{ n: 3 }]);
    await executed(file, `UPDATE records SET doc = '{"title":"green"}' WHERE id = 'a'`);
    await executed(file, `DELETE FROM records WHERE id = 'b'`);
    const second = await Replica.open("notes", options(folder));
    expect([await ids(second, "red"), await ids(second, "green")]).toEqual([["c"], ["a"]]);
    await second.close();
    expect(await executed(file, "SELECT count(*) AS n FROM search_changed")).toEqual([{ n: 0 }]);
  });

  it("keeps words where nothing is declared, and loses them where others are", async () => {
    const folder = newFolder();
    const file = join(folder, "notes");
    await (await Replica.open("notes", options(folder))).close();
    const silent = await Replica.open("notes", options(folder, undefined));
    await silent.put("t", "a", { title: "apple" });
    await silent.close();
    expect(await executed(file, "SELECT count(*) AS n FROM search_records")).toEqual([{ n: 1 }]);
    await (await Replica.open("notes", options(folder, { u: ["title"] }))).close();
    expect(await executed(file, `SELECT "table" AS t FROM search_tables`)).toEqual([{ t: "u" }]);
    expect(await executed(file, "SELECT count(*) AS n FROM search_records")).toEqual([{ n: 0 }]);
    await (await Replica.open("notes", options(folder, {}))).close();
    expect(await executed(file, `SELECT name FROM sqlite_master WHERE name GLOB 'search_words*'`)).toEqual(
      [],
    );
  });

  it("has no word that no record has any more", async () => {
    const folder = newFolder();
    const script = new Script();
    const server = { url: "http://server/", token: "t", fetch: script.fetch };
    const replica = await Replica.open("notes", { ...options(folder), ...server });
    const holding = (): string[] =>
      readdirSync(folder).filter((name) => readFileSync(join(folder, name), "latin1").includes("quincesand"));
    const pulled = async (title: string, at: string): Promise<void> => {
      script.answers.push(page(["a", "b"].map((id) => wire(id, { title: [title, at] }))));
      await replica.pull();
    };
    await pulled("quincesandwich", "2029-01-01T00:00:00.000000Z");
    expect(holding()).not.toEqual([]);
    await pulled("other", "2029-01-02T00:00:00.000000Z");
    await replica.close();
    await vi.waitFor(() => expect(holding()).toEqual([]));
  });

  it("is refused for what can be no search, and is as it was", async () => {
    const folder = newFolder();
    await (await Replica.open("notes", options(folder))).close();
    const refused = Replica.open("notes", options(folder, { t: [] }));
    await expect(refused).rejects.toThrow("t is searched in a list of 1 to 16 fields");
    const again = await Replica.open("notes", options(folder));
    await again.put("t", "a", { title: "apple" });
    expect(await ids(again, "apple")).toEqual(["a"]);
    await again.close();
  });
});

it("says that its SQLite has no FTS5", async () => {
  const folder = newFolder();
  const open = (name: string): SqliteDriver => {
    const connection = connect(join(folder, name));
    return {
      all: (sql, values = []) => connection.prepare(sql).all(...values) as never,
      run: (sql, values = []) => {
        if (/fts5/.test(sql)) throw new Error("no such module: fts5");
        connection.prepare(sql).run(...values);
      },
      close: () => connection.close(),
    };
  };
  const store = sqliteStore({ open, remove: () => undefined });
  const opened = Replica.open("notes", { app: "app", store, search: SEARCH });
  await expect(opened).rejects.toThrow(StoreFailed);
  await expect(opened).rejects.toThrow("no FTS5");
});
