/** G21: an overwrite of what its writer had not seen is told to both, by this client and the real server. */

import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Conflict, Replica } from "../src/index.js";
import { open, until } from "./devices.js";
import { RealServer } from "./server.js";

const NOON = 1_767_268_800_000;

let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start();
});
afterAll(() => server.remove());

let seconds: number;
let ada: Replica;
let bob: Replica;
let user: string;

/** The two know one record and have no conflict. */
beforeEach(async () => {
  seconds = 0;
  user = `u-${randomUUID()}`;
  const token = await server.token(user);
  const wall = (): number => NOON + seconds * 1000;
  const options = { url: server.url, token, wall };
  [ada, bob] = await Promise.all([
    open({ ...options, clientId: "ada" }),
    open({ ...options, clientId: "bob" }),
  ]);
  await ada.put("items", "tea", { name: "Tea", price: 3, stock: 1 });
  await exchange(ada, bob);
});

async function exchange(...order: Replica[]): Promise<void> {
  for (const replica of order) await replica.sync();
}

function patch(replica: Replica, at: number, fields: object): Promise<string> {
  seconds = at;
  return replica.patch("items", "tea", fields as { [field: string]: number });
}

function brief({ kind, field, mine, theirs, by }: Conflict): unknown[] {
  return [kind, field, mine, theirs, by];
}

async function said(): Promise<unknown[][][]> {
  const told = await Promise.all([ada.conflicts(), bob.conflicts()]);
  return told.map((conflicts) => conflicts.map(brief));
}

/** What each of them is told, and again is not. */
async function told(): Promise<unknown[][][]> {
  const first = await said();
  await exchange(ada, bob, ada);
  expect(await said()).toEqual(first);
  const [one, other] = await Promise.all([ada.registers("items", "tea"), bob.registers("items", "tea")]);
  expect(one).toEqual(other);
  return first;
}

const BOTH = [[["overwritten", "price", 4, 5, "bob"]], [["overwrote", "price", 5, 4, "ada"]]];

describe("an overwrite of what was not seen", () => {
  it.each([false, true])("is forgotten with a record that is erased (heard live: %s)", async (heard) => {
    await patch(ada, 10, { price: 4, stock: 2 });
    await patch(bob, 20, { price: 5, name: "Green tea" });
    await ada.put("items", "kept", { price: 1 });
    await exchange(ada, bob, ada);
    expect(await told()).toEqual(BOTH);
    const live = heard ? ada.live({ verify: false }) : null;
    await server.erase("record", `_personal:${user}`, "items", "tea", "--app", "app");
    if (live) await until("it is erased", async () => (await ada.conflicts()).length === 0);
    await live?.close();
    await exchange(ada, bob);
    expect(await told()).toEqual([[], []]);
    expect(await ada.get("items", "kept")).toMatchObject({ fields: { price: 1 } });
  });

  it("is forgotten where a user who is erased leaves a record without its values", async () => {
    const [space, other] = [`s-${randomUUID()}`, `v-${randomUUID()}`];
    const [token, theirs] = [await server.token(user), await server.token(other)];
    await server.request(token, "POST", "/spaces", { id: space, name: "Shop" });
    await server.request(token, "PUT", `/spaces/${space}/members/${other}`, { role: "writer" });
    const wall = (): number => NOON + seconds * 1000;
    const eve = await open({ url: server.url, token: theirs, clientId: `eve-${other}`, wall });
    await ada.put("items", "rug", { price: 1, stock: 1 }, { space });
    await exchange(ada, eve);
    seconds = 10;
    await ada.patch("items", "rug", { price: 4 }, { space });
    seconds = 20;
    await eve.patch("items", "rug", { price: 5 }, { space });
    await exchange(ada, eve, ada);
    expect((await ada.conflicts()).map(({ mine, theirs: one }) => [mine, one])).toEqual([[4, 5]]);
    await server.erase("user", other);
    await exchange(ada);
    expect(await ada.get("items", "rug", { space })).toMatchObject({ fields: { price: null, stock: 1 } });
    expect(await ada.conflicts()).toEqual([]);
  });

  it("is told to both where the later edit arrives later", async () => {
    await patch(ada, 10, { price: 4, stock: 2 });
    await patch(bob, 20, { price: 5, name: "Green tea" });
    await exchange(ada, bob, ada);
    expect(await told()).toEqual(BOTH);
  });

  it("is told as ever to the one that lost", async () => {
    await patch(bob, 10, { price: 5 });
    await patch(ada, 20, { price: 4 });
    await exchange(ada, bob);
    expect((await told())[1]).toEqual([["lost", "price", 5, 4, "ada"]]);
  });

  it("is none where it was seen, or is equal", async () => {
    await patch(ada, 10, { price: 4, stock: 7 });
    await exchange(ada);
    await patch(bob, 20, { stock: 7 });
    await exchange(bob, ada);
    await patch(bob, 30, { price: 5 });
    await patch(bob, 40, { price: 6 });
    await exchange(bob, ada);
    seconds = 50;
    await ada.put("items", "tea", { price: 7, stock: 8 });
    await exchange(ada, bob);
    expect(await told()).toEqual([[], []]);
  });

  it("is told once of edits upon edits", async () => {
    await patch(ada, 10, { price: 4 });
    for (const price of [5, 6, 7]) await patch(bob, 20 + price, { price });
    await exchange(ada, bob, ada);
    expect(await told()).toEqual(BOTH);
  });

  it("is told live", async () => {
    await patch(ada, 10, { price: 4 });
    await patch(bob, 20, { price: 5 });
    await exchange(ada);
    const heard: unknown[][] = [];
    for (const replica of [ada, bob])
      replica.on((event) => event.kind === "conflict" && heard.push(brief(event.conflict)));
    const lives = [ada.live({ verify: false }), bob.live({ verify: false })];
    await until("both are told", () => heard.length >= 2);
    await Promise.all(lives.map((live) => live.close()));
    expect(heard.sort()).toEqual(BOTH.flat().sort());
  });

  it("is kept until it is dismissed", async () => {
    await patch(ada, 10, { price: 4, stock: 4 });
    await patch(bob, 20, { price: 5, stock: 5 });
    await exchange(ada, bob);
    const [first, second] = (await bob.conflicts()) as [Conflict, Conflict];
    await bob.clearConflicts(first);
    expect(await bob.conflicts()).toEqual([second]);
    await bob.clearConflicts();
    expect(await bob.conflicts()).toEqual([]);
  });
});

