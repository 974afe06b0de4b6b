/** RxDB itself, replicated through a real server: what is written here and there. */

import { randomUUID } from "node:crypto";
import { describe, expect, it, vi } from "vitest";
import { open, until } from "./devices.js";
import { device, line, onServer, pair, seen, server, settled, type Task, user } from "./rxdb-devices.js";

describe("two databases of RxDB", () => {
  it("have what either wrote, live", async () => {
    const token = await user();
    const [one, two] = [await device(token), await device(token)];
    await one.tasks.insert({ id: "milk", title: "Buy milk", done: false, tags: ["shop"] });
    await until("it is there", () => seen(two));
    expect(await seen(two)).toEqual({ id: "milk", title: "Buy milk", done: false, tags: ["shop"] });
    await two.tasks.findOne("milk").patch({ done: true });
    await until("it is done", async () => ((await seen(one)) as Task).done);
    expect(await seen(one)).toEqual({ id: "milk", title: "Buy milk", done: true, tags: ["shop"] });
    expect([...one.errors, ...two.errors]).toEqual([]);
  });

  it("replicate once, where they are told to", async () => {
    const token = await user();
    const one = await device(token, { live: false });
    await one.tasks.insert({ id: "milk", title: "Buy milk" });
    await until("it is over", () => one.replication.state.isStopped());
    const two = await device(token, { live: false });
    await until("it is over", () => two.replication.state.isStopped());
    const [first, second] = [await seen(one), await seen(two)];
    expect([first, second]).toEqual([
      { id: "milk", title: "Buy milk" },
      { id: "milk", title: "Buy milk" },
    ]);
  });

  it("have nothing of a deleted record when it is forgotten and made anew with fewer fields", async () => {
    const name = `rx-${randomUUID()}`;
    const token = await server.token(name);
    const one = await device(token);
    await one.tasks.insert({ id: "milk", title: "Buy milk", done: false, note: "two" });
    await settled(one);
    await one.tasks.findOne("milk").remove();
    await settled(one);
    await server.forget(`_personal:${name}`);
    const fields = { title: { value: "Buy more", at: new Date().toISOString() } };
    const made = { changeId: randomUUID(), table: "tasks", id: "milk", op: "insert", fields };
    await server.request(token, "POST", "/sync/app", { clientId: "other", changes: [made] });
    await until("it is made anew", () => seen(one));
    expect(await seen(one)).toEqual({ id: "milk", title: "Buy more" });
  });

  it("make anew themselves, whole and no more, what they deleted and is forgotten", async () => {
    const name = `rx-${randomUUID()}`;
    const token = await server.token(name);
    const [one, two] = [await device(token), await device(token)];
    for (const id of ["fewer", "same"]) await one.tasks.insert({ id, title: "Buy milk", done: false });
    await settled(one, two);
    for (const id of ["fewer", "same"]) await one.tasks.findOne(id).remove();
    await settled(one, two);
    await server.forget(`_personal:${name}`);
    const made = [
      { id: "fewer", title: "Buy more" },
      { id: "same", title: "Buy milk" },
    ];
    for (const task of made) await one.tasks.insert(task);
    await settled(one, two);
    expect(await one.replication.rejected()).toEqual([]);
    for (const task of made)
      expect([await seen(one, task.id), await seen(two, task.id)]).toEqual([task, task]);
  });

  it("make anew what a start from the beginning did not bring again", async () => {
    const name = `rx-${randomUUID()}`;
    const token = await server.token(name);
    const [one, two] = [await device(token, { autoStart: false }), await device(token)];
    await one.replication.state.start();
    await one.tasks.insert({ id: "milk", title: "Buy milk", done: false });
    await settled(one, two);
    await two.tasks.findOne("milk").remove();
    await settled(two);
    await one.replication.state.pause();
    await server.forget(`_personal:${name}`);
    await one.replication.state.start();
    await until("it is gone", async () => (await seen(one)) === null);
    await one.tasks.insert({ id: "milk", title: "Buy milk" });
    await settled(one, two);
    expect([await seen(one), await seen(two)]).toEqual([
      { id: "milk", title: "Buy milk" },
      { id: "milk", title: "Buy milk" },
    ]);
    expect(await one.replication.rejected()).toEqual([]);
  });

  it("poll where there are no sockets", async () => {
    const token = await user();
    const [one, two] = [await device(token, { webSocket: null }), await device(token, { webSocket: null })];
    await one.tasks.insert({ id: "milk", title: "Buy milk" });
    await until("it is there", () => seen(two));
    expect(await seen(two)).toEqual({ id: "milk", title: "Buy milk" });
  });

  it("write only the fields that were edited", async () => {
    const { token, one } = await pair();
    await one.tasks.findOne("milk").patch({ done: true });
    await settled(one);
    const found = (await server.request(token, "GET", "/sync/app/records/tasks/milk/history")) as {
      changes: { op: string; fields: object }[];
    };
    expect(found.changes.map(({ op, fields }) => [op, Object.keys(fields).sort()])).toEqual([
      ["update", ["done"]],
      ["insert", ["deletedAt", "done", "title"]],
    ]);
  });

  it("merge what was edited offline, field by field, the later edit of one field winning", async () => {
    const { token, one, two, lines } = await pair();
    for (const own of lines) own.cut = true;
    await one.tasks.findOne("milk").patch({ title: "Buy oat milk", note: "from one" });
    await new Promise((resolve) => setTimeout(resolve, 20));
    await two.tasks.findOne("milk").patch({ done: true, note: "from two" });
    for (const own of lines.reverse()) {
      own.cut = false; // the later edit comes first: the earlier one must lose all the same
      await settled(own === lines[0] ? two : one);
    }
    await settled(one, two);
    const expected = { title: "Buy oat milk", done: true, note: "from two" };
    expect(await seen(one)).toEqual({ id: "milk", ...expected });
    expect(await seen(two)).toEqual({ id: "milk", ...expected });
    expect(await onServer(token)).toEqual({ milk: expected });
  });

  it("keep an edit that was not sent yet while others edit the same document", async () => {
    const { one, two, lines } = await pair();
    lines[0].cut = true;
    await one.tasks.findOne("milk").patch({ title: "Buy oat milk" });
    await two.tasks.findOne("milk").patch({ done: true });
    await settled(two);
    lines[0].cut = false;
    await settled(one, two);
    expect(await seen(one)).toEqual({ id: "milk", title: "Buy oat milk", done: true });
    expect(await seen(two)).toEqual(await seen(one));
  });

  it("delete, and bring back", async () => {
    const { token, one, two } = await pair();
    await one.tasks.findOne("milk").remove();
    await until("it is gone", async () => (await seen(two)) === null);
    expect(await onServer(token)).toEqual({});
    await two.tasks.insert({ id: "milk", title: "Buy milk again" });
    await until("it is back", () => seen(one));
    await settled(one, two);
    expect(await seen(one)).toMatchObject({ title: "Buy milk again" });
    expect(await seen(two)).toEqual(await seen(one));
    expect(Object.keys(await onServer(token))).toEqual(["milk"]);
  });

  it("do not bring back what somebody else deleted by editing it", async () => {
    const { one, two, lines } = await pair();
    lines[0].cut = true;
    await one.tasks.findOne("milk").patch({ title: "Buy oat milk" });
    await two.tasks.findOne("milk").remove();
    await settled(two);
    lines[0].cut = false;
    await settled(one, two);
    expect([await seen(one), await seen(two)]).toEqual([null, null]);
  });

  it("take a field away, and keep a null where the schema allows one", async () => {
    const { one, two } = await pair();
    await one.tasks.findOne("milk").modify((task) => {
      delete task.title;
      task.note = null;
      return task;
    });
    await settled(one, two);
    expect(await seen(two)).toEqual({ id: "milk", done: false, note: null });
    expect(await seen(one)).toEqual({ id: "milk", done: false, note: null });
  });

  it("hold more documents than a page", async () => {
    const token = await user();
    const one = await device(token);
    await one.tasks.bulkInsert(Array.from({ length: 257 }, (_, n) => ({ id: `t${n}`, title: String(n) })));
    await settled(one);
    const two = await device(token, { batchSize: 50 });
    await settled(two);
    expect(await two.tasks.count().exec()).toBe(257);
    expect(await seen(two, "t256")).toEqual({ id: "t256", title: "256" });
  });

  it("and our own client have the same", async () => {
    const { token, one } = await pair();
    const replica = await open({ url: server.url, token });
    await replica.sync();
    await replica.patch("tasks", "milk", { title: "From a replica" });
    await replica.sync();
    await until("it is there", async () => ((await seen(one)) as Task).title === "From a replica");
  });
});

