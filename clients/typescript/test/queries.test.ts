/** Queries, what is counted of them and what they include: the cases of tests/vectors/queries.json, as Python has them. */

import { IDBFactory } from "fake-indexeddb";
import { beforeAll, describe, expect, it } from "vitest";
import { dump, type JsonObject } from "../src/data/values.js";
import { EVERY_SPACE, InvalidQuery, Replica, type Row } from "../src/index.js";
import { indexes } from "../src/indexes/index.js";
import { aggregate, and, groupBy, include, not, or, where } from "../src/queries/index.js";
import { Query } from "../src/query.js";
import { until } from "./devices.js";
import { keptIn } from "./files.js";
import { type Json, vectors } from "./vectors.js";

type Fields = { readonly [field: string]: Json };
interface Asked {
  readonly table: string;
  readonly where?: Json;
  readonly order?: string | string[];
  readonly limit?: number;
  readonly offset?: number;
  /** The id of a record of the table, or a table and an id. */
  readonly after?: string | [table: string, id: string];
  readonly space?: string;
  readonly deleted?: boolean;
}
/** Texts, each followed by how often it stands there. */
type Repeated = readonly (string | number)[];
interface Cases {
  records: { table: string; id: string; fields: Fields; space?: string; deleted?: boolean }[];
  queries: (Asked & { name: string; expect: string[] })[];
  patterns: { name: string; text: Repeated; like: Repeated; holds: boolean }[];
  refused: Partial<Asked>[];
  aggregates: { name: string; query: Asked; measures: JsonObject; by?: string; expect: Json }[];
  refusedAggregates: { measures: JsonObject; by?: string }[];
  includes: { name: string; query: Asked; related: { [name: string]: JsonObject }; expect: Json }[];
}

const CASES = vectors<Cases>("queries");
const DECLARED = {
  kinds: ["x", "n", ["x", "n"]],
  tasks: ["owner", ["done", "priority"], "priority", "title", "deletedAt"],
};
let replica: Replica;

beforeAll(async () => {
  const indexed = { ...keptIn(new IDBFactory()), indexes: indexes(DECLARED) };
  replica = await Replica.open("queries", { app: "app", ...indexed, durability: "normal" });
  for (const { table, id, fields, deleted, space = null } of CASES.records) {
    await replica.put(table, id, fields, { space });
    if (deleted) await replica.delete(table, id, { space });
  }
});

/** A list that begins with a word is what that word makes of the rest. */
function condition(asked: Json): never {
  if (!Array.isArray(asked) || typeof asked[0] !== "string") return where(asked as never) as never;
  const [word, ...rest] = asked as [string, ...Json[]];
  const parts = rest.map(condition);
  return (word === "not" ? not(parts[0] as never) : (word === "or" ? or : and)(...parts)) as never;
}

/** In a list: what is awaited would become its answer. */
async function ask(asked: Asked): Promise<[Query<Fields>]> {
  const space = asked.space === "*" ? EVERY_SPACE : (asked.space ?? null);
  const { order, limit, offset, deleted } = asked;
  const own = { space: space === EVERY_SPACE ? null : space, deleted: true };
  const [from, id] = typeof asked.after === "string" ? [asked.table, asked.after] : (asked.after ?? []);
  const after = from && id ? await replica.get(from, id, own) : null;
  const given = Object.entries({ order, limit, offset, deleted }).filter(([, value]) => value !== undefined);
  const options = { space, after, ...Object.fromEntries(given) };
  return [replica.query(asked.table, condition(asked.where ?? []), options)];
}

it.each(CASES.queries)("answers: $name", async ({ expect: expected, name: _name, ...asked }) => {
  const [query] = await ask(asked);
  const { find: _find, ...bare } = query["asked"];
  expect((await query).map(({ id }) => id)).toEqual(expected);
  expect((await new Query(query["source"], bare)).map(({ id }) => id)).toEqual(expected);
});

