/** Indexes on fields: what they answer is what is answered without them, in every store; and which one answers is told. */

import { IDBFactory } from "fake-indexeddb";
import { describe, expect, it } from "vitest";
import {
  EVERY_SPACE,
  InvalidQuery,
  type Json,
  type QueryOptions,
  type Replica,
  type ReplicaOptions,
  type Row,
} from "../src/index.js";
import { explain, indexes } from "../src/indexes/index.js";
import { aggregate, groupBy, include, not, or, where } from "../src/queries/index.js";
import { Query } from "../src/query.js";
import type { RecordRow } from "../src/store/store.js";
import { open, until } from "./devices.js";
import { ALONE, keptIn } from "./files.js";
import { page, Script, wire } from "./script.js";

type Fields = { readonly [field: string]: Json };
type Asked = Query<Fields>;
const DECLARED = { t: ["a", ["a", "b"], "b", ["b", "a"], "it's"] };
const EARLIER = "2020-01-01T00:00:00.000000Z";
const LATER = "2030-01-01T00:00:00.000000Z";
const STORES: [string, () => Partial<ReplicaOptions>][] = [["as it is kept", () => keptIn(new IDBFactory())]];
if (!ALONE) STORES.push(["in memory", () => ({ indexedDB: null })]);

/** The same without indexes. */
function bare(query: Asked): Asked {
  const { find: _find, ...asked } = query["asked"];
  return new Query(query["source"], asked);
}

/** For JSON.stringify, which takes no big integers. */
function plain(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? `${value}n` : value;
}

function names(rows: readonly Row[]): string[] {
  return rows.map(({ space, id }) => `${space}/${id}`);
}

const seeds = { last: 0 };
/** Draws below a number. */
function draws(): (most: number) => number {
  let state = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
  seeds.last = state;
  return (most) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >> 8) % most;
  };
}

const NUMBERS = [0, 1, -1, 2, 0.1, 0.3, 0.30000000000000004, 1e300, -1e300, 1e23, 2 ** 53];
const LARGE = [9007199254740993n, 9223372036854775807n, 9223372036854775809n];
const TEXTS = ["", "a", "ab", "Z", "é", "\ue000", "😀"];
const OTHERS: readonly Json[] = [null, true, false, [], ["a"], [1], {}, { a: 1 }];
const VALUES: readonly Json[] = [...NUMBERS, ...LARGE, ...TEXTS, ...OTHERS];
const ORDERED = VALUES.filter((value) => typeof value !== "object" && typeof value !== "boolean");
const FIELDS = ["a", "b", "it's", "c"];

class Random {
  readonly draw = draws();

  one<T>(list: readonly T[]): T {
    return list[this.draw(list.length)] as T;
  }

  /** Some are likely, so that many records have the same. */
  value(): Json {
    return this.draw(2) ? this.one([0, 1, true, "a", null]) : this.one(VALUES);
  }

  fields(): Fields {
    const some = FIELDS.filter(() => this.draw(3) > 0);
    return Object.fromEntries(["a", ...some].map((field) => [field, this.value()]));
  }

  operators(): Json {
    const operand = this.one(ORDERED) as Json;
    const how = this.draw(8);
    if (how < 3) return { "=": this.value() };
    if (how === 3) return { "!=": this.value() };
    if (how === 4) return { in: [this.value(), this.value()] };
    if (how === 5) return { [this.one([">", ">="])]: operand, [this.one(["<", "<="])]: this.one(ORDERED) };
    return { [this.one(["<", "<=", ">", ">="])]: operand };
  }

  where(): object {
    const some = FIELDS.filter(() => this.draw(3) === 0).map((field) => [field, this.operators()]);
    const all = Object.fromEntries(some) as Fields;
    const how = this.draw(6);
    if (how === 0) return where(all as never, or({ a: 1 } as never, { b: "a" } as never));
    if (how === 1) return where(all as never, not({ b: null } as never), { a: { between: [0, 2] } } as never);
    if (how === 2) return or(all as never, { a: true } as never);
    return all;
  }

