/** The replica on its own: writing, reading, queues, subscriptions, and what may happen to its store. */

import { IDBFactory } from "fake-indexeddb";
import { describe, expect, it } from "vitest";
import {
  BatchTooLarge,
  EVERY_SPACE,
  InvalidQuery,
  InvalidWrite,
  type Json,
  type Replica,
  WrongReplica,
} from "../src/index.js";
import { open, until } from "./devices.js";
import { ALONE } from "./files.js";

const NOON = Date.parse("2026-01-01T12:00:00Z");

describe("writing", () => {
  it("shows a write at once and queues it", async () => {
    const replica = await open({ wall: () => NOON });
    const changeId = await replica.put("t", "a", { title: "x", done: false });
    expect(await replica.get("t", "a")).toEqual({
      space: null,
      table: "t",
      id: "a",
      deletedAt: null,
      fields: { title: "x", done: false },
    });
    const [queued] = await replica.pending();
    expect(queued).toMatchObject({ changeId, table: "t", id: "a", space: null, state: "pending" });
    const at = "2026-01-01T12:00:00.000000Z";
    expect(queued?.change).toEqual({
      changeId,
      table: "t",
      id: "a",
      op: "insert",
      fields: { title: { value: "x", at }, done: { value: false, at }, deletedAt: { value: null, at } },
    });
    expect((await replica.why("t", "a")).state).toBe("waiting");
  });

  it("says who acts as it was when the replica was opened", async () => {
    const actor = { by: ["me"] };
    const replica = await open({ actor });
    actor.by.push("somebody else");
    await replica.put("t", "a", { n: 1 });
    expect((await replica.pending())[0]?.change.actor).toEqual({ by: ["me"] });
  });

  it.each([Number.NaN, new Date(0), { at: undefined }])(
    "refuses an actor that is no JSON: %s",
    async (actor) => {
      await expect(open({ actor: actor as unknown as Json })).rejects.toThrow(InvalidWrite);
    },
  );

  it("refuses an actor that has no end", async () => {
    const actor: { [name: string]: unknown } = {};
    actor.self = actor;
    await expect(open({ actor: actor as Json })).rejects.toThrow(InvalidWrite);
  });

  it("deletes and brings back", async () => {
    const replica = await open();
    await replica.put("t", "a", { n: 1 });
    await replica.delete("t", "a");
    expect(await replica.get("t", "a")).toBeNull();
    expect((await replica.get("t", "a", { deleted: true }))?.deletedAt).toMatch(/^2/);
    await replica.patch("t", "a", { m: 2 });
    expect(await replica.get("t", "a")).toBeNull();
    await replica.undelete("t", "a");
    expect((await replica.get("t", "a"))?.fields).toEqual({ n: 1, m: 2 });
  });

  it("stamps what one millisecond holds in order", async () => {
    const replica = await open({ wall: () => NOON });
    for (const n of [1, 2, 3]) await replica.patch("t", "a", { n }, { upsert: true });
    const stamps = (await replica.pending()).map(
      ({ change }) => (change.fields as { n: { at: string } }).n.at,
    );
    expect(stamps.map((at) => at.slice(-4))).toEqual(["000Z", "001Z", "002Z"]);
  });

  it("keeps a batch together, or writes nothing of it", async () => {
    const replica = await open({ limits: { pushChanges: 2 } });
    await replica.batch((batch) => {
      batch.put("t", "a", { n: 1 });
      batch.patch("t", "b", { n: 2 }, { upsert: true });
    });
    const [one, other] = await replica.pending();
    expect(one?.batch).toBe(other?.batch);
    const large = replica.batch((batch) => {
      for (const id of ["x", "y", "z"]) batch.put("t", id, { n: 1 });
    });
    await expect(large).rejects.toThrow(BatchTooLarge);
    const torn = replica.batch((batch) => {
      batch.put("t", "x", { n: 1 });
      throw new Error("changed my mind");
    });
    await expect(torn).rejects.toThrow("changed my mind");
    expect(await replica.query("t")).toHaveLength(2);
  });

  const cyclic: { self?: object } = {};
  cyclic.self = cyclic;
  it.each<[string, unknown]>([
    ["NaN", Number.NaN],
    ["infinity", Number.POSITIVE_INFINITY],
    ["undefined", undefined],
    ["a function", () => 1],
    ["a date", new Date()],
    ["a map", { a: [new Map()] }],
    ["a cycle", cyclic],
    ["U+0000", "a\0b"],
    ["a lone surrogate", { k: "\ud800" }],
    ["a lone surrogate as a key", { "\udc00": 1 }],
    ["a number beyond a double", 10n ** 400n],
  ])("refuses %s at once and names the field", async (_name, value) => {
    const replica = await open();
    const writing = replica.put("t", "a", { good: 1, title: value as Json });
    await expect(writing).rejects.toThrow(InvalidWrite);
    await expect(writing).rejects.toMatchObject({ field: "title", code: "invalid_write" });
    expect(await replica.pending()).toEqual([]);
  });

  it("opens though what a migration wrote is too large, which the server refuses", async () => {
    const shared = { name: "grown", indexedDB: new IDBFactory() };
    await (await open({ ...shared, schemaVersion: 1 })).close();
    const onMigrate = (
      _: number,
      writes: { put(table: string, id: string, fields: object): unknown },
    ): void => {
      writes.put("t", "large", { photo: "x".repeat(1_200_000) });
    };
    const replica = await open({ ...shared, schemaVersion: 2, onMigrate });
    expect((await replica.pending()).length).toBe(1);
  });

  it("refuses a change at once that the server would find too large", async () => {
    const replica = await open();
    const photo = replica.put("t", "a", { title: "x", photo: "é".repeat(600_000) });
    await expect(photo).rejects.toMatchObject({ field: "photo", code: "invalid_write" });
    // Two that are not too large each are named as what they are.
    const pair = replica.put("t", "a", { note: "x".repeat(600_000), text: "x".repeat(700_000) });
    await expect(pair).rejects.toMatchObject({
      field: "text",
      message: "text makes it longer than 1048576.",
    });
    const batch = replica.batch((writes) => {
      writes.put("t", "small", { n: 1 });
      writes.put("t", "large", { photo: "x".repeat(1_200_000) });
    });
    await expect(batch).rejects.toThrow(InvalidWrite);
    expect([await replica.pending(), await replica.query("t")]).toEqual([[], []]);
    await replica.put("t", "a", { photo: "x".repeat(1_000_000) });
    const changeBytes = JSON.stringify((await replica.pending())[0]?.change).length;
    const exact = await open({ limits: { changeBytes } });
    await exact.put("t", "a", { photo: "x".repeat(1_000_000) });
    await expect(exact.put("t", "a", { photo: "x".repeat(1_000_001) })).rejects.toThrow(InvalidWrite);
  });

  it.each(["", "x".repeat(256), "a\nb", "\x7f", "\x85", "\ud800", ".", ".."])(
    "refuses the id %j",
    async (id) => {
      const replica = await open();
      await expect(replica.put("t", id, { n: 1 })).rejects.toThrow(InvalidWrite);
    },
  );

  it("keeps values as they are, and its own copy of them", async () => {
    const replica = await open();
    const value = {
      list: [1, null, { deep: "\u{1f600}\u2028" }],
      big: 9007199254740993n,
      same: 5n,
      tiny: 5e-324,
    };
    await replica.put("t", "a", { value, ["__proto__"]: 1 });
    value.list.push(2);
    const fields = (await replica.get("t", "a"))?.fields;
    expect(fields?.value).toEqual({ ...value, list: [1, null, { deep: "\u{1f600}\u2028" }], same: 5 });
    expect(Object.keys(fields ?? {})).toEqual(["value", "__proto__"]);
    expect((await replica.pending())[0]?.change.fields).toMatchObject({
      value: { value: { big: 9007199254740993n } },
    });
  });
});