function repeated(parts: Repeated): string {
  return parts.map((text, at) => (at % 2 ? "" : `${text}`.repeat(Number(parts[at + 1] ?? 1)))).join("");
}

it.each(CASES.patterns)("is of a pattern, in time: $name", ({ text, like, holds }) => {
  const asked = where({ x: { like: repeated(like) } } as never);
  const value = repeated(text);
  const started = performance.now();
  expect(asked(() => value)).toBe(holds);
  expect(performance.now() - started).toBeLessThan(2000);
});

it.each(CASES.refused)("refuses what is no query: %j", async (asked) => {
  await expect(ask({ table: "tasks", ...asked })).rejects.toThrow(InvalidQuery);
});

/** With its members in order. */
function sorted(value: Json): Json {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const members = Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1));
  return Object.fromEntries(members.map(([name, part]) => [name, sorted(part)]));
}

it.each(CASES.aggregates)("comes to: $name", async ({ query: asked, measures, by, expect: expected }) => {
  const [query] = await ask(asked);
  const found = await (by === undefined
    ? aggregate(query, measures as never)
    : groupBy(query, by, measures as never));
  expect(dump(sorted(found as unknown as Json))).toBe(dump(sorted(expected)));
});

it.each(CASES.refusedAggregates)("refuses what is no measure: %j", ({ measures, by }) => {
  const query = replica.query("kinds");
  expect(() => (by ? groupBy(query, by, measures as never) : aggregate(query, measures as never))).toThrow(
    InvalidQuery,
  );
});

function said(related: unknown): Json {
  return Array.isArray(related) ? related.map(said) : ((related as Row | null)?.id ?? null);
}

it.each(CASES.includes)("includes: $name", async ({ query: asked, related, expect: expected }) => {
  const given: { [name: string]: object } = {};
  for (const [name, { one, many, ...how }] of Object.entries(related)) {
    const [of] = await ask((one ?? many) as unknown as Asked);
    given[name] = { ...how, ...(one ? { one: of } : { many: of }) };
  }
  const [query] = await ask(asked);
  const rows: readonly { id: string; included: object }[] = await include(query, given as never);
  const found = rows.map(({ id, included }) => {
    return { id, ...Object.fromEntries(Object.entries(included).map(([name, one]) => [name, said(one)])) };
  });
  expect(found).toEqual(expected);
});

it.each([{}, { one: 1, by: "x" }, { by: "x" }, { many: [], by: "x" }])(
  "refuses what is related to nothing: %j",
  (how) => {
    expect(() => include(replica.query("tasks"), { name: how } as never)).toThrow(InvalidQuery);
    const people = replica.query("people");
    for (const wrong of [
      { one: people },
      { one: people, many: people, by: "x" },
      { many: people, by: "x", limit: -1 },
      { many: people, by: "x", limit: 1.5 },
      { many: people, by: "x", limit: true },
      { many: people, by: "x", order: "x" },
    ])
      expect(() => include(replica.query("tasks"), { name: wrong } as never)).toThrow(InvalidQuery);
  },
);

describe("pages", () => {
  const orders = ["x", "-x", ["x", "-n"], ["-x", "n"], "n", "-missing", "x.k", "-x.k", 'x"'];
  it.each(orders.map((order) => [order]))("make up the whole in the order %j", async (order) => {
    const whole = await replica.query("kinds", [], { order });
    for (const limit of [1, 4, 30]) {
      const found: Row[] = [];
      for (;;) {
        const after = found.at(-1) ?? null;
        const page = await replica.query("kinds", [], { order, limit, after });
        if (page.length === 0) break;
        found.push(...page);
      }
      expect(found.map(({ id }) => id)).toEqual(whole.map(({ id }) => id));
    }
  });
});

