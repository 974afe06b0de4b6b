/** RxDB itself, replicated through a real server: what is pushed, pulled and edited in an unlucky order. */

import { describe, expect, it } from "vitest";
import { open, until } from "./devices.js";
import { device, gate, line, onServer, seen, server, settled, user } from "./rxdb-devices.js";

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

  it("before it is pushed has what others wrote meanwhile", async () => {
    const { token, one, pushes, pulled } = await asking("asked");
    await one.tasks.insert({ id: "other", title: "Another" });
    await until("the other is being sent", () => pushes.waiting > 0);
    await one.tasks.findOne("milk").incrementalPatch({ title: "Buy oat milk" });
    await pulled();
    await one.tasks.findOne("milk").incrementalPatch({ title: "Buy milk" });
    pushes.letGo();
    await settled(one);
    expect(await onServer(token)).toMatchObject({ milk: { title: "Buy milk", done: true } });
    expect(await seen(one)).toEqual({ id: "milk", title: "Buy milk", done: true });
  });
});
