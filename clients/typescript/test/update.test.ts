/** Writes that are made of what was read, alone on the device; and handles of one space. */

import { expect, it } from "vitest";
import { InvalidWrite, type Row } from "../src/index.js";
import { inSpace, NoSuchRecord, update } from "../src/spaces.js";
import { open } from "./devices.js";

function oneMore({ fields }: Row<{ [field: string]: unknown }>): { n: number } {
  return { n: (fields.n as number) + 1 };
}

it("updates that are made at once all count", async () => {
  const replica = await open();
  await replica.put("t", "r", { n: 0, other: 1 });
  await Promise.all(Array.from({ length: 10 }, () => update(replica, "t", "r", oneMore)));
  expect((await replica.get("t", "r"))?.fields).toEqual({ n: 10, other: 1 });
});

it("what is not there, or is deleted, cannot be updated", async () => {
  const replica = await open();
  await expect(update(replica, "t", "r", oneMore)).rejects.toThrow(NoSuchRecord);
  await replica.put("t", "r", { n: 0 });
  await replica.delete("t", "r");
  await expect(update(replica, "t", "r", oneMore)).rejects.toThrow(NoSuchRecord);
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
