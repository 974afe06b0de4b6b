/** Search: the cases of tests/vectors/search.json, as Python has them, and an index that is never behind its records. */

import { IDBFactory } from "fake-indexeddb";
import { beforeAll, describe, expect, it } from "vitest";
import { askedWords, rankOf, textsAt, wordsOf } from "../src/data/searched.js";
import { EVERY_SPACE, type Json, Replica, type ReplicaOptions, type Row } from "../src/index.js";
import { type SearchOptions, search } from "../src/search/index.js";
import { SmallIndex } from "../src/search/small.js";
import type { RecordRow } from "../src/store/store.js";
import { open, until } from "./devices.js";
import { ALONE, keptIn } from "./files.js";
import { page, Script, wire } from "./script.js";
import { vectors } from "./vectors.js";

type Fields = { readonly [field: string]: Json };
interface Cases {
  search: { [table: string]: string[] };
  records: { table: string; id: string; fields: Fields; space?: string; deleted?: boolean }[];
  words: { text: string; words: string[] }[];
  asks: {
    name: string;
    table: string;
    text: string;
    space?: string;
    limit?: number | null;
    expect: (string | [string | null, string])[];
  }[];
}
const CASES = vectors<Cases>("search");
const LATER = "2030-01-01T00:00:00.000000Z";
const SEARCH = { t: ["title", "body"] };

async function filled(how: Partial<ReplicaOptions>, later = false): Promise<Replica> {
  const options = { app: "app", durability: "normal" as const, ...how };
  const name = `search-${later}`;
  const replica = await Replica.open(name, { ...options, ...(later ? {} : { search: CASES.search }) });
  for (const { table, id, fields, deleted, space = null } of CASES.records) {
    await replica.put(table, id, fields, { space });
    if (deleted) await replica.delete(table, id, { space });
  }
  if (!later) return replica;
  await replica.close();
  return Replica.open(name, { ...options, search: CASES.search });
}

it.each(CASES.words)("has the words of $text", ({ text, words }) => {
  expect(wordsOf(text)).toEqual(words);
});

const KINDS: [string, () => Promise<Replica>][] = [
  ["declared at once", () => filled(keptIn(new IDBFactory()))],
  ["declared later", () => filled(keptIn(new IDBFactory()), true)],
];
if (!ALONE) KINDS.push(["in memory", () => filled({ indexedDB: null })]);

describe.each(KINDS)("%s", (_name, make) => {
  let replica: Replica;
  beforeAll(async () => {
    replica = await make();
    return () => replica.close();
  });

  it.each(CASES.asks)("finds, best first: $name", async (asked) => {
    const every = asked.space === "*";
    const options: SearchOptions = {
      space: every ? EVERY_SPACE : (asked.space ?? null),
      ...(asked.limit === undefined ? {} : { limit: asked.limit }),
    };
    const rows = await search(replica, asked.table, asked.text, options);
    expect(rows.map(({ space, id }) => (every ? [space, id] : id))).toEqual(asked.expect);
  });
});

async function ids(replica: Replica, text: string, options?: SearchOptions): Promise<string[]> {
  return (await search(replica, "t", text, options)).map(({ id }) => id);
}

it("finds an edit by its new words, and not by its old ones", async () => {
  const replica = await open({ search: SEARCH });
  await replica.put("t", "a", { title: "red apple", body: "pear" });
  expect(await ids(replica, "red")).toEqual(["a"]);
  await replica.patch("t", "a", { title: "green apple" });
  expect([await ids(replica, "red"), await ids(replica, "green"), await ids(replica, "pear")]).toEqual([
    [],
    ["a"],
    ["a"],
  ]);
});

it("finds a deleted record no more, until it is back", async () => {
  const replica = await open({ search: SEARCH });
  await replica.put("t", "a", { title: "red apple" });
  expect(await ids(replica, "apple")).toEqual(["a"]);
  await replica.delete("t", "a");
  expect(await ids(replica, "apple")).toEqual([]);
  await replica.undelete("t", "a");
  expect(await ids(replica, "apple")).toEqual(["a"]);
});

it("finds nothing of a batch that failed", async () => {
  const replica = await open({ search: SEARCH });
  expect(await ids(replica, "apple")).toEqual([]);
  const batch = replica.batch((batch) => {
    batch.put("t", "a", { title: "apple" });
    batch.patch("t", "none", { title: "apple" });
  });
  await expect(batch).rejects.toThrow("none");
  expect(await ids(replica, "apple")).toEqual([]);
});