  options(rows: readonly Row[]): QueryOptions {
    const terms = FIELDS.filter(() => this.draw(3) === 0).map((field) => (this.draw(2) ? "-" : "") + field);
    return {
      order: (this.draw(2) ? terms : terms.reverse()) as never,
      space: this.one([null, null, null, "s", EVERY_SPACE]),
      deleted: this.draw(6) === 0,
      ...(this.draw(3) ? { limit: this.draw(6) } : {}),
      ...(this.draw(3) ? {} : { offset: this.draw(4) }),
      ...(rows[0] && this.draw(4) === 0 ? { after: this.one(rows) } : {}),
    };
  }

  async write(replica: Replica): Promise<void> {
    const place = { space: this.one([null, null, "s"]), upsert: true };
    const id = `r${this.draw(40)}`;
    const how = this.draw(8);
    if (how === 0) await replica.delete("t", id, place);
    else if (how === 1) await replica.undelete("t", id, place);
    else if (how < 4) await replica.patch("t", id, this.fields(), place);
    else if (how === 4)
      await replica.batch((batch) => {
        for (let n = 0; n < 6; n += 1) batch.put("t", `r${this.draw(40)}`, this.fields(), place);
      });
    else await replica.put("t", id, this.fields(), place);
  }
}

/** Asks the same with and without indexes. Returns whether an index served. */
async function compare(replica: Replica, random: Random, rows: readonly Row[]): Promise<boolean> {
  const [asked, options] = [random.where(), random.options(rows)];
  const query = replica.query("t", asked as never, options);
  const said = `seed ${seeds.last}: ${JSON.stringify([asked, options], plain)}`;
  const [found, expected] = [await query, await bare(query)];
  expect([said, names(found)]).toEqual([said, names(expected)]);
  expect(found).toEqual(expected);
  return explain(query).index !== null;
}

/** What a query has told is what is answered without indexes, with the objects of `before`. */
async function follows(query: Asked, before: ReadonlyMap<string, Row>, said: string): Promise<void> {
  const expected = JSON.stringify(await bare(query), plain);
  await until(said, () => JSON.stringify(query.current, plain) === expected);
  for (const row of query.current ?? []) {
    const old = before.get(names([row])[0] as string);
    if (old) expect(row).toBe(old);
  }
}

