/** Writes to records that this device does not have. */

import { IDBFactory } from "fake-indexeddb";
import { describe, expect, it } from "vitest";
import { type Batch, NoSuchRecord, type Replica, type WriteOptions } from "../src/index.js";
import { type InSpace, inSpace } from "../src/spaces.js";
import { open } from "./devices.js";
import { AT, page, Script, wire } from "./script.js";

type To = Replica | Batch | InSpace;
const WRITES: readonly [string, (to: To, how?: WriteOptions) => unknown][] = [
  ["patch", (to, how = {}) => (to as Replica).patch("t", "r", { n: 1 }, how)],
  ["delete", (to, how = {}) => (to as Replica).delete("t", "r", how)],
  ["undelete", (to, how = {}) => (to as Replica).undelete("t", "r", how)],
];

describe.each(WRITES)("%s of a record that is not there", (_name, write) => {
  it("is told, and nothing is written", async () => {
    const replica = await open();
    await replica.put("t", "r", { n: 0 }, { space: "elsewhere" });
    await expect(write(replica)).rejects.toThrow(NoSuchRecord);
    await expect(write(inSpace(replica, "another"))).rejects.toMatchObject({ code: "no_such_record" });
    expect(await replica.pending()).toHaveLength(1);
    expect((await replica.registers("t", "r")).size).toBe(0);
  });

  it("is written all the same with upsert", async () => {
    const replica = await open();
    const changeId = await write(replica, { upsert: true });
    await write(inSpace(replica, "s"), { upsert: true });
    expect((await replica.pending()).map(({ changeId, space }) => [changeId, space])).toEqual([
      [changeId, null],
      [expect.any(String), "s"],
    ]);
  });

  it("keeps the whole batch from being written", async () => {
    const replica = await open();
    const attempt = replica.batch((batch) => {
      batch.put("t", "other", { n: 1 });
      write(batch);
    });
    await expect(attempt).rejects.toThrow(NoSuchRecord);
    expect(await replica.query("t")).toEqual([]);
    expect(await replica.pending()).toEqual([]);
    await replica.batch((batch) => void write(batch, { upsert: true }));
    expect(await replica.pending()).toHaveLength(1);
  });

  it("is one of a record that is there where the batch has put it before", async () => {
    const replica = await open();
    const changeIds = await replica.batch((batch) => {
      batch.put("t", "r", { n: 0 });
      write(batch);
      batch.patch("t", "r", { m: 1 });
    });
    expect(changeIds).toHaveLength(3);
  });
});

it("what is deleted is there", async () => {
  const replica = await open();
  await replica.put("t", "r", { n: 0 });
  await replica.delete("t", "r");
  await replica.delete("t", "r");
  await replica.patch("t", "r", { n: 1 });
  expect(await replica.get("t", "r")).toBeNull();
  await replica.undelete("t", "r");
  expect((await replica.get("t", "r"))?.fields).toEqual({ n: 1 });
});

it("it is there once it is replicated, and not when its space was left", async () => {
  const script = new Script();
  const replica = await open({ url: "http://server/", token: "t", fetch: script.fetch });
  const space = { space: "s" };
  await expect(replica.patch("t", "r", { m: 1 }, space)).rejects.toThrow(NoSuchRecord);
  script.answers.push(page([wire("r", { n: [1, AT] }, { spaceId: "s" })], { spaces: { joined: ["s"] } }));
  await replica.pull();
  await replica.patch("t", "r", { m: 1 }, space);
  expect((await replica.get("t", "r", space))?.fields).toEqual({ n: 1, m: 1 });
  script.answers.push(page([], { spaces: { left: ["s"] }, syncedUntil: "c2" }));
  await replica.pull();
  await expect(replica.patch("t", "r", { m: 2 }, space)).rejects.toThrow(NoSuchRecord);
});

it("a migration leaves out what it says of a record that went meanwhile", async () => {
  const shared = { name: "migrated", indexedDB: new IDBFactory() };
  const before = await open({ ...shared, schemaVersion: 1 });
  await before.put("t", "a", { n: 1 });
  await before.close();
  const onMigrate = (_from: number, batch: Batch): void => {
    batch.patch("t", "gone", { n: 2 });
    batch.patch("t", "a", { n: 2 });
  };
  const after = await open({ ...shared, schemaVersion: 2, onMigrate });
  expect((await after.query("t")).map(({ id, fields }) => [id, fields.n])).toEqual([["a", 2]]);
});
