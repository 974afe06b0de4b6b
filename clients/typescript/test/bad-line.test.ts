/** A real server behind a line of 15 kB/s: whatever has to go over it gets there. */

import { afterAll, beforeAll, expect, it } from "vitest";
import { expectSame, open, until } from "./devices.js";
import { RealServer } from "./server.js";
import { SlowLine } from "./slow-line.js";

const SPEED = 15_000;

/** Text that no compression makes small. */
function noise(letters: number): string {
  return Array.from({ length: letters }, () => String.fromCharCode(33 + Math.floor(Math.random() * 90))).join(
    "",
  );
}

let server: RealServer;
let line: SlowLine;
beforeAll(async () => {
  server = await RealServer.start();
  line = await SlowLine.to(server.url, SPEED);
});
afterAll(async () => {
  await line.close();
  await server.remove();
});

it("a first live sync of 2,000 records, cut once, and a batch of 600 kB that goes whole", {
  timeout: 300_000,
}, async () => {
  const token = await server.token("ann");
  const near = await open({ url: server.url, token });
  for (let start = 0; start < 2000; start += 500) {
    await near.batch((batch) => {
      for (let n = start; n < start + 500; n++)
        batch.put("t", `r${n}`, { title: `record ${Math.random()}`, n });
    });
  }
  await near.sync();
  const far = await open({ url: line.url, token });
  const live = far.live();
  setTimeout(() => line.cut(), 5000);
  await until("all is there", async () => (await far.query("t")).length === 2000, 120_000);
  await until("live", () => live.state.name === "live", 60_000);
  await far.batch((batch) => {
    for (let n = 0; n < 20; n++) batch.put("t", `mine${n}`, { text: noise(30_000) });
  });
  expect(await live.waitUntilSynced(180_000)).toBe(true);
  await near.sync();
  await expectSame(near, far);
});
