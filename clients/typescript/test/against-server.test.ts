/** The client against the real server: offline, conflicts, restarts, live. */

import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Event, Replica } from "../src/index.js";
import { contents, expectSame, open, QUICK, until } from "./devices.js";
import { RealServer } from "./server.js";

let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start();
});
afterAll(() => server.remove());

/** Devices of one user. */
async function devicesOf(count: number, user = `u-${randomUUID()}`): Promise<Replica[]> {
  const token = await server.token(user);
  return Promise.all(Array.from({ length: count }, () => open({ url: server.url, token })));
}

async function pair(): Promise<[Replica, Replica]> {
  return (await devicesOf(2)) as [Replica, Replica];
}

describe("sync", () => {
  it("merges what two devices wrote offline", async () => {
    const [phone, laptop] = await pair();
    await phone.put("t", "milk", { title: "Buy milk", done: false });
    await phone.sync();
    await laptop.sync();
    await phone.patch("t", "milk", { title: "Buy oat milk" });
    await laptop.patch("t", "milk", { done: true });
    await laptop.sync();
    await phone.sync();
    await laptop.sync();
    expect((await phone.get("t", "milk"))?.fields).toEqual({ title: "Buy oat milk", done: true });
    expect((await phone.why("t", "milk")).state).toBe("synced");
    await expectSame(phone, laptop);
  });
});

describe("live", () => {
  it("shows each what the other writes, at once", async () => {
    const [phone, laptop] = await pair();
    await phone.put("t", "before", { n: 1 });
    const seen: Event[] = [];
    laptop.on((event) => seen.push(event));
    const live = [phone, laptop].map((replica) => replica.live({ policy: QUICK }));
    await until("both are live", () => live.every(({ state }) => state.name === "live"));
    await until("the backlog", async () => (await laptop.get("t", "before"))?.fields.n === 1);
    await phone.patch("t", "a", { n: 1 });
    await until("there", async () => (await laptop.get("t", "a"))?.fields.n === 1);
    await laptop.patch("t", "a", { m: 2 });
    await until("and back", async () => (await phone.get("t", "a"))?.fields.m === 2);
    expect(await live[1]?.waitUntilSynced(10_000)).toBe(true);
    expect(seen).toContainEqual({
      kind: "changes",
      records: [{ space: null, table: "t", id: "a" }],
      source: "server",
      everything: false,
    });
    await expectSame(phone, laptop);
    expect(Object.keys(await contents(phone))).toEqual(["a", "before"]);
  });
});
