/** Undo: what a write was written over comes back, and what others have a part in stays. Without a server. */

import { describe, expect, it } from "vitest";
import { undo } from "../src/history.js";
import type { Json, JsonObject, Replica, ReplicaOptions } from "../src/index.js";
import { open } from "./devices.js";
import { page, problem, Script, wire } from "./script.js";

const AT = "2026-01-01T10:00:00.000000Z";
const FAR = "2099-01-01T10:00:00.000000Z";

async function scripted(
  options: Partial<ReplicaOptions> = {},
): Promise<{ replica: Replica; script: Script }> {
  const script = new Script();
  const server = { url: "http://server/", token: "t", fetch: script.fetch, retry: { attempts: 1 } };
  return { replica: await open({ ...server, indexedDB: null, ...options }), script };
}

/** What an application sees, without fields that are null. */
async function seen(replica: Replica, id = "r"): Promise<object | null> {
  const row = await replica.get("t", id);
  return row && Object.fromEntries(Object.entries(row.fields).filter(([, value]) => value !== null));
}

async function last(replica: Replica): Promise<JsonObject | undefined> {
  return (await replica.pending()).at(-1)?.change;
}

/** Others write while this device does. */
async function others(
  replica: Replica,
  script: Script,
  id: string,
  fields: { [name: string]: Json },
): Promise<void> {
  const stamped = Object.entries(fields).map(([name, value]): [string, [Json, string]] => [
    name,
    [value, FAR],
  ]);
  script.answers.push(page([wire(id, Object.fromEntries(stamped))]));
  await replica.pull();
}

describe("undo", () => {
  it("takes the last write back, and again is a redo", async () => {
    const { replica } = await scripted();
    expect(await undo(replica)).toEqual([]);
    await replica.put("t", "r", { x: 1, y: 1 });
    await replica.patch("t", "r", { x: 2, z: 2 });
    for (let turn = 0; turn < 2; turn++) {
      expect(await undo(replica)).toHaveLength(1);
      expect(await seen(replica)).toEqual({ x: 1, y: 1 });
      await undo(replica);
      expect(await seen(replica)).toEqual({ x: 2, y: 1, z: 2 });
    }
  });

  it("takes a whole batch back", async () => {
    const { replica } = await scripted({ origin: "here" });
    for (const id of ["edited", "dropped", "gone"]) await replica.put("t", id, { x: 1 });
    await replica.delete("t", "gone");
    await replica.batch((batch) => {
      batch.put("t", "new", { x: 1 });
      batch.patch("t", "edited", { x: 2 });
      batch.patch("t", "edited", { x: 3 });
      batch.delete("t", "dropped");
      batch.put("t", "gone", { x: 2 });
    });
    const names = ["edited", "dropped", "gone", "new"];
    const before = [{ x: 1 }, { x: 1 }, null, null];
    const after = [{ x: 3 }, null, { x: 2 }, { x: 1 }];
    for (const expected of [before, after, before]) {
      const done = await undo(replica);
      expect(await Promise.all(names.map((name) => seen(replica, name)))).toEqual(expected);
      const queued = (await replica.pending()).filter(({ changeId }) => done.includes(changeId));
      expect(new Set(queued.map(({ batch }) => batch)).size).toBe(1);
      expect(queued.map(({ change }) => change.origin)).toEqual(Array(4).fill("here"));
    }
  });

  it("of a field leaves what others wrote to it since, and writes back the rest", async () => {
    const { replica, script } = await scripted();
    await replica.put("t", "r", { x: 1, y: 1 });
    await replica.patch("t", "r", { x: 2, y: 2 });
    await others(replica, script, "r", { x: 3 });
    expect(await undo(replica)).toHaveLength(1);
    expect(await seen(replica)).toEqual({ x: 3, y: 1 });
    expect(Object.keys((await last(replica))?.fields as object)).toEqual(["y"]);
  });

  it("is nothing where others have written all of it since", async () => {
    const { replica, script } = await scripted();
    await replica.put("t", "r", { x: 1 });
    await replica.patch("t", "r", { x: 2 });
    await others(replica, script, "r", { x: 3 });
    expect(await undo(replica)).toEqual([]);
    expect(await seen(replica)).toEqual({ x: 3 });
  });

  it("of a new record deletes it, unless others have a part in it", async () => {
    const { replica, script } = await scripted();
    await replica.put("t", "r", { x: 1 });
    await undo(replica);
    expect(await replica.get("t", "r")).toBeNull();
    expect(await last(replica)).toMatchObject({ op: "delete" });
    expect(await last(replica)).not.toHaveProperty("fields");
    await replica.put("t", "s", { x: 1 });
    await others(replica, script, "s", { y: 3 });
    await undo(replica);
    expect((await replica.get("t", "s"))?.fields).toEqual({ x: null, y: 3 });
  });

  it("of a record that is not there any more is nothing", async () => {
    const { replica, script } = await scripted();
    const changeId = await replica.put("t", "r", { x: 1 });
    script.answers.push(problem(400, "invalid_value", ["/changes/0"]));
    await replica.sync();
    await replica.drop(changeId);
    expect(await undo(replica)).toEqual([]);
    expect(await replica.pending()).toEqual([]);
  });

  it("of a deletion brings the record back, and of bringing back deletes it", async () => {
    const { replica, script } = await scripted();
    script.answers.push(page([wire("r", { x: [1, AT] })]));
    await replica.pull();
    await replica.delete("t", "r");
    await undo(replica);
    expect(await seen(replica)).toEqual({ x: 1 });
    expect(await last(replica)).toMatchObject({ op: "update", fields: { deletedAt: { value: null } } });
    await replica.delete("t", "r");
    await replica.put("t", "r", { x: 2 });
    await undo(replica);
    expect(await replica.get("t", "r")).toBeNull();
    expect((await replica.get("t", "r", { deleted: true }))?.fields).toEqual({ x: 1 });
    expect(await last(replica)).toMatchObject({ op: "delete", fields: { x: { value: 1 } } });
  });

  it("of a put over a live record leaves it alive", async () => {
    const { replica } = await scripted();
    await replica.put("t", "r", { x: 1 });
    await replica.put("t", "r", { x: 2 });
    await undo(replica);
    expect(await seen(replica)).toEqual({ x: 1 });
    expect((await last(replica))?.fields).not.toHaveProperty("deletedAt");
  });

  it("knows its own write by the stamp that the server lowered, and not that of another", async () => {
    const { replica, script } = await scripted({ wall: () => 4_000_000_000_000 });
    await replica.put("t", "r", { x: 1 });
    await replica.patch("t", "r", { x: 2 });
    script.answers.push((body) => {
      const each = body?.changes.map(({ changeId }, place) => {
        const at = `2026-01-01T10:00:00.00000${place}Z`;
        return { changeId, status: "applied", at: place ? { x: at } : { x: at, deletedAt: at } };
      });
      return page([], { results: each as Json, conflicts: [] });
    });
    await replica.sync();
    await undo(replica);
    expect(await seen(replica)).toEqual({ x: 1 });
    await replica.patch("t", "r", { x: 5 });
    const { at } = (await replica.registers("t", "r")).get("x") ?? { at: "" };
    script.answers.push(page([wire("r", { x: [6, at] }, { clientId: "~" })]));
    await replica.pull();
    expect(await undo(replica)).toEqual([]);
    expect(await seen(replica)).toEqual({ x: 6 });
  });
});
