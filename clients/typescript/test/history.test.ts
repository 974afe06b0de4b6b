/** History and undo, with the real server where it takes one. */

import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  changes,
  type PastChange,
  recordAt,
  restore,
  restoreSpace,
  revert,
  spaceAt,
  undo,
} from "../src/history.js";
import type { Json, Registers, Replica, ReplicaOptions } from "../src/index.js";
import { contents, expectSame, open } from "./devices.js";
import { RealServer } from "./server.js";

const AHEAD = new Date(Date.now() + 3_600_000).toISOString();

let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start();
});
afterAll(() => server.remove());

/** Devices of one user. */
async function devices(...options: Partial<ReplicaOptions>[]): Promise<Replica[]> {
  const token = await server.token(`history-${randomUUID()}`);
  return Promise.all(options.map((own) => open({ url: server.url, token, retry: { first: 1 }, ...own })));
}

async function device(options: Partial<ReplicaOptions> = {}): Promise<Replica> {
  return (await devices(options))[0] as Replica;
}

async function pair(): Promise<[Replica, Replica]> {
  return (await devices({}, {})) as [Replica, Replica];
}

async function sync(...replicas: Replica[]): Promise<void> {
  for (const replica of replicas) await replica.sync();
}

async function all<T>(found: AsyncIterable<T>): Promise<T[]> {
  const taken: T[] = [];
  for await (const one of found) taken.push(one);
  return taken;
}

function values(registers: Registers): { [field: string]: Json } {
  return Object.fromEntries(Array.from(registers, ([field, { value }]) => [field, value]));
}

/** What an application sees, without fields that are null. */
async function seen(replica: Replica, id = "r"): Promise<object | null> {
  const row = await replica.get("t", id);
  return row && Object.fromEntries(Object.entries(row.fields).filter(([, value]) => value !== null));
}

async function ids(replica: Replica): Promise<string[]> {
  return (await replica.query("t")).map(({ id }) => id).sort();
}