it("finds what the server sends, and nothing of a space that was left or of what was erased", async () => {
  const script = new Script();
  const replica = await open({ search: SEARCH, url: "http://server/", token: "t", fetch: script.fetch });
  const shared = wire("a", { title: ["red apple", LATER] }, { spaceId: "s" });
  const own = wire("b", { title: ["red quince", LATER], body: ["kept", LATER] });
  script.answers.push(page([shared, own], { spaces: { joined: ["s"] } }));
  await replica.pull();
  expect([await ids(replica, "apple", { space: "s" }), await ids(replica, "apple")]).toEqual([["a"], []]);
  expect(await ids(replica, "red", { space: EVERY_SPACE })).toEqual(["a", "b"]);
  const erased = wire("b", {}, { fields: { title: { value: null, at: LATER, erased: LATER } } });
  script.answers.push(page([erased], { spaces: { left: ["s"] } }));
  await replica.pull();
  expect(await ids(replica, "apple", { space: EVERY_SPACE })).toEqual([]);
  expect([await ids(replica, "quince"), await ids(replica, "kept")]).toEqual([[], ["b"]]);
});

it("goes on, and tells what is found each time that it changes", async () => {
  const replica = await open({ search: SEARCH });
  const told: string[][] = [];
  const stop = search(replica, "t", "app").subscribe((rows) => told.push(rows.map(({ id }) => id)));
  await until("the first answer", () => told.length === 1);
  await replica.put("t", "b", { title: "apple" });
  await until("what was written", () => told.length === 2);
  await replica.put("other", "x", { title: "apple" });
  await replica.put("t", "x", { title: "apple" }, { space: "s" });
  await replica.put("t", "a", { title: "app" });
  await until("what is better", () => told.length === 3);
  await replica.delete("t", "b");
  await until("what is gone", () => told.length === 4);
  stop();
  expect(told).toEqual([[], ["b"], ["a", "b"], ["a"]]);
});

it("leaves others half of the time where changes come all the time", async () => {
  const replica = await open({ search: SEARCH });
  const found = search(replica, "t", "app") as unknown as {
    now(): Promise<object[]>;
    subscribe(listener: () => void): () => void;
  };
  const searched: { began: number; ended: number }[] = [];
  found.now = async () => {
    const began = performance.now();
    if (searched.length < 2) await replica.put("t", `a${searched.length}`, { title: "apple" });
    await new Promise((later) => setTimeout(later, 100));
    searched.push({ began, ended: performance.now() });
    return [];
  };
  const stop = found.subscribe(() => undefined);
  await until("some searches", () => searched.length > 2);
  stop();
  const pauses = searched.slice(1).map(({ began }, n) => began - (searched[n]?.ended as number));
  for (const pause of pauses) expect(pause).toBeGreaterThan(90);
});

it.skipIf(ALONE)("finds what another tab has written, and at once nothing that it has deleted", async () => {
  const shared = { indexedDB: new IDBFactory(), name: "tabs", search: SEARCH };
  const [one, other] = [await open(shared), await open(shared)];
  await one.put("t", "a", { title: "red apple" });
  await one.put("t", "b", { title: "red apple" });
  await until("the other tab's", async () => (await ids(other, "apple")).length === 2);
  // Not told to anybody: as if that were still on its way.
  await one["exchange"].parts.device.store.write(async (tx) => {
    const row = (await tx.get("records", ["", "t", "a"])) as RecordRow;
    tx.put("records", { ...row, view: new Map([["title", { value: "red pear", at: LATER, client: "" }]]) });
    tx.delete("records", ["", "t", "b"]);
  });
  expect(await ids(other, "apple")).toEqual([]);
  expect(await ids(other, "pear")).toEqual(["a"]);
  await one.put("t", "c", { title: "green apple" });
  await until("what it is told", async () => (await ids(other, "apple")).join() === "c");
});

it("finds the same after it was opened again, and by other fields", async () => {
  const indexedDB = new IDBFactory();
  const shared = { indexedDB, name: "again", ...keptIn(indexedDB) };
  const first = await open({ ...shared, search: { t: ["title"], u: ["title"] } });
  await first.put("t", "a", { title: "apple", body: "pear" });
  expect([await ids(first, "apple"), await ids(first, "pear")]).toEqual([["a"], []]);
  await first.close();
  const silent = await open(shared);
  await silent.put("t", "b", { title: "pear" });
  await silent.close();
  const second = await open({ ...shared, search: SEARCH });
  expect([await ids(second, "apple"), await ids(second, "pear")]).toEqual([["a"], ["b", "a"]]);
  expect(() => search(second, "u", "apple")).toThrow("no search of u is declared");
});