describe("a condition", () => {
  it("says what it is, so that one is compared with another", () => {
    const tags = ["a"];
    const one = or({ n: 1n }, where({ "a.b": { like: "x%" } }, not({ tags: { in: [tags] } })));
    tags.push("b");
    expect(dump([one] as unknown as Json)).toBe(
      '[{"or":[{"n":1},[{"a.b":{"like":"x%"}},{"not":{"tags":{"in":[["a"]]}}}]]}]',
    );
    expect(one((path) => (path === "a.b" ? "xy" : path === "tags" ? ["a"] : null))).toBe(false);
    expect(one((path) => (path === "a.b" ? "xy" : path === "tags" ? ["b"] : null))).toBe(true);
  });

  it("may look for text that no record holds", async () => {
    const long = "\0abc1234567890123456";
    expect(or({ x: long }, { n: 9007199254740993n }).toJSON()).toEqual({
      or: [{ x: long }, { n: 9007199254740993n }],
    });
  });

  it("is nested a hundred deep at most", () => {
    const nested = (times: number, make: (part: never) => unknown): unknown => {
      let all: unknown = { n: 3 };
      for (let n = 0; n < times; n++) all = make(all as never);
      return all;
    };
    for (const make of [not, or, and]) {
      expect(nested(100, make)).toBeTypeOf("function");
      expect(() => nested(101, make)).toThrow(InvalidQuery);
    }
  });

  it("is a list, an object or what where, or and not make", () => {
    for (const wrong of [
      false,
      true,
      5,
      "",
      "n",
      null,
      new Date(0),
      new Map(),
      [5],
      ["abc"],
      [null],
      [{ n: 1 }],
    ])
      expect(() => replica.query("t", wrong as never)).toThrow(InvalidQuery);
  });

  it("is no value that is not JSON", () => {
    const wrong = [Number.NaN, undefined, new Date(0), () => 1, Symbol("x"), { "=": new Map() }, [Infinity]];
    for (const value of wrong) expect(() => replica.query("t", { n: value } as never)).toThrow(InvalidQuery);
    expect(() => replica.query("t", { title: { contains: "x" } } as never)).toThrow(InvalidQuery);
  });
});

describe("what is subscribed to", () => {
  async function fresh(): Promise<Replica> {
    return Replica.open("live", { app: "app", ...keptIn(null), durability: "normal" });
  }

  it("is counted again where it changes, and told once for each answer", async () => {
    const own = await fresh();
    const told: Json[] = [];
    const stop = groupBy(own.query("tasks"), "owner", { open: "count", hours: { sum: "hours" } }).subscribe(
      (found) => told.push(found as unknown as Json),
    );
    await until("it is told", () => told.length === 1);
    await own.put("tasks", "a", { owner: "ann", hours: 1 });
    await own.put("other", "a", { owner: "ann", hours: 1 });
    await until("it is told", () => told.length === 2);
    await own.patch("tasks", "a", { title: "of no account" });
    await own.patch("tasks", "a", { hours: 2 });
    await until("it is told", () => told.length === 3);
    expect(told).toEqual([[], [{ by: "ann", open: 1, hours: 1 }], [{ by: "ann", open: 1, hours: 2 }]]);
    stop();
    await own.close();
  });

  it("has what it includes, whichever of them changes", async () => {
    const own = await fresh();
    const told: string[] = [];
    const related = {
      owner: { one: own.query("people"), by: "owner" },
      comments: { many: own.query("comments", [], { order: "-at" }), by: "task" },
    } as const;
    const stop = include(own.query("tasks"), related).subscribe((rows) =>
      told.push(
        rows
          .map(({ id, included }) => `${id} ${included.owner?.fields.name} ${included.comments.length}`)
          .join(),
      ),
    );
    await until("it is told", () => told.length === 1);
    await own.put("tasks", "a", { owner: "ann" });
    await until("it is told", () => told.length === 2);
    await own.put("people", "ann", { name: "Ann" });
    await until("it is told", () => told.length === 3);
    await own.put("comments", "c", { task: "a", at: 1 });
    await until("it is told", () => told.length === 4);
    await own.delete("people", "ann");
    await until("it is told", () => told.length === 5);
    expect(told).toEqual(["", "a undefined 0", "a Ann 0", "a Ann 1", "a undefined 1"]);
    stop();
    await own.close();
  });
});
