/** Search in a file: the index is there, is kept, and leaves nothing. */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { Replica, type ReplicaOptions, StoreFailed } from "../../src/index.js";
import { search } from "../../src/search/index.js";
import { type SqliteDriver, type SqliteStores, sqliteStore } from "../../src/sqlite/index.js";
import { FILES, newFolder } from "../files.js";
import { type Connection, connect, executed } from "../node-sqlite.js";
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

/** What may be of an index: written by a later SQLite, overwritten, emptied, without one of its parts. */
const DAMAGES: [string, (words: string) => string][] = [
  ["of a later format", (words) => `UPDATE ${words}_config SET v = 99 WHERE k = 'version'`],
  ["overwritten", (words) => `UPDATE ${words}_data SET block = x'00' WHERE id >= 10`],
  ["emptied", (words) => `DELETE FROM ${words}_data WHERE id > 10`],
  ["without a part", (words) => `DROP TABLE ${words}_data`],
  ["without texts", (words) => `DROP TABLE ${words}_content`],
];

/** A store whose statements may be refused, with the connection that it has. */
class Doubtful {
  connection!: Connection;
  readonly store: SqliteStores;

  constructor(folder: string, refused = /^$/, why = "") {
    const open = (name: string): SqliteDriver => {
      const connection = connect(join(folder, name));
      this.connection = connection;
      const prepared = (sql: string) => {
        if (refused.test(sql)) throw new Error(why);
        return connection.prepare(sql);
      };
      return {
        all: (sql, values = []) => prepared(sql).all(...values) as never,
        run: (sql, values = []) => void prepared(sql).run(...values),
        close: () => connection.close(),
      };
    };
    this.store = sqliteStore({ open, remove: () => undefined });
  }

  open(search: object = SEARCH): Promise<Replica> {
    return Replica.open("notes", { app: "app", store: this.store, search } as ReplicaOptions);
  }
}

async function fill(replica: Replica, title = "one"): Promise<void> {
  for (let n = 0; n < 20; n += 1) await replica.put("t", `a${n}`, { title: `${title} word${n}` });
}

async function checkAll(replica: Replica): Promise<void> {
  expect(await ids(replica, "one")).toHaveLength(20);
  await replica.patch("t", "a7", { title: "other" });
  await replica.put("t", "b", { title: "word7" });
  await replica.delete("t", "a8");
  expect([await ids(replica, "word7"), await ids(replica, "other")]).toEqual([["b"], ["a7"]]);
  expect(await ids(replica, "one")).toHaveLength(18);
}

describe.each(DAMAGES)("an index that is %s", (_name, damage) => {
  it("is made again when the file is opened", async () => {
    const file = new Doubtful(newFolder());
    const first = await file.open();
    await fill(first);
    file.connection.exec(damage("search_words_1"));
    await first.close();
    const second = await file.open();
    const indexed = file.connection.prepare("SELECT words FROM search_tables").all();
    expect(indexed).toEqual([{ words: expect.stringMatching(/^search_words_\d$/) }]);
    expect(file.connection.prepare("SELECT count(*) AS n FROM search_records").all()).toEqual([{ n: 20 }]);
    await checkAll(second);
    expect(file.connection.prepare("SELECT count(*) AS n FROM search_records").all()).toEqual([{ n: 20 }]);
    await second.close();
  });

  it("costs no write meanwhile, and another one answers", async () => {
    const file = new Doubtful(newFolder());
    const replica = await file.open();
    await fill(replica);
    file.connection.exec(damage("search_words_1"));
    await checkAll(replica);
    await replica.close();
  });
});

it("keeps what is written where its SQLite has lost FTS5, and opens", async () => {
  const folder = newFolder();
  const before = await new Doubtful(folder).open();
  await fill(before);
  await before.close();
  const without = await new Doubtful(folder, /search_words_/, "no such module: fts5").open();
  await checkAll(without);
  await without.close();
  const after = new Doubtful(folder);
  const again = await after.open();
  expect([await ids(again, "word7"), await ids(again, "other")]).toEqual([["b"], ["a7"]]);
  expect(after.connection.prepare("SELECT count(*) AS n FROM search_changed").all()).toEqual([{ n: 0 }]);
  await again.close();
});

it("opens and searches without room for the index", async () => {
  const folder = newFolder();
  const before = await new Doubtful(folder).open({});
  await fill(before);
  await before.close();
  const file = new Doubtful(folder, /INTO search_(words|changed)/, "database or disk is full");
  const replica = await file.open();
  await checkAll(replica);
  await replica.close();
});

it("searches the fields that are declared now, also where there is no room to say so in the file", async () => {
  const folder = newFolder();
  const before = await new Doubtful(folder).open({ t: ["title"] });
  await before.put("t", "a", { title: "pear", body: "apple" });
  await before.close();
  const file = new Doubtful(folder, /DELETE FROM search_tables/, "database or disk is full");
  const replica = await file.open(SEARCH);
  expect(await ids(replica, "apple")).toEqual(["a"]);
  await replica.close();
});

it("makes an index in parts, and goes on where it was", async () => {
  const folder = newFolder();
  const before = await new Doubtful(folder).open({});
  await fill(before);
  await before.close();
  const file = connect(join(folder, "notes"));
  const copied = Array.from({ length: 60 }, (_, n) => `SELECT '${n}' AS n`).join(" UNION ALL ");
  file.exec(`INSERT INTO records (space, "table", id, deleted, round, doc, stamps)
    SELECT space, "table", id || '-' || k.n, deleted, round, doc, stamps FROM records, (${copied}) k`);
  file.close();
  let parts = 0;
  const failing = new Doubtful(
    folder,
    { test: (sql: string) => /BETWEEN/.test(sql) && ++parts > 2 } as RegExp,
    "is full",
  );
  await (await failing.open()).close();
  const counted = (one: Doubtful): unknown[] =>
    one.connection.prepare("SELECT count(*) AS n FROM search_records").all();
  const last = new Doubtful(folder);
  const replica = await last.open();
  expect(counted(last)).toEqual([{ n: 1220 }]);
  expect(await ids(replica, "word7")).toHaveLength(50);
  await replica.close();
});

it.each([
  ["a SQLite before 3.42", 20, /secure-delete', 1/],
  ["many records at once", 1200, /^$/],
])("has no word that no record has any more, with %s", async (_name, many, refused) => {
  const folder = newFolder();
  const file = new Doubtful(folder, refused, "SQL logic error");
  const replica = await file.open();
  const written = async (title: string): Promise<void> => {
    for (let first = 0; first < many; first += 600)
      await replica.batch((batch) => {
        for (let n = first; n < Math.min(many, first + 600); n += 1) batch.put("t", `b${n}`, { title });
      });
  };
  await written("quincesandwich");
  await fill(replica);
  if (many < 600) await written("other");
  else {
    file.connection.exec(`UPDATE records SET doc = '{"title":"other"}'`);
    await replica.put("t", "c", { title: "last" });
    expect(await ids(replica, "other")).toHaveLength(50);
  }
  await replica.close();
  await (await file.open()).close();
  const words = connect(join(folder, "notes"))
    .prepare("SELECT group_concat(hex(block)) AS blocks FROM search_words_1_data")
    .all() as [{ blocks: string }];
  expect(words[0].blocks).not.toContain(Buffer.from("quincesand").toString("hex").toUpperCase());
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
