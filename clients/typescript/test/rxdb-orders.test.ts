/** RxDB itself, replicated through a real server: what is pushed, pulled and edited in an unlucky order. */

import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import type { Checkpoint } from "../src/rxdb/index.js";
import { open, until } from "./devices.js";
import { type Device, device, gate, line, onServer, seen, server, settled, user } from "./rxdb-devices.js";

/** A line on which the requests of a kind, while it is told to, wait before they are sent, or for their answers. */
function held(method: "GET" | "POST", where: "asked" | "answered") {
  const { open: opened, go } = gate();
  const own = { holding: false, waiting: 0 };
  const wait = async (): Promise<void> => {
    own.waiting += 1;
    await opened;
  };
  const fetching: typeof fetch = async (address, options) => {
    const waits = own.holding && options?.method === method;
    if (waits && where === "asked") await wait();
    const answer = await fetch(address, options);
    if (waits && where === "answered") await wait();
    return answer;
  };
  const letGo = (): void => {
    own.holding = false;
    go();
  };
  return Object.assign(own, { fetch: fetching, letGo });
}

interface Handed {
  readonly ids: readonly string[];
  readonly checkpoint: Checkpoint | undefined;
}

/**
 * What RxDB is handed from now on. At the first of it that `which` takes it is paused, so that it drops it, and goes on when
 * it is told to.
 */
function pausedAt({ replication: { state } }: Device, which: (handed: Handed) => boolean) {
  const all: Handed[] = [];
  const own = { all, dropped: false, goOn: () => state.start() };
  const { pull } = state;
  if (pull === undefined) throw new Error("it does not pull");
  const { handler } = pull;
  pull.handler = async (from, size) => {
    const pulled = await handler(from, size);
    const handed = { ids: pulled.documents.map(({ id }) => id).sort(), checkpoint: pulled.checkpoint };
    all.push(handed);
    if (own.dropped || !which(handed)) return pulled;
    await state.pause();
    own.dropped = true;
    return pulled;
  };
  return own;
}

/** What RxDB is handed when all has settled, and when it asks again. */
async function handedAfter(one: Device, all: Handed[]): Promise<string[]> {
  await settled(one);
  all.length = 0;
  await settled(one);
  return all.flatMap(({ ids }) => ids);
}

/** Writes to the server by another device. */
async function others(token: string) {
  const replica = await open({ url: server.url, token });
  await replica.sync();
  return replica;
}

describe("a page", () => {
  it("with several changes of a record, and the next such page, leave what is known of its other fields", async () => {
    const token = await user();
    const own = line();
    const one = await device(token, { fetch: own.fetch, webSocket: null });
    await one.tasks.bulkInsert(["milk", "eggs"].map((id) => ({ id, title: "Buy it" })));
    await settled(one);
    const replica = await others(token);
    const inOnePage = async (...edits: [id: string, fields: object][]): Promise<void> => {
      own.cut = true;
      for (const [id, fields] of edits) {
        await replica.put("tasks", id, fields as { title: string });
        await replica.sync();
      }
      own.cut = false;
      await settled(one);
    };
    await inOnePage(["milk", { title: "Oat" }], ["milk", { title: "Soy" }], ["eggs", { title: "6" }]);
    await inOnePage(["milk", { note: "two of it" }]);
    await inOnePage(["milk", { title: "Rice" }], ["milk", { title: "Any" }], ["eggs", { title: "12" }]);
    expect(await onServer(token)).toMatchObject({ milk: { title: "Any", note: "two of it" } });
    expect(await seen(one)).toEqual({ id: "milk", title: "Any", note: "two of it" });
  });
});

describe("a device that reads for the first time", () => {
  it("has nothing of what it pushed, and others deleted, after it had asked", async () => {
    const token = await user();
    const replica = await others(token);
    await replica.put("tasks", "kept", { title: "Kept" });
    await replica.sync();
    const pulls = held("GET", "asked");
    pulls.holding = true;
    const one = await device(token, { fetch: pulls.fetch, webSocket: null });
    await until("it has asked", () => pulls.waiting > 0);
    await one.tasks.insert({ id: "milk", title: "Buy milk" });
    await until("it was sent", async () => "milk" in (await onServer(token)));
    await one.replication.state.internalReplicationState?.streamQueue.up;
    await replica.sync();
    await replica.delete("tasks", "milk");
    await replica.sync();
    pulls.letGo();
    await settled(one);
    expect(await seen(one, "kept")).toEqual({ id: "kept", title: "Kept" });
    expect(await seen(one)).toBeNull();
  });

  it("has nothing of that either where RxDB was paused as it was to be told of it", async () => {
    const token = await user();
    const replica = await others(token);
    await replica.put("tasks", "kept", { title: "Kept" });
    await replica.sync();
    const pulls = held("GET", "asked");
    pulls.holding = true;
    const one = await device(token, { fetch: pulls.fetch, webSocket: null });
    const page = pausedAt(one, ({ ids, checkpoint }) => ids.includes("milk") && checkpoint?.unsure === false);
    await until("it has asked", () => pulls.waiting > 0);
    await one.tasks.insert({ id: "milk", title: "Buy milk" });
    await until("it was sent", async () => "milk" in (await onServer(token)));
    await one.replication.state.internalReplicationState?.streamQueue.up;
    await replica.sync();
    await replica.delete("tasks", "milk");
    await replica.sync();
    pulls.letGo();
    await until("it was paused", () => page.dropped);
    expect(page.all.some(({ checkpoint }) => checkpoint?.unsure)).toBe(true);
    await page.goOn();
    expect(await handedAfter(one, page.all)).toEqual([]);
    expect(await seen(one, "kept")).toEqual({ id: "kept", title: "Kept" });
    expect(await seen(one)).toBeNull();
  });
});