describe("a tab that does not lead", () => {
  it("does not replicate when it is looked at", async () => {
    const token = await user();
    const page = Object.assign(new EventTarget(), { visibilityState: "visible" });
    vi.stubGlobal("document", page);
    const { tasks, replication } = await device(token);
    const { state } = replication;
    page.dispatchEvent(new Event("visibilitychange"));
    await state.startQueue;
    const [leads, replicates] = [tasks.database.isLeader(), state.wasStarted];
    vi.unstubAllGlobals();
    expect({ leads, replicates }).toEqual({ leads: false, replicates: false });
    await until("it leads, and replicates", () => state.wasStarted);
    expect(tasks.database.isLeader()).toBe(true);
  });
});

describe("a device with a wrong clock", () => {
  it("does not lose what it edits knowingly", async () => {
    const token = await user();
    const replica = await open({ url: server.url, token, wall: () => Date.now() + 50_000 });
    await replica.put("tasks", "milk", { title: "From the future" });
    await replica.sync();
    const one = await device(token);
    await settled(one);
    await one.tasks.findOne("milk").patch({ title: "Mine" });
    await settled(one);
    expect(await seen(one)).toMatchObject({ title: "Mine" });
    expect(await onServer(token)).toEqual({ milk: { title: "Mine" } });
  });

  it("does not lose it either where the server lowers its stamp", async () => {
    const token = await user();
    const replica = await open({ url: server.url, token, wall: () => Date.now() + 40_000 });
    await replica.put("tasks", "milk", { title: "From the future" });
    await replica.sync();
    const one = await device(token);
    await settled(one);
    const clock = vi
      .spyOn(Date, "now")
      .mockImplementation(() => performance.timeOrigin + performance.now() + 600_000);
    await one.tasks.findOne("milk").patch({ title: "Mine" });
    clock.mockRestore();
    await settled(one);
    expect(await onServer(token)).toEqual({ milk: { title: "Mine" } });
  });
});

describe("one bad edit", () => {
  it("does not hold up the others", async () => {
    const token = await user();
    const own = line();
    own.cut = true;
    const one = await device(token, { fetch: own.fetch });
    await one.tasks.insert({ id: "bad", title: "no \u0000 text" });
    await one.tasks.insert({ id: "huge", title: "x".repeat(1_100_000) });
    await one.tasks.insert({ id: "good", title: "fine" });
    own.cut = false;
    await settled(one);
    expect(await onServer(token)).toEqual({ good: { title: "fine" } });
    const rejected = await one.replication.rejected();
    expect(rejected.map(({ id, code }) => [id, code]).sort()).toEqual([
      ["bad", "invalid_write"],
      ["huge", "change_too_large"],
    ]);
    expect((await one.tasks.find().exec()).map(({ id }) => id)).toEqual(["good"]);
  });
});