describe("queries", () => {
  async function filled(): Promise<Replica> {
    const replica = await open();
    const rows: { [id: string]: Json } = {
      a: 1,
      b: 2.5,
      c: "x",
      d: null,
      e: true,
      f: "\u{1f600}",
      g: "\uffff",
      h: [1],
    };
    for (const [id, v] of Object.entries(rows)) await replica.put("t", id, { v, n: id.charCodeAt(0) });
    await replica.put("t", "shared", { v: 1 }, { space: "s" });
    await replica.put("t", "gone", { v: 1 });
    await replica.delete("t", "gone");
    return replica;
  }

  it("finds by conditions", async () => {
    const replica = await filled();
    const found = async (where: object): Promise<string> =>
      (await replica.query("t", where)).map(({ id }) => id).join("");
    expect(await found({ v: 1 })).toBe("a");
    expect(await found({ v: true })).toBe("e");
    expect(await found({ v: null })).toBe("d");
    expect(await found({ missing: null })).toBe("abcdefgh");
    expect(await found({ v: [1] })).toBe("h");
    expect(await found({ v: { ">=": 1 } })).toBe("ab");
    expect(await found({ n: { ">": 97, "<=": 99 } })).toBe("bc");
    expect(await found([["v", ">", "x"]])).toBe("fg");
    expect(await found({ v: { in: ["x", true] } })).toBe("ce");
    expect(await found([["v", "!=", 1]])).toBe("bcdefgh");
    expect(() => replica.query("t", [["v", "~" as "=", 1]])).toThrow(InvalidQuery);
    expect(() => replica.query("t", { v: { "<": null } } as object)).toThrow(InvalidQuery);
    for (const wrong of ["", ".", "..", "a\u0000", "x".repeat(256), 7 as unknown as string]) {
      expect(() => replica.get(wrong, "r")).toThrow(InvalidQuery);
      expect(() => replica.get("t", wrong)).toThrow(InvalidQuery);
      expect(() => replica.query(wrong)).toThrow(InvalidQuery);
      await expect(replica.why("t", wrong)).rejects.toThrow(InvalidQuery);
      await expect(replica.registers(wrong, "r")).rejects.toThrow(InvalidQuery);
    }
    expect(() => replica.query("t", [["v", "in", 1]])).toThrow(InvalidQuery);
  });

  it("orders null, numbers, texts by code point, and pages", async () => {
    const replica = await filled();
    const ids = async (options: object): Promise<string[]> =>
      (await replica.query("t", [], options)).map(({ id }) => id);
    expect((await ids({ order: "v" })).join("")).toBe("daebcgfh");
    expect((await ids({ order: "-v" })).join("")).toBe("hfgcbaed");
    expect((await ids({ order: ["-n"], limit: 2, offset: 1 })).join("")).toBe("gf");
    expect(await ids({ space: "s" })).toEqual(["shared"]);
    expect(await ids({ space: EVERY_SPACE })).toHaveLength(9);
    expect(await ids({ deleted: true })).toContain("gone");
  });

  it("are answered again when something changes, and keep the rows that did not", async () => {
    const replica = await open();
    await replica.put("t", "a", { n: 1 });
    await replica.put("t", "b", { n: 2 });
    const answers: (readonly { id: string }[])[] = [];
    const query = replica.query("t", { n: { ">": 0 } }, { order: "n", limit: 2 });
    const stop = query.subscribe((rows) => answers.push(rows));
    await until("the first answer", () => answers.length === 1);
    await replica.put("other", "x", { n: 1 });
    await replica.patch("t", "b", { n: 3 });
    await until("the second answer", () => answers.length === 2);
    expect(answers[1]?.[0]).toBe(answers[0]?.[0]);
    expect(query.current).toBe(answers[1]);
    await replica.put("t", "c", { n: 2 });
    await until("the third answer", () => answers.length === 3);
    expect(answers[2]?.map(({ id }) => id)).toEqual(["a", "c"]);
    await replica.delete("t", "a");
    await until(
      "the fourth answer",
      () =>
        answers
          .at(-1)
          ?.map(({ id }) => id)
          .join("") === "cb",
    );
    stop();
    await replica.delete("t", "c");
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(answers).toHaveLength(4);
    const again: number[] = [];
    query.subscribe((rows) => again.push(rows.length));
    await until("a new subscriber is told", () => again.length === 1);
    query.subscribe((rows) => again.push(rows.length));
    await until("a second one too, with the same answer", () => again.length === 2);
    expect(again).toEqual([1, 1]);
  });

  it("of one record and of the status too", async () => {
    const replica = await open();
    const seen: unknown[] = [];
    replica.get("t", "a").subscribe((row) => seen.push(row?.fields.n ?? null));
    replica.status().subscribe(({ pending, synced }) => seen.push([pending, synced]));
    await until("nothing yet", () => seen.length === 2);
    await replica.put("t", "a", { n: 1 });
    await until("told", () => seen.length === 4);
    expect(seen).toEqual(expect.arrayContaining([null, [0, true], 1, [1, false]]));
  });
});

