/** A device writes to a record that was deleted before it heard of it, with a stamp from before: it is deleted there, too. */

import { afterAll, beforeAll, expect, it } from "vitest";
import { open, QUICK } from "./devices.js";
import { RealServer } from "./server.js";

let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start();
});
afterAll(() => server.remove());

it.each([
  ["new", "sync"],
  ["new", "live"],
  ["there before", "sync"],
  ["there before", "live"],
])("a write from before a deletion leaves nothing: %s, by %s", async (device, how) => {
  const user = `${device} ${how}`.replaceAll(" ", "-");
  const token = await server.token(user);
  const other = await open({ url: server.url, token });
  await other.put("t", "r", { n: 1 });
  await other.delete("t", "r");
  await other.sync();
  const wall = (): number => Date.parse("2026-01-01T10:00:00Z");
  const replica = await open({ url: server.url, token, wall });
  if (device === "there before") await replica.sync();
  await replica.put("t", "r", { n: 0 });
  if (how === "live") {
    const live = replica.live({ policy: QUICK });
    expect(await live.waitUntilSynced(30_000)).toBe(true);
    await live.close();
  }
  await replica.sync();
  expect(await replica.get("t", "r")).toBeNull();
  expect(await replica.pending()).toEqual([]);
});
