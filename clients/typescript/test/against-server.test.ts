/** The client against the real server: offline, conflicts, restarts, live. */

import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ERROR_TEXTS } from "../src/error-codes.js";
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
  return Promise.all(
    Array.from({ length: count }, () => open({ url: server.url, token, retry: { attempts: 3 } })),
  );
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

  it("says why the change that makes a batch fail may not be written", async () => {
    const [phone] = await pair();
    const place = { space: "nobody-s" };
    await phone.batch((batch) => {
      batch.put("t", "a", { n: 1 });
      batch.put("t", "b", { n: 1 }, place);
    });
    await phone.sync();
    const why = await phone.why("t", "b", place);
    expect(why).toMatchObject({ state: "no_permission", code: "space_not_found" });
    expect(why.detail).toContain(ERROR_TEXTS["space_not_found"]?.join(" "));
    expect((await phone.why("t", "a")).code).toBe("batch_rejected");
  });
});

describe("many devices", () => {
  it("hold the same after any writes, in any order, with restarts of the server", async () => {
    const devices = await devicesOf(3);
    let seed = 7;
    const random = (limit: number): number => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed % limit;
    };
    for (let step = 0; step < 120; step++) {
      const device = devices[random(3)] as Replica;
      const id = `r${random(6)}`;
      const what = random(8);
      if (what === 0) await device.delete("t", id, { upsert: true });
      else if (what === 1) await device.undelete("t", id, { upsert: true });
      else if (what < 5) await device.patch("t", id, { [`f${random(3)}`]: step }, { upsert: true });
      else if (what < 7) await device.put("t", id, { [`f${random(3)}`]: step, big: 9007199254740993n });
      else await device.sync();
      if (step === 60) {
        await server.stop();
        const offline = device.sync().catch((error: { code: string }) => error.code);
        expect(await offline).toBe("offline");
        await server.start();
      }
    }
    for (const device of [...devices, ...devices]) await device.sync();
    const [one, other, third] = devices as [Replica, Replica, Replica];
    await expectSame(one, other);
    await expectSame(one, third);
    expect(Object.keys(await contents(one))).toHaveLength(6);
  });

  it("that is new gets everything, whole", async () => {
    const [phone, laptop] = await pair();
    await phone.batch((batch) => {
      for (let n = 0; n < 900; n++) batch.put("t", `r${n}`, { n });
    });
    for (let n = 0; n < 5; n++) await phone.put("t", `s${n}`, { list: [n, { deep: "\u{1f600}" }] });
    expect((await phone.sync()).pushed).toBe(905);
    await laptop.sync();
    expect(await laptop.query("t")).toHaveLength(905);
    await expectSame(phone, laptop);
  });
});

describe("spaces", () => {
  it("are joined and left, and a reader's writes are refused with the reason", async () => {
    const [ann, bo] = [`ann-${randomUUID()}`, `bo-${randomUUID()}`];
    const token = await server.token(ann);
    const { id: space } = (await server.request(token, "POST", "/spaces", { name: "s" })) as { id: string };
    const role = (name: string): Promise<unknown> =>
      server.request(token, "PUT", `/spaces/${space}/members/${bo}`, { role: name });
    const [mine] = (await devicesOf(1, ann)) as [Replica];
    const [theirs] = (await devicesOf(1, bo)) as [Replica];
    const place = { space };
    await mine.put("t", "a", { n: 1 }, place);
    await mine.sync();
    await role("writer");
    expect((await theirs.sync()).joined).toEqual([space]);
    expect((await theirs.get("t", "a", place))?.fields).toEqual({ n: 1 });
    await role("reader");
    const changeId = await theirs.patch("t", "a", { n: 2 }, place);
    const report = await theirs.sync();
    expect(report.rejected).toEqual([changeId]);
    expect(await theirs.why("t", "a", place)).toMatchObject({ state: "no_permission", code: "not_a_writer" });
    await role("writer");
    await theirs.requeue(changeId);
    await theirs.sync();
    await mine.sync();
    expect((await mine.get("t", "a", place))?.fields).toEqual({ n: 2 });
    await theirs.patch("t", "a", { n: 3 }, place);
    await server.request(token, "DELETE", `/spaces/${space}/members/${bo}`);
    expect((await theirs.sync()).left).toEqual([space]);
    expect(await theirs.get("t", "a", place)).toBeNull();
    expect(await theirs.spaces()).toEqual([]);
    expect([...(await theirs.keptAside()), ...(await theirs.rejected())]).toHaveLength(1);
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
    await phone.patch("t", "a", { n: 1 }, { upsert: true });
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

  it("goes on over a restart of the server, with what was written meanwhile", async () => {
    const [phone, laptop] = await pair();
    const live = [phone, laptop].map((replica) => replica.live({ policy: QUICK }));
    await until("both are live", () => live.every(({ state }) => state.name === "live"));
    await server.stop();
    await until("both are offline", () => live.every(({ state }) => state.name === "offline"));
    await phone.put("t", "a", { n: 1 });
    await laptop.put("t", "a", { m: 2 });
    expect((await phone.why("t", "a")).state).toBe("offline");
    await server.start();
    const whole = async (replica: Replica): Promise<boolean> =>
      JSON.stringify(Object.entries((await replica.get("t", "a"))?.fields ?? {}).sort()) ===
      '[["m",2],["n",1]]';
    await until("both have both", async () => (await whole(phone)) && (await whole(laptop)));
    for (const one of live) expect(await one.waitUntilSynced(10_000)).toBe(true);
    await expectSame(phone, laptop);
  });

  it("tells the members of a space of each other", async () => {
    const [phone, laptop] = await pair();
    const [one, other] = [phone, laptop].map((replica) => replica.live({ policy: QUICK }));
    one?.presence(null, { at: "a" });
    other?.presence(null, { at: "b" });
    await until("the phone is seen", () => other?.peers()[0]?.client === phone.clientId);
    await until("the laptop is seen", () => one?.peers()[0]?.client === laptop.clientId);
    expect(other?.peers()[0]?.state).toEqual({ at: "a" });
    await phone.close();
    await until("the phone is gone", () => other?.peers().length === 0);
  });

  it("has a refused change set aside while the rest goes on", async () => {
    const [phone] = await pair();
    const live = phone.live({ policy: QUICK });
    const changeId = await phone.put("t", "a", { n: 1 }, { space: "no-such-space" });
    await phone.put("t", "b", { n: 1 });
    await until("set aside", async () => (await phone.rejected())[0]?.changeId === changeId);
    expect(await live.waitUntilSynced(10_000)).toBe(true);
    expect(await phone.why("t", "a", { space: "no-such-space" })).toMatchObject({ code: "space_not_found" });
    await phone.move(changeId, null);
    expect(await live.waitUntilSynced(10_000)).toBe(true);
    expect((await phone.why("t", "a")).state).toBe("synced");
  });
});
