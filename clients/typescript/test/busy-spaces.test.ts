/** A sync ends, however fast others write: it has what was there when it began, and what came since waits for the next. */

import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import type { Replica } from "../src/index.js";
import { expectSame, open } from "./devices.js";
import { RealServer } from "./server.js";

/** A writer that goes on for so long is one that goes on for ever, for who reads one change a page. */
const PUSHES = 60;
const THERE = Array.from({ length: 9 }, (_, n) => `there-${n}`);

let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start();
});
afterAll(() => server.remove());

let users = 0;
let user = "";
let writer: Replica;
/** How often the other device wrote before an answer that was read, and how many answers to pushes are lost. */
let pushes = PUSHES;
let loses = 0;

beforeEach(async () => {
  users += 1;
  user = `busy-${users}`;
  pushes = PUSHES;
  loses = 0;
  writer = await open({ url: server.url, token: await server.token(user) });
});

async function busy(input: string | URL | Request, init?: RequestInit): Promise<Response> {
  const method = init?.method ?? "GET";
  if (method === "GET" && pushes < PUSHES) {
    pushes += 1;
    await writer.put("t", "busy", { n: pushes });
    await writer.put("t", `late-${pushes}`, { n: 1 });
    await writer.push();
  }
  const answer = await fetch(input, init);
  if (method !== "POST" || loses === 0) return answer;
  loses -= 1;
  throw new TypeError("the line broke");
}

async function device(): Promise<Replica> {
  const limits = { pullLimit: 1 };
  return open({ url: server.url, token: await server.token(user), fetch: busy, limits });
}

/** A device that has synced before, and has missed something since; from now on the other one writes. */
async function behind(): Promise<Replica> {
  const replica = await device();
  await writer.put("t", "first", { n: 1 });
  await writer.push();
  await replica.sync();
  for (const name of THERE) {
    await writer.put("t", name, { n: 1 });
    await writer.push();
  }
  pushes = 0;
  return replica;
}

async function expectWhatWasThere(replica: Replica): Promise<void> {
  expect(pushes).toBeGreaterThan(0);
  expect(pushes, "it read for as long as the other wrote").toBeLessThan(PUSHES);
  const found = (await replica.query("t")).map(({ id }) => id);
  expect(found).toEqual(expect.arrayContaining(THERE));
}

it("a sync ends with what was there when it began", async () => {
  const replica = await behind();
  await replica.sync();
  await expectWhatWasThere(replica);
  pushes = PUSHES;
  await replica.sync();
  await writer.sync();
  await expectSame(replica, writer);
});

it("a first sync ends too", async () => {
  await behind();
  const fresh = await device();
  await fresh.sync();
  await expectWhatWasThere(fresh);
});

it("a repeated change is settled by what was there", async () => {
  const replica = await behind();
  await writer.batch((batch) => {
    for (let n = 0; n < 1000; n += 1) batch.put("t", `many-${n}`, { n });
  });
  await writer.push();
  for (let n = 0; n < 3; n += 1) {
    await writer.put("t", `more-${n}`, { n });
    await writer.push();
  }
  loses = 1;
  await replica.put("t", "own", { n: 1 });
  const report = await replica.sync();
  await expectWhatWasThere(replica);
  expect(report.duplicates).toBe(1);
  expect(await replica.pending()).toEqual([]);
  expect((await replica.get("t", "own"))?.fields).toEqual({ n: 1 });
});