describe("the store", () => {
  it("is found again, with its queue and its clock", async () => {
    const indexedDB = new IDBFactory();
    let now = NOON;
    const before = await open({ name: "kept", indexedDB, wall: () => now });
    await before.put("t", "a", { n: 1 });
    const { clientId } = before;
    await before.close();
    now -= 3_600_000;
    const after = await open({ name: "kept", indexedDB, wall: () => now });
    expect(after.clientId).toBe(clientId);
    await after.patch("t", "a", { n: 2 });
    const stamps = (await after.pending()).map(({ change }) => (change.fields as { n: { at: string } }).n.at);
    expect(stamps).toEqual([
      "2026-01-01T12:00:00.000000Z",
      "2026-01-01T12:00:00.001000Z".replace("1000", "0001"),
    ]);
  });

  it("belongs to one app and one device", async () => {
    const indexedDB = new IDBFactory();
    await (await open({ name: "mine", indexedDB, clientId: "c1" })).close();
    await expect(open({ name: "mine", indexedDB, app: "another" })).rejects.toThrow(WrongReplica);
    await expect(open({ name: "mine", indexedDB, clientId: "c2" })).rejects.toThrow(WrongReplica);
  });

  it.skipIf(ALONE)("is in memory where there is no IndexedDB, and says so", async () => {
    const replica = await open({ indexedDB: null });
    expect(replica.durable).toBe(false);
    await replica.put("t", "a", { n: 1 });
    await expect(replica.batch((b) => b.put("t", "b", { n: () => 1 } as object))).rejects.toThrow(
      InvalidWrite,
    );
    expect(await replica.query("t")).toHaveLength(1);
    await expect(open({ indexedDB: null, requireDurable: true })).rejects.toMatchObject({
      code: "store_failed",
    });
  });

  it.skipIf(ALONE)("that the browser evicted starts from zero, as another device", async () => {
    const indexedDB = new IDBFactory();
    const replica = await open({ name: "evicted", indexedDB });
    await replica.put("t", "a", { n: 1 });
    const { clientId } = replica;
    const rows: number[] = [];
    replica.query("t").subscribe(({ length }) => rows.push(length));
    await until("read", () => rows.length === 1);
    await new Promise((resolve, reject) => {
      const request = indexedDB.deleteDatabase("syncd:evicted");
      request.onsuccess = resolve;
      request.onerror = reject;
    });
    expect(await replica.get("t", "a")).toBeNull();
    expect(replica.clientId).not.toBe(clientId);
    expect(await replica.pending()).toEqual([]);
    await until("the subscriber is told", () => rows.at(-1) === 0);
    await replica.put("t", "b", { n: 2 });
    expect(await replica.query("t")).toHaveLength(1);
  });

  it("leaves no trace of a transaction that fails", async () => {
    const replica = await open();
    await replica.put("t", "a", { n: 1 });
    await expect(replica.drop("nobody")).rejects.toMatchObject({ code: "no_such_change" });
    expect(await replica.pending()).toHaveLength(1);
  });
});