describe("a device that begins again", () => {
  const stays = Array.from({ length: 23 }, (_, n) => `t${n}`).sort();

  /**
   * A device that is paused, and behind: of what it has, `gone` was deleted, and forgotten, meanwhile. Where it begins again a
   * page has 10 records for each of `batchSize`, and ends between pushes, of which there were two.
   */
  async function behind(batchSize: number, fetching: typeof fetch): Promise<{ one: Device; token: string }> {
    const name = `rx-${randomUUID()}`;
    const token = await server.token(name);
    const two = await device(token, { batchSize: 12, webSocket: null });
    await two.tasks.bulkInsert([...stays, "gone"].map((id) => ({ id, title: "here" })));
    await settled(two);
    const one = await device(token, { batchSize, fetch: fetching, webSocket: null });
    await settled(one);
    await one.replication.state.pause();
    await two.tasks.findOne("gone").remove();
    await settled(two);
    await server.forget(`_personal:${name}`);
    return { one, token };
  }

  async function idsOf({ tasks }: Device): Promise<string[]> {
    return (await tasks.find().exec()).map(({ id }) => id).sort();
  }

  it("has nothing of what is gone, where RxDB was paused before it had the last page", async () => {
    const sinces: string[] = [];
    const { one } = await behind(1, (address, options) => {
      const { searchParams } = new URL(String(address));
      if (options?.method === "GET") sinces.push(searchParams.get("since") ?? "");
      return fetch(address, options);
    });
    const page = pausedAt(
      one,
      ({ ids, checkpoint }) => ids.includes("gone") && checkpoint?.starting === false,
    );
    sinces.length = 0;
    await page.goOn();
    await until("it was paused", () => page.dropped);
    expect(sinces).toContain(""); // its cursor was not known
    sinces.length = 0;
    await page.goOn();
    expect(await handedAfter(one, page.all)).toEqual([]);
    expect(await idsOf(one)).toEqual(stays);
    expect(sinces).not.toContain("");
  });

  it("is told of what is gone until it is known that nothing else is, and no longer", async () => {
    const answering = gate();
    let [holding, asked] = [false, false];
    const { one, token } = await behind(100, async (address, options) => {
      const answer = await fetch(address, options);
      if (holding && new URL(String(address)).searchParams.get("since") === "") {
        asked = true;
        await answering.open;
      }
      return answer;
    });
    const page = pausedAt(one, () => false);
    holding = true;
    await page.goOn();
    await until("it has asked for all", () => asked);
    await one.tasks.insert({ id: "mine", title: "Not in that" });
    await until("it was sent", async () => "mine" in (await onServer(token)));
    await one.replication.state.internalReplicationState?.streamQueue.up;
    answering.go();
    await until("it has been told", () => page.all.length > 0);
    expect(page.all[0]).toMatchObject({ ids: ["gone", ...stays], checkpoint: { unsure: true } });
    expect(await handedAfter(one, page.all)).toEqual([]);
    expect(await idsOf(one)).toEqual(["mine", ...stays]);
  });
});

/** A device with a task, one of whose pulls was asked for; what others wrote to the task comes by it when it is let go. */
async function asking(pushing: "asked" | "answered") {
  const token = await user();
  const [pulls, pushes] = [held("GET", "asked"), held("POST", pushing)];
  const fetching: typeof fetch = (address, options) =>
    (options?.method === "GET" ? pulls : pushes).fetch(address, options);
  const one = await device(token, { fetch: fetching, webSocket: null });
  await one.tasks.insert({ id: "milk", title: "Buy milk", done: false });
  await settled(one);
  pulls.holding = true;
  one.replication.state.reSync();
  await until("it has asked", () => pulls.waiting > 0);
  const replica = await others(token);
  await replica.patch("tasks", "milk", { done: true });
  await replica.sync();
  pushes.holding = true;
  const pulled = async (): Promise<void> => {
    pulls.letGo();
    await one.replication.state.internalReplicationState?.streamQueue.down;
  };
  return { token, one, pushes, pulled };
}

describe("a document that is edited back to what it was", () => {
  async function passedOver(pausing: boolean): Promise<void> {
    const { token, one, pushes, pulled } = await asking("asked");
    await one.tasks.insert({ id: "other", title: "Another" });
    await until("the other is being sent", () => pushes.waiting > 0);
    await one.tasks.findOne("milk").incrementalPatch({ title: "Buy oat milk" });
    await pulled();
    const page = pausedAt(one, ({ ids }) => pausing && ids.includes("milk"));
    await one.tasks.findOne("milk").incrementalPatch({ title: "Buy milk" });
    pushes.letGo();
    if (pausing) {
      await until("it was paused", () => page.dropped);
      await page.goOn();
    }
    await settled(one);
    expect(await onServer(token)).toMatchObject({ milk: { title: "Buy milk", done: true } });
    expect(await seen(one)).toEqual({ id: "milk", title: "Buy milk", done: true });
  }

  it("while its push is under way keeps that, and has what others wrote", async () => {
    const { token, one, pushes, pulled } = await asking("answered");
    await one.tasks.findOne("milk").incrementalPatch({ title: "Buy oat milk" });
    await until("it was sent", () => pushes.waiting > 0);
    await pulled();
    await one.tasks.findOne("milk").incrementalPatch({ title: "Buy milk" });
    pushes.letGo();
    await settled(one);
    expect(await onServer(token)).toEqual({ milk: { title: "Buy milk", done: true } });
    expect(await seen(one)).toEqual({ id: "milk", title: "Buy milk", done: true });
  });

  it("before it is pushed has what others wrote meanwhile", () => passedOver(false));

  it("has it where RxDB was paused as it was to be handed over again", () => passedOver(true));
});