describe.each(STORES)("%s", (_name, kept) => {
  it("answers what is answered without indexes, whatever is written and asked", async () => {
    const random = new Random();
    const replica = await open({ ...kept(), indexes: indexes(DECLARED) });
    const served: boolean[] = [];
    for (let n = 0; n < 150; n += 1) {
      await random.write(replica);
      const rows = await replica.query("t");
      for (let m = 0; m < 4; m += 1) served.push(await compare(replica, random, rows));
    }
    expect(served.filter((was) => was).length).toBeGreaterThan(100);
    expect(served.filter((was) => !was).length).toBeGreaterThan(20);
  });

  it("tells subscribers what is told without indexes, and keeps the rows that did not change", async () => {
    const random = new Random();
    const replica = await open({ ...kept(), indexes: indexes(DECLARED) });
    for (let n = 0; n < 60; n += 1) await random.write(replica);
    const rows = await replica.query("t");
    const queries = Array.from({ length: 12 }, () =>
      replica.query("t", random.where() as never, random.options(rows)),
    );
    const stops = queries.map((query) => query.subscribe(() => undefined));
    await until("the first answers", () => queries.every((query) => query.current));
    const written = new Set<string>();
    replica.on((event) => {
      for (const { space, id } of event.kind === "changes" ? event.records : [])
        written.add(`${space}/${id}`);
    });
    for (let n = 0; n < 40; n += 1) {
      const before = queries.map((query) => new Map(query.current?.map((row) => [names([row])[0], row])));
      await random.write(replica);
      for (const rows of before) for (const name of written) rows.delete(name);
      for (const [place, query] of queries.entries())
        await follows(query, before[place] as never, `seed ${seeds.last}: ${place} after ${n}`);
    }
    for (const stop of stops) stop();
  });

  it("is right in the end, however many read and write at once", async () => {
    const random = new Random();
    const replica = await open({ ...kept(), indexes: indexes(DECLARED) });
    for (let n = 0; n < 20; n += 1) {
      const work = Array.from({ length: 6 }, (_, m) =>
        m % 2
          ? random.write(replica)
          : (async () => {
              await replica.query("t", random.where() as never, random.options([]));
            })(),
      );
      await Promise.all(work);
      const rows = await replica.query("t");
      for (let m = 0; m < 6; m += 1) await compare(replica, random, rows);
    }
  });

  it("follows what the server sends under unsent writes, what it refuses, and a space that was left", async () => {
    const script = new Script();
    const at = { url: "http://server/", token: "t", fetch: script.fetch };
    const replica = await open({ ...kept(), ...at, indexes: indexes({ t: ["a"] }) });
    const ids = async (a: Json, space: string | null = null): Promise<string[]> =>
      names(await replica.query("t", { a } as never, { space }));
    await replica.put("t", "own", { a: 1 });
    expect(await ids(1)).toEqual(["null/own"]);
    script.answers.push(
      page(
        [
          wire("own", { a: [2, EARLIER] }),
          wire("x", { a: [1, LATER] }),
          wire("y", { a: [1, LATER] }, { spaceId: "s" }),
        ],
        {
          spaces: { joined: ["s"] },
        },
      ),
    );
    await replica.pull();
    expect([await ids(1), await ids(2), await ids(1, "s")]).toEqual([["null/own", "null/x"], [], ["s/y"]]);
    const [refused] = await replica.pending();
    script.answers.push((body) =>
      page([], {
        results:
          body?.changes.map(({ changeId }) => ({
            changeId,
            status: "rejected",
            code: "rule_refused",
            detail: "no",
          })) ?? [],
        conflicts: [],
        spaces: { left: ["s"] },
      }),
    );
    await replica.push();
    await replica.drop(refused?.changeId as string);
    expect([await ids(1), await ids(2), await ids(1, "s")]).toEqual([["null/x"], ["null/own"], []]);
  });

  it("counts, groups and includes by an index", async () => {
    const replica = await open({ ...kept(), indexes: indexes({ t: ["by"], people: ["city"] }) });
    await replica.put("people", "ann", { city: "Oslo" });
    for (const [id, price] of [
      ["o1", 3],
      ["o2", 4],
    ] as const)
      await replica.put("t", id, { by: "ann", price });
    await replica.put("t", "o3", { by: "bo", price: 9 });
    const orders = replica.query("t", { by: "ann" });
    expect(await aggregate(orders, { n: "count", paid: { sum: "price" } })).toEqual({ n: 2, paid: 7 });
    expect(await groupBy(orders, "price", { n: "count" })).toHaveLength(2);
    const people = include(replica.query("people", { city: "Oslo" }), { orders: { many: orders, by: "by" } });
    expect((await people)[0]?.included.orders.map(({ id }) => id)).toEqual(["o1", "o2"]);
    expect(explain(aggregate(orders, { n: "count" })).index).toEqual(["by"]);
  });
});

