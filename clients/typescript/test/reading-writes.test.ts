/** Writes that are made of what was read, alone on the device; and handles of one space. */

import { expect, it } from "vitest";
import { InvalidWrite, NoSuchRecord, type Row } from "../src/index.js";
import { inSpace } from "../src/spaces.js";
import { open } from "./devices.js";

function oneMore({ fields }: Row<{ [field: string]: unknown }>): { n: number } {
  return { n: (fields.n as number) + 1 };
}

it("updates that are made at once all count", async () => {
  const replica = await open();
  await replica.put("t", "r", { n: 0, other: 1 });
  await Promise.all(Array.from({ length: 10 }, () => replica.update("t", "r", oneMore)));
  expect((await replica.get("t", "r"))?.fields).toEqual({ n: 10, other: 1 });
});

it("what a batch has read stands when it is written", async () => {
  const replica = await open();
  for (const id of ["a", "b"]) await replica.put("t", id, { n: 50 });
  let turns = 0;
  const move = (): Promise<string[]> =>
    replica.batch(async (batch) => {
      turns += 1;
      const [a, b] = await Promise.all([batch.get("t", "a"), batch.get("t", "b")]);
      batch.patch("t", "a", { n: (a?.fields.n as number) - 1 });
      batch.patch("t", "b", { n: (b?.fields.n as number) + 1 });
    });
  const written = await Promise.all(Array.from({ length: 8 }, move));
  expect(turns).toBeGreaterThan(8);
  expect(new Set(written.flat()).size).toBe(16);
  expect((await replica.query("t")).map(({ fields }) => fields.n)).toEqual([42, 58]);
});

it("what is not there, or is deleted, cannot be updated", async () => {
  const replica = await open();
  await expect(replica.update("t", "r", oneMore)).rejects.toThrow(NoSuchRecord);
  await replica.put("t", "r", { n: 0 });
  await replica.delete("t", "r");
  await expect(replica.update("t", "r", oneMore)).rejects.toThrow(NoSuchRecord);
});

it("a handle names its space everywhere", async () => {
  const replica = await open();
  const north = inSpace(replica, "north");
  await north.put("t", "r", { n: 1 });
  await north.patch("t", "r", { m: 1 });
  await north.update("t", "r", oneMore);
  expect((await north.get("t", "r"))?.fields).toEqual({ n: 2, m: 1 });
  expect(await replica.get("t", "r")).toBeNull();
  expect(await north.query("t", { n: 2 })).toEqual([await replica.get("t", "r", { space: "north" })]);
  await north.delete("t", "r");
  expect(await north.get("t", "r")).toBeNull();
  await north.undelete("t", "r");
  expect((await north.get("t", "r", { deleted: true }))?.fields).toEqual({ n: 2, m: 1 });
  expect((await replica.pending()).map(({ space }) => space)).toEqual(Array(5).fill("north"));
  await expect(inSpace(replica, "..").put("t", "r", { n: 1 })).rejects.toThrow(InvalidWrite);
});