describe("history", () => {
  it.each<[string, (one: Replica) => Promise<unknown>]>([
    ["a record", (one) => recordAt(one, "t", "..", { seq: 1 })],
    ["a table", (one) => recordAt(one, "..", "pull")],
    ["changes", (one) => all(changes(one, "..", "."))],
    ["a restore", (one) => restore(one, "t", "..", 1)],
    ["a restore elsewhere", (one) => restore(one, "..", "..", 1)],
    ["a space", (one) => all(spaceAt(one, { space: "..", seq: 1 }))],
    ["a space's restore", (one) => restoreSpace(one, { space: ".", seq: 1 })],
    ["a revert", (one) => revert(one, { agent: "a" }, { space: ".." })],
  ])("refuses what an address would lose before it asks: %s", async (_what, ask) => {
    let asked = 0;
    const one = await open({
      url: "http://server",
      token: "t",
      fetch: async () => new Response(`${asked++}`),
    });
    await one.put("t", "r", { n: 1 });
    await expect(ask(one)).rejects.toMatchObject({ code: "invalid_query" });
    expect(asked).toBe(0);
  });

  it("says that a listing was lost when the database was restored", async () => {
    const elsewhere: typeof fetch = (address, options) => {
      const url = new URL(String(address));
      const after = url.searchParams.get("after");
      if (after !== null) {
        const [seq, table, id, start] = JSON.parse(Buffer.from(after, "base64url").toString());
        const other = Buffer.from(JSON.stringify([seq, table, id, start + 1])).toString("base64url");
        url.searchParams.set("after", other);
      }
      return fetch(url, options);
    };
    const one = await device({ fetch: elsewhere });
    for (const x of [1, 2]) {
      await one.put("t", "r", { x });
      await one.put("t", `s${x}`, { x });
    }
    await one.sync();
    for (const listing of [changes(one, "t", "r", { page: 1 }), spaceAt(one, { page: 1 })]) {
      await listing.next();
      await expect(listing.next()).rejects.toMatchObject({ code: "cursor_lost", status: 410 });
    }
  });

  it("reads a record's changes newest first, in pages", async () => {
    const said = { actor: { by: "me" }, origin: "agent", schemaVersion: 2 };
    const [one, two] = (await devices(said, {})) as [Replica, Replica];
    for (let x = 0; x < 5; x++) await one.put("t", "r", { x });
    await sync(one, two);
    await two.patch("t", "r", { y: 1 });
    await sync(two);
    const found = await all(changes(one, "t", "r", { page: 2 }));
    expect(found.map(({ seq }) => seq)).toEqual([6, 5, 4, 3, 2, 1]);
    const [last, before, ...older] = found as [PastChange, PastChange, ...PastChange[]];
    expect([values(last.fields), last.client, last.origin]).toEqual([{ y: 1 }, two.clientId, null]);
    expect(before).toMatchObject({ client: one.clientId, ...said, op: "insert" });
    expect(before.fields.get("x")).toEqual((await one.registers("t", "r")).get("x"));
    expect(older.map(({ fields }) => fields.get("x")?.value)).toEqual([3, 2, 1, 0]);
  });

  it("reads a record as it was", async () => {
    const one = await device();
    await one.put("t", "a/b", { x: 1 });
    await one.patch("t", "a/b", { x: 2 });
    await one.delete("t", "a/b");
    await one.sync();
    const now = await recordAt(one, "t", "a/b");
    expect(now?.registers).toEqual(await one.registers("t", "a/b"));
    expect([now?.deletedAt === null, now?.fields.x]).toEqual([false, 2]);
    expect(await recordAt(one, "t", "a/b", { seq: 2 })).toMatchObject({
      table: "t",
      id: "a/b",
      space: null,
      seq: 2,
      deletedAt: null,
      fields: { x: 2 },
      complete: true,
    });
    expect(await recordAt(one, "t", "a/b", { at: "2000-01-01T00:00:00Z" })).toBeNull();
    expect(await recordAt(one, "t", "nothing")).toBeNull();
    expect(await recordAt(one, "t", "a/b", { at: AHEAD })).toEqual(now);
    const refused = recordAt(one, "t", "a/b", { space: "not-there" });
    await expect(refused).rejects.toMatchObject({ code: "space_not_found", status: 404 });
  });

  it("restores a record here and everywhere, with what was unsent", async () => {
    const [one, two] = await pair();
    await one.put("t", "r", { x: 1, y: 1 });
    await one.sync();
    await one.patch("t", "r", { x: 2, z: 2 });
    const seq = await restore(one, "t", "r", 1);
    await sync(two);
    expect([await seen(one), await seen(two)]).toEqual([
      { x: 1, y: 1 },
      { x: 1, y: 1 },
    ]);
    await restore(one, "t", "r", seq - 1);
    await sync(two);
    expect(await seen(one)).toEqual({ x: 2, y: 1, z: 2 });
    await expectSame(one, two);
  });

  it("reads and restores a space", async () => {
    const [one, two] = await pair();
    await one.batch((batch) => {
      for (let n = 0; n < 5; n++) batch.put("t", `r${n}`, { n });
    });
    await one.sync();
    const [first] = await all(changes(one, "t", "r0"));
    const at = first?.createdAt ?? "";
    await one.delete("t", "r0");
    await one.put("t", "late", { n: 9 });
    await one.sync();
    const then = await all(spaceAt(one, { at, page: 2 }));
    expect(then.map(({ id, fields }) => [id, fields.n]).sort()).toEqual(
      [0, 1, 2, 3, 4].map((n) => [`r${n}`, n]),
    );
    expect((await all(spaceAt(one))).map(({ id }) => id).sort()).toEqual(["late", "r1", "r2", "r3", "r4"]);
    const done = await restoreSpace(one, { at });
    expect(done.map(({ table, id }) => [table, id])).toEqual([
      ["t", "late"],
      ["t", "r0"],
    ]);
    await sync(two);
    expect(await ids(two)).toEqual(["r0", "r1", "r2", "r3", "r4"]);
    expect(await ids(one)).toEqual(await ids(two));
    await restoreSpace(one, { seq: (done[0]?.seq ?? 0) - 1 });
    expect(await ids(one)).toEqual(["late", "r1", "r2", "r3", "r4"]);
    expect(await restoreSpace(one, { at: AHEAD })).toEqual([]);
  });

  it("takes back what an actor wrote, and that again", async () => {
    const actor = { agent: "tidy", run: randomUUID() };
    const [one, agent] = (await devices({}, { actor, origin: "agent" })) as [Replica, Replica];
    await one.put("t", "r", { x: "old", y: "old" });
    await one.sync();
    await agent.sync();
    await agent.patch("t", "r", { x: "new", y: "new" });
    await agent.put("t", "made", { x: "new" });
    await agent.sync();
    await one.sync();
    await one.patch("t", "r", { y: "mine" });
    await one.sync();
    expect((await revert(one, actor, { at: AHEAD })).length).toBe(0);
    expect((await revert(one, actor)).map(({ id }) => id)).toEqual(["made", "r"]);
    expect(await seen(one)).toEqual({ x: "old", y: "mine" });
    expect(await ids(one)).toEqual(["r"]);
    await revert(one, { reverted: actor });
    expect(await seen(one)).toEqual({ x: "new", y: "mine" });
    expect(await ids(one)).toEqual(["made", "r"]);
  });

  it("works in a shared space, and refuses a reader's restore", async () => {
    const space = `s-${randomUUID()}`;
    const [owner, reader] = [`o-${randomUUID()}`, `r-${randomUUID()}`];
    const token = await server.token(owner);
    await server.request(token, "POST", "/spaces", { id: space, name: "S" });
    await server.request(token, "PUT", `/spaces/${space}/members/${reader}`, { role: "reader" });
    const one = await open({ url: server.url, token });
    const two = await open({ url: server.url, token: await server.token(reader) });
    for (const x of [1, 2]) await one.put("t", "r", { x }, { space });
    await sync(one, two);
    expect((await recordAt(two, "t", "r", { space, seq: 1 }))?.fields.x).toBe(1);
    expect(await all(changes(two, "t", "r", { space }))).toHaveLength(2);
    expect((await all(spaceAt(two, { space, seq: 1 }))).map((row) => [row.space, row.fields.x])).toEqual([
      [space, 1],
    ]);
    await expect(restore(two, "t", "r", 1, { space })).rejects.toMatchObject({ code: "not_a_writer" });
    await restore(one, "t", "r", 1, { space });
    await sync(two);
    expect((await two.get("t", "r", { space }))?.fields.x).toBe(1);
  });

  it("restores once where the answer was lost", async () => {
    const sent: string[] = [];
    const losing: typeof fetch = async (address, options) => {
      const answer = await fetch(address, options);
      if (!String(address).includes("/restore")) return answer;
      sent.push(String(options?.body));
      if (sent.length > 1) return answer;
      await answer.text();
      throw new TypeError("lost");
    };
    const one = await device({ fetch: losing });
    for (const x of [1, 2]) await one.put("t", "r", { x });
    expect(await restore(one, "t", "r", 1)).toBe(3);
    expect(await all(changes(one, "t", "r"))).toHaveLength(3);
    expect(sent).toHaveLength(2);
    expect(sent[0]).toBe(sent[1]);
  });

  it("says what keeps it from asking", async () => {
    const offline = await open();
    await expect(recordAt(offline, "t", "r")).rejects.toMatchObject({ code: "not_connected" });
    const unknown = await open({ url: server.url, token: "nonsense" });
    await expect(recordAt(unknown, "t", "r")).rejects.toMatchObject({ code: "unauthorized" });
    const nobody = await open({
      url: "http://127.0.0.1:9",
      token: await server.token("u"),
      retry: { attempts: 1 },
    });
    await expect(recordAt(nobody, "t", "r")).rejects.toMatchObject({ code: "offline" });
  });
});

describe("undo", () => {
  it("leaves what others have written since", async () => {
    const [one, two] = await pair();
    await one.put("t", "r", { x: 1, y: 1 });
    await one.put("t", "s", { x: 1 });
    await sync(one, two);
    await one.batch((batch) => {
      batch.patch("t", "r", { x: 2, y: 2 });
      batch.put("t", "new", { x: 2 });
    });
    await sync(one, two);
    await two.patch("t", "r", { x: 3 });
    await two.patch("t", "new", { y: 3 });
    await sync(two, one);
    await undo(one);
    await sync(one, two);
    expect([await seen(one), await seen(one, "new")]).toEqual([{ x: 3, y: 1 }, { y: 3 }]);
    await expectSame(one, two);
    expect(Object.keys(await contents(one)).sort()).toEqual(["new", "r", "s"]);
  });

  it("knows its own write by a lowered stamp too", async () => {
    const one = await device({ wall: () => 4_000_000_000_000 });
    for (const x of [1, 2]) await one.put("t", "r", { x });
    await one.sync();
    await undo(one);
    await one.sync();
    expect(await seen(one)).toEqual({ x: 1 });
  });
});