const MANY = { t: ["owner", ["done", "due"], "it's"], "'; DROP TABLE records; --": ["n"] };
type Plan = [where: object, options: QueryOptions, index: string[] | null, sorted: boolean, decided: boolean];
it.each<Plan>([
  [{ owner: "ann" }, {}, ["owner"], true, true],
  [{ owner: "ann" }, { order: "due" }, ["owner"], false, false],
  [{ owner: null }, {}, ["owner"], true, true],
  [where({ owner: "ann", title: { contains: "x" } }), {}, ["owner"], true, false],
  [where(or({ title: "x" }), { owner: "ann" }), {}, ["owner"], true, false],
  [where({ owner: { between: ["a", "b"] } }), {}, ["owner"], false, false],
  [where({ owner: { between: ["a", "b"] } }), { order: "-owner" }, ["owner"], true, true],
  [{ done: false, due: { ">=": 5 } }, { order: "due" }, ["done", "due"], true, true],
  [{ done: false }, { order: ["done", "-due"] }, ["done", "due"], true, true],
  [{ done: false }, { order: ["due", "title"] }, ["done", "due"], true, false],
  [{ done: false, due: { "!=": 5 } }, { order: "due" }, ["done", "due"], true, false],
  [{}, { order: "owner", limit: 5 }, ["owner"], true, true],
  [{}, { order: ["done", "-due"], limit: 5 }, ["done", "due"], true, false],
  [{ "it's": 1 }, { space: "s" }, ["it's"], true, true],
  [{ owner: "ann", done: false, due: 1 }, {}, ["done", "due"], true, false],
  [{}, { order: "owner" }, null, false, false],
  [{ due: 1 }, {}, null, false, false],
  [{ title: "x" }, { order: "title", limit: 1 }, null, false, false],
  [{ owner: "ann" }, { space: EVERY_SPACE }, null, false, false],
  [{ owner: "ann" }, { deleted: true }, null, false, false],
  [{ owner: "a\ud800" }, {}, null, false, false],
  [or({ owner: "ann" }, { owner: "bo" }), {}, null, false, false],
  [{ "owner.name": "ann" }, {}, null, false, false],
])("tells which index answers %j, %j", async (asked, options, index, sorted, decided) => {
  const replica = await open({ indexes: indexes(MANY) });
  expect(explain(replica.query("t", asked as never, options))).toEqual({ index, sorted, decided });
});

describe.each(STORES)("%s, by an index", (_name, kept) => {
  it("finds what onMigrate wrote, and asked for", async () => {
    const options = { ...kept(), name: "migrated", indexes: indexes(DECLARED) };
    const before = await open({ ...options, schemaVersion: 1 });
    await before.put("t", "r", { a: "x" });
    if (!before.durable) return expect(await before.query("t", { a: "x" })).toHaveLength(1);
    await before.close();
    const replica = await open({
      ...options,
      schemaVersion: 2,
      onMigrate: async (_from, batch, old) => {
        for (const { id } of await old.query("t", { a: "x" })) batch.patch("t", id, { a: "closed" });
      },
    });
    expect((await replica.query("t", { a: "closed" })).map(({ id }) => id)).toEqual(["r"]);
  });

  it("has the first of them by a field whose values SQLite may not tell apart", async () => {
    const replica = await open({ ...kept(), indexes: indexes({ t: [["price", "name"]] }) });
    const prices = [9223372036854775811n, 9223372036854775810n, 9223372036854775809n];
    for (const [n, price] of prices.entries())
      await replica.put("t", `r${n}`, { price, name: "abc"[n] as string });
    const query = replica.query("t", {}, { order: ["price", "name"], limit: 1 });
    expect(names(await query)).toEqual(names(await bare(query as never)));
  });

  it("goes on behind a record that has other values in the equal fields", async () => {
    const replica = await open({ ...kept(), indexes: indexes({ t: [["done", "price"]] }) });
    for (let n = 0; n < 5; n += 1) {
      await replica.put("t", `d${n}`, { done: true, price: n });
      await replica.put("t", `o${n}`, { done: false, price: n });
    }
    const [, , after] = await replica.query("t", { done: false }, { order: "price" });
    const asked = { order: ["done", "price"], limit: 10, ...(after && { after }) };
    const query = replica.query("t", { done: true }, asked);
    expect(names(await query)).toEqual(names(await bare(query as never)));
    expect(await query).toHaveLength(5);
  });

  it("answers a question that most records fit without reading each by itself", async () => {
    const replica = await open({ ...kept(), indexes: indexes({ t: ["done"] }) });
    await replica.batch((batch) => {
      for (let n = 0; n < 300; n += 1) batch.put("t", `r${n}`, { done: n % 10 > 0 });
    });
    const query = replica.query("t", { done: true });
    await query;
    let asked = 0;
    await query["source"].read(async (tx) => {
      const get = tx.get.bind(tx);
      tx.get = ((...key: Parameters<typeof get>) => {
        asked += Number(key[0] === "records");
        return get(...key);
      }) as typeof tx.get;
      const found = await query["asked"].find?.(tx, new Map(), null);
      expect(found?.size).toBe(270);
    });
    expect(asked).toBe(0);
  });
});