it("refuses what cannot be searched", async () => {
  const replica = await open({ search: SEARCH });
  expect(() => search(replica, "t", 1 as never)).toThrow("what is searched for is text");
  expect(() => search(replica, "t", "a", { limit: -1 })).toThrow("limit");
  expect(() => search(replica, "t", "a", { limit: 1.5 })).toThrow("limit");
  await expect((async () => search(await open(), "t", "a"))()).rejects.toThrow("search: { t: [fields] }");
});

const FEW = Array.from({ length: 17 }, (_, n) => `f${n}`);
it.each([[[]], ["title"], [["a", "a"]], [[""]], [[1]], [[["a"]]], [FEW]])(
  "declares nothing of %j",
  async (fields) => {
    const declared = (async () => {
      const replica = await open({ search: { t: fields as never } });
      return search(replica, "t", "a");
    })();
    await expect(declared).rejects.toThrow();
  },
);

/** The rule, once more and slowly: every record is looked at. */
function ranked(rows: readonly Row[], text: string): string[] {
  const asked = askedWords(text);
  const found = rows.flatMap(({ id, fields }) => {
    const words = textsAt((field) => fields[field] as Json, SEARCH.t).map((text) =>
      text.split(" ").filter((word) => word),
    );
    let [points, hits] = [0, 0];
    for (const { word, begins } of asked) {
      const fits = (held: string): boolean => (begins ? held.startsWith(word) : held === word);
      const places = words.flatMap((some, n) =>
        some.filter(fits).map((held) => 2 * (words.length - n) + Number(held === word)),
      );
      if (!places[0]) return [];
      points += Math.max(...places);
      hits += places.length;
    }
    return asked[0] ? [{ id, points, hits }] : [];
  });
  const order = (one: (typeof found)[0], other: (typeof found)[0]): number =>
    other.points - one.points || other.hits - one.hits || (one.id < other.id ? -1 : 1);
  return found.sort(order).map(({ id }) => id);
}

it("finds by the rule, whatever is written and asked", async () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  console.log(`seed ${seed}`);
  let state = seed;
  const draw = (most: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >> 8) % most;
  };
  const words = ["a", "ab", "abc", "b", "ba", "東", "東京", "é", "x".repeat(64), "x".repeat(70), "12"];
  const text = (most: number): string =>
    Array.from({ length: draw(most + 1) }, () => words[draw(words.length)]).join(" ");
  const replica = await open({ search: SEARCH });
  for (let n = 0; n < 120; n += 1) {
    const id = `r${draw(30)}`;
    const how = draw(6);
    if (how === 0) await replica.delete("t", id, { upsert: true });
    else if (how === 1)
      await replica.patch(
        "t",
        id,
        { [["title", "body", "other"][draw(3)] as string]: text(5) },
        { upsert: true },
      );
    else await replica.put("t", id, { title: text(3), body: [text(4), text(2)] });
    const asked = text(3);
    expect([asked, await ids(replica, asked, { limit: null })]).toEqual([
      asked,
      ranked(await replica.query("t"), asked),
    ]);
  }
});

it("ranks a record that has not all words as none", () => {
  expect(rankOf([" red ", " apple  apples "], askedWords("red apple"))).toEqual([5 + 3, 1 + 2]);
  expect(rankOf([" red ", ""], askedWords("red apple"))).toBeUndefined();
});

it("leaves nothing of a word in an index that no record has", () => {
  const index = new SmallIndex(["n"]);
  const row = { space: "", table: "t", id: "a", deleted: false, round: 0, base: null };
  const view = (value: string) => new Map([["n", { value, at: LATER, client: "" }]]);
  expect(index.set(["", "t", "a"], { ...row, view: view("red apple") })).toBe(true);
  expect(index.set(["", "t", "a"], { ...row, view: view("Red  apple!") })).toBe(false);
  expect(index.find("", askedWords("ap"), 9)).toEqual([["", "t", "a"]]);
  expect(index.set(["", "t", "a"], undefined)).toBe(true);
  expect([index.find(null, askedWords("ap"), 9), index.find(null, askedWords("red apple"), 9)]).toEqual([
    [],
    [],
  ]);
});