describe("a migration of the application's schema", () => {
  it("runs once, and its writes are sent as such", async () => {
    const indexedDB = new IDBFactory();
    const first = await open({ name: "app", indexedDB, schemaVersion: 1 });
    await first.put("t", "a", { done: "yes" });
    await first.close();
    const ran: number[] = [];
    const options = {
      name: "app",
      indexedDB,
      schemaVersion: 2,
      onMigrate: async (
        from: number,
        batch: Parameters<Parameters<Replica["batch"]>[0]>[0],
        replica: Replica,
      ) => {
        ran.push(from);
        for (const { id, fields } of await replica.query("t"))
          batch.patch("t", id, { done: fields.done === "yes" });
      },
    };
    const second = await open(options);
    expect((await second.get("t", "a"))?.fields.done).toBe(true);
    expect((await second.pending()).at(-1)?.change).toMatchObject({ origin: "migration", schemaVersion: 2 });
    await second.close();
    await (await open(options)).close();
    expect(ran).toEqual([1]);
    await expect(open({ ...options, schemaVersion: 1 })).rejects.toThrow(WrongReplica);
  });

  it("that fails leaves the store as it was", async () => {
    const indexedDB = new IDBFactory();
    await (await open({ name: "app", indexedDB, schemaVersion: 1 })).close();
    const onMigrate = (): never => {
      throw new Error("bug");
    };
    await expect(open({ name: "app", indexedDB, schemaVersion: 2, onMigrate })).rejects.toThrow("bug");
    await open({ name: "app", indexedDB, schemaVersion: 1 });
  });
});