it("tells of none where none is declared", async () => {
  const replica = await open();
  expect(explain(replica.query("t", { owner: "ann" })).index).toBeNull();
  const other = await open({ indexes: indexes(MANY) });
  expect(explain(other.query("others", { owner: "ann" })).index).toBeNull();
  expect(explain(other.query("'; DROP TABLE records; --", { n: 1 })).index).toEqual(["n"]);
  await other.put("'; DROP TABLE records; --", "x", { n: 1 });
  expect(names(await other.query("'; DROP TABLE records; --", { n: 1 }))).toEqual(["null/x"]);
});

it.each([
  { t: ["a.b"] },
  { t: ['a"'] },
  { t: ["a\\"] },
  { t: [""] },
  { t: [[]] },
  { "": ["a"] },
  { t: [["a", ".."]] },
  { t: "a" },
  { t: [1] },
])("refuses what can be no index: %j", (declared) => {
  expect(() => indexes(declared as never)).toThrow(InvalidQuery);
});

it("takes what is asked as it was when it was asked", async () => {
  const replica = await open({ indexes: indexes({ t: ["a"] }) });
  await replica.put("t", "x", { a: 1 });
  const asked = { a: 1 };
  const query = replica.query("t", asked);
  asked.a = 2;
  expect(names(await query)).toEqual(["null/x"]);
});

it.skipIf(ALONE)(
  "answers what another tab has written, once it is told, and at once nothing that is gone",
  async () => {
    const shared = { indexedDB: new IDBFactory(), name: "tabs", indexes: indexes({ t: ["a"] }) };
    const { indexes: _indexes, ...silent } = shared; // its writes leave no word in the store
    const [one, other] = [await open(silent), await open(shared)];
    const told: string[][] = [];
    const query = other.query("t", [], { order: "a", limit: 2 });
    const stop = query.subscribe((rows) => told.push(names(rows)));
    for (const [id, a] of [
      ["x", 1],
      ["y", 2],
      ["z", 3],
    ] as const)
      await one.put("t", id, { a });
    await until("the other tab's", () => told.at(-1)?.join() === "null/x,null/y");
    // Not told to anybody: as if that were still on its way.
    await one["exchange"].parts.device.store.write(async (tx) => {
      const row = (await tx.get("records", ["", "t", "x"])) as RecordRow;
      tx.put("records", { ...row, view: new Map([["a", { value: 9, at: LATER, client: "" }]]) });
    });
    expect(names(await other.query("t", [], { order: "a", limit: 2 }))).toEqual(["null/y", "null/z"]);
    expect(names(await other.query("t", { a: 9 }))).toEqual(["null/x"]);
    stop();
  },
);

it.skipIf(ALONE)("answers what is answered without indexes in each of two tabs", async () => {
  const random = new Random();
  const indexedDB = new IDBFactory();
  const tabs = [];
  for (let n = 0; n < 2; n += 1)
    tabs.push(await open({ indexedDB, name: "random", indexes: indexes(DECLARED) }));
  for (let n = 0; n < 60; n += 1) {
    await random.write(tabs[n % 2] as Replica); // what it tells the other one may still be on its way
    const rows = await (tabs[0] as Replica).query("t");
    for (const tab of tabs) for (let m = 0; m < 3; m += 1) await compare(tab, random, rows);
  }
});
