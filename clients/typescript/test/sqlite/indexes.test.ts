/** Declared indexes in files of SQLite: made, read, kept and removed. What they answer is in test/indexes.test.ts. */

import { join } from "node:path";
import { expect, it } from "vitest";
import { type AnyTables, Replica } from "../../src/index.js";
import { type DeclaredIndexes, indexes } from "../../src/indexes/index.js";
import { Query } from "../../src/query.js";
import { nodeSqlite } from "../../src/sqlite/index.js";
import { newFolder } from "../files.js";
import { executed } from "../node-sqlite.js";

const HELD = "SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE 'fields %' ORDER BY name";

function at(path: string, declared?: DeclaredIndexes<AnyTables>): Promise<Replica> {
  const more = declared ? { indexes: indexes(declared) } : {};
  return Replica.open(path, { app: "app", store: nodeSqlite({ durability: "normal" }), ...more });
}

/** The keys that the file's own index has for a query; undefined where it has none. */
async function ranged(replica: Replica, a: string): Promise<unknown> {
  const query = replica.query("t", { a });
  const found: unknown[] = [];
  await query["source"].read(async (tx) => {
    const ask = tx.ranged?.bind(tx);
    tx.ranged = async (...asked) => {
      const keys = await ask?.(...asked);
      found.push(keys);
      return keys;
    };
    await query["asked"].find?.(tx, new Map(), null);
  });
  return found[0];
}

async function ids(replica: Replica, a: string): Promise<string[]> {
  return (await replica.query("t", { a })).map(({ id }) => id);
}

it("are in the file, and it reads them", async () => {
  const path = join(newFolder(), "a.db");
  const replica = await at(path, { t: ["a", ["b", "a"]], "it's": ["b"] });
  await replica.put("t", "x", { a: "1" });
  expect(await ranged(replica, "1")).toEqual([["", "t", "x"]]);
  await replica.close();
  const names = [`fields ["it's","b"]`, `fields ["t","a"]`, `fields ["t","b","a"]`];
  expect(await executed(path, HELD)).toEqual(names.map((name) => ({ name })));
});

it("serve without a step that sorts", async () => {
  const path = join(newFolder(), "a.db");
  await (await at(path, { t: [["a", "b"]] })).close();
  const value = (field: string): string =>
    `CASE json_type(doc, '$."${field}"') WHEN 'array' THEN x'00' WHEN 'object' THEN x'01' ELSE json_extract(doc, '$."${field}"') END`;
  const plan = await executed(
    path,
    `EXPLAIN QUERY PLAN SELECT id FROM records INDEXED BY "fields [""t"",""a"",""b""]" WHERE "table" = 't' AND deleted = 0
    AND space = '' AND ${value("a")} = 1 ORDER BY ${value("b")}, id`,
  );
  expect(JSON.stringify(plan)).toContain("fields");
  expect(JSON.stringify(plan)).not.toContain("TEMP B-TREE");
});

it("are those that were declared last, and stay where none are", async () => {
  const path = join(newFolder(), "a.db");
  await (await at(path, { t: ["a", "b"] })).close();
  const silent = await at(path);
  await silent.put("t", "x", { a: "1" });
  await silent.close();
  expect(await executed(path, HELD)).toHaveLength(2);
  const one = await at(path, { t: ["a"] });
  expect(await ranged(one, "1")).toEqual([["", "t", "x"]]);
  await one.close();
  expect(await executed(path, HELD)).toHaveLength(1);
  await (await at(path, {})).close();
  expect(await executed(path, HELD)).toEqual([]);
});

it("are made in memory where the file has none", async () => {
  const path = join(newFolder(), "a.db");
  const replica = await at(path, { t: ["a"] });
  await replica.put("t", "x", { a: "1" });
  await replica.close();
  await executed(path, `DROP INDEX "fields [""t"",""a""]"`);
  const later = await at(path);
  const declared = indexes({ t: ["a"] });
  const query = later.query("t", { a: "1" });
  const asked = declared(query["source"], query["asked"] as never);
  const again = new Query(query["source"], asked as never);
  expect((await again).map(({ id }: { id: string }) => id)).toEqual(["x"]);
  await later.put("t", "y", { a: "1" });
  await later.delete("t", "x");
  expect((await again).map(({ id }: { id: string }) => id)).toEqual(["y"]);
  expect(await ids(later, "1")).toEqual(["y"]);
  await later.close();
});

it("are not those of another version of SQLite, which rounds otherwise, also where none are declared", async () => {
  const path = join(newFolder(), "a.db");
  const before = await at(path, { t: ["a"] });
  await before.put("t", "x", { a: "1" });
  await before.close();
  const sql = "SELECT sql FROM sqlite_master WHERE name LIKE 'fields %'";
  const [made] = (await executed(path, sql)) as { sql: string }[];
  const own = made?.sql ?? "";
  await executed(path, `DROP INDEX "fields [""t"",""a""]"`);
  await executed(path, own.replace(/\/\* [\d.]+ \*\//, "/* 3.8.0 */"));
  await (await at(path)).close();
  expect(await executed(path, HELD)).toEqual([]);
  await executed(path, own.replace(/\/\* [\d.]+ \*\//, "/* 3.8.0 */"));
  const again = await at(path, { t: ["a"] });
  expect(await ranged(again, "1")).toEqual([["", "t", "x"]]);
  await again.close();
  expect(await executed(path, sql)).toEqual([{ sql: own }]);
});

it("are made of fields and tables whose names differ in capitals only", async () => {
  const path = join(newFolder(), "a.db");
  const replica = await at(path, { t: ["a", "A", "^a", ["a", "A"]], T: ["a"] });
  await replica.put("t", "x", { a: "1", A: "2", "^a": "3" });
  expect(await ranged(replica, "1")).toEqual([["", "t", "x"]]);
  await replica.close();
  const lower = (name: unknown): string => String(name).toLowerCase();
  const held = (await executed(path, HELD)) as { name: string }[];
  expect(new Set(held.map(({ name }) => lower(name))).size).toBe(5);
});