describe("an edit of what was deleted", () => {
  it.each([
    ["before it, pushed first", 10, false],
    ["before it, heard of first", 10, true],
    ["after it, pushed first", 30, false],
    ["after it, heard of first", 30, true],
  ])("is told: made %s", async (_, edited, heard) => {
    seconds = 20;
    await ada.delete("items", "tea");
    await patch(bob, edited, { price: 5 });
    await patch(bob, edited + 1, { stock: 6 });
    await exchange(ada);
    if (heard) await bob.pull();
    await exchange(bob);
    expect((await told())[1]).toEqual([
      ["deleted", "deletedAt", { price: 5, stock: 6 }, "2026-01-01T12:00:20.000000Z", "ada"],
    ]);
  });

  it("is told live", async () => {
    seconds = 20;
    await ada.delete("items", "tea");
    await patch(bob, 30, { price: 5 });
    await exchange(ada);
    const live = bob.live({ verify: false });
    await until("it is told", async () => (await bob.conflicts()).length > 0);
    await live.close();
    expect((await said())[1]).toEqual([
      ["deleted", "deletedAt", { price: 5 }, "2026-01-01T12:00:20.000000Z", "ada"],
    ]);
  });

  it("is told of as an overwrite where it brings the record back, and two deletions are none", async () => {
    seconds = 10;
    await ada.delete("items", "tea");
    seconds = 20;
    await bob.put("items", "tea", { price: 5 });
    await exchange(ada, bob, ada);
    const [one, other] = await told();
    expect([
      one?.map(([kind, field]) => [kind, field]),
      other?.map(([kind, field]) => [kind, field]),
    ]).toEqual([[["overwritten", "deletedAt"]], [["overwrote", "deletedAt"]]]);
    await Promise.all([ada.clearConflicts(), bob.clearConflicts()]);
    seconds = 30;
    await ada.delete("items", "tea");
    seconds = 40;
    await bob.delete("items", "tea");
    await exchange(ada, bob, ada);
    expect(await told()).toEqual([[], []]);
  });
});
