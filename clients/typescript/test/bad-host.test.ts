/** A host that is not as it should be: no descriptors, a clock that is years off, a server whose database goes back. */

import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { IDBFactory } from "fake-indexeddb";
import { afterAll, beforeAll, expect, it } from "vitest";
import WebSocket from "ws";
import type { SocketConstructor } from "../src/index.js";
import { expectSame, open, QUICK, until } from "./devices.js";
import { RealServer } from "./server.js";

const YEARS = 3 * 365 * 86_400_000;
const INDEX = fileURLToPath(new URL("../dist/index.js", import.meta.url));

let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start();
});
afterAll(() => server.remove());

/** A process of its own, which takes every descriptor that it may have, and gives them back. */
const WITHOUT_DESCRIPTORS = `
import { closeSync, openSync } from "node:fs";
import { Replica } from ${JSON.stringify(INDEX)};
const [url, token] = process.argv.slice(1);
const retry = { attempts: 1 };
const replica = await Replica.open("r", { app: "app", url, token, indexedDB: null, retry });
await replica.put("t", "a", { n: 1 });
const held = [];
const take = () => { for (;;) held.push(openSync("/dev/null")); };
const said = (error) => error.code;
try { take(); } catch (error) { held.code = error.code; }
const synced = await replica.sync().catch(said);
const live = replica.live({ policy: ${JSON.stringify(QUICK)} });
while (!["offline", "polling", "busy", "refused"].includes(live.state.name)) await new Promise((done) => setTimeout(done, 10));
const { name, code } = live.state;
await replica.put("t", "b", { n: 2 });
const waiting = (await replica.pending()).length;
for (const one of held) closeSync(one);
const back = await live.waitUntilSynced(20_000);
await live.close();
const { pushed } = await replica.sync();
console.log(JSON.stringify({ full: held.code, synced, name, waiting, back, pushed, left: (await replica.pending()).length }));
await replica.close();
`;

it("a process without descriptors loses nothing, and syncs as soon as it has some", async () => {
  const token = await server.token("emfile");
  const command = 'ulimit -n 64; exec "$0" --input-type=module -e "$1" "$2" "$3"';
  const told = await promisify(execFile)("sh", [
    "-c",
    command,
    process.execPath,
    WITHOUT_DESCRIPTORS,
    server.url,
    token,
  ]);
  expect(JSON.parse(told.stdout)).toEqual({
    full: "EMFILE",
    synced: "offline",
    name: "offline",
    waiting: 2,
    back: true,
    pushed: 0,
    left: 0,
  });
});

it.each([
  ["ahead", YEARS],
  ["behind", -YEARS],
] as const)("a clock that is three years %s, and is mended", async (name, off) => {
  const own = { url: server.url, token: await server.token(`clock-${name}`) };
  const clock = { off: off as number };
  const wrong = await open({ ...own, wall: () => Date.now() + clock.off });
  const right = await open(own);
  const shown = async (n: number): Promise<void> => {
    for (const each of [wrong, right, wrong]) await each.sync();
    expect((await right.get("t", "r"))?.fields).toEqual({ n });
    await expectSame(wrong, right);
  };
  await right.put("t", "r", { n: 1 });
  await shown(1);
  await wrong.patch("t", "r", { n: 2 });
  await shown(2);
  await right.patch("t", "r", { n: 3 });
  await shown(3);
  clock.off = 0;
  await wrong.patch("t", "r", { n: 4 });
  await shown(4);
  await right.patch("t", "r", { n: 5 });
  await shown(5);
});

it("of two writes of a field, ahead and after the clock was mended, both unsent, the later stands", async () => {
  const own = { url: server.url, token: await server.token("mended") };
  const clock = { off: YEARS };
  const wrong = await open({ ...own, wall: () => Date.now() + clock.off });
  const right = await open(own);
  await wrong.put("t", "r", { n: "ahead", m: "ahead" });
  clock.off = 0;
  await wrong.patch("t", "r", { n: "mended" });
  for (const each of [wrong, right]) await each.sync();
  for (const each of [wrong, right])
    expect((await each.get("t", "r"))?.fields).toEqual({ n: "mended", m: "ahead" });
  await right.patch("t", "r", { n: "others" });
  for (const each of [right, wrong]) await each.sync();
  expect((await wrong.get("t", "r"))?.fields).toEqual({ n: "others", m: "ahead" });
  await expectSame(wrong, right);
});

it("a server whose clock goes three years forward and back while devices are live", async () => {
  const clock = await server.shiftable();
  const token = await server.token("years", "--ttl", "4000d");
  const [one, two, byHand] = [
    await open({ url: server.url, token }),
    await open({ url: server.url, token }),
    await open({ url: server.url, token }),
  ];
  const lives = [one, two].map((each) => each.live({ policy: QUICK }));
  let n = 0;
  for (const shift of [0, YEARS, 0, -YEARS, 0]) {
    writeFileSync(clock, String(shift / 1000));
    for (const each of [one, two, byHand]) {
      n += 1;
      await each.put("t", "r", { n });
      await each.put("t", `own-${n}`, { n });
      if (each === byHand) await each.sync();
      for (const live of [one, two])
        await until(`seen ${n}`, async () => (await live.get("t", "r"))?.fields.n === n);
    }
  }
  for (const live of lives) await live.close();
  for (const each of [one, two, byHand]) expect((await each.sync()).restarted).toBe(false);
  for (const each of [one, two]) await expectSame(each, byHand);
  expect((await byHand.query("t")).length).toBe(1 + n);
});

/** A line that breaks between a push's answer and the subscription. */
class Breaking extends WebSocket {
  override send(text: string): void {
    if (text.includes('"subscribe"')) this.terminate();
    else super.send(text);
  }
}

it("what was acknowledged before the cursor had come past it is missed after a restore", async () => {
  const own = { url: server.url, token: await server.token("missed") };
  const webSocket = Breaking as unknown as SocketConstructor;
  const device = (name: string, more: object = {}) => open({ ...own, name, indexedDB: stores, ...more });
  const stores = new IDBFactory();
  const [byHand, live] = [await device("by hand", { webSocket }), await device("live", { webSocket })];
  const desk = await open(own);
  for (const each of [byHand, live, desk]) await each.sync();
  await server.keep();
  for (const each of [byHand, live]) {
    await each.put("t", `gone-${each.clientId}`, { n: 1 });
    const broken = each.live({ policy: QUICK });
    await until("acknowledged", async () => (await each.pending()).length === 0);
    await broken.close();
    await each.close();
  }
  await server.restore();
  await desk.put("t", "since", { n: 2 });
  await desk.sync();
  const [again, lived] = [await device("by hand"), await device("live")];
  await again.put("t", "unsent", { n: 3 });
  expect((await again.sync()).restarted).toBe(true);
  await lived.put("t", "unsent-too", { n: 3 });
  const going = lived.live({ policy: QUICK });
  await until("begun again", async () => {
    const ids = (await lived.query("t")).map(({ id }) => id);
    return ids.includes("since") && !ids.includes(`gone-${lived.clientId}`);
  });
  expect(await going.waitUntilSynced(30_000)).toBe(true);
  await going.close();
  for (const each of [again, desk]) await each.sync();
  for (const each of [again, lived]) await expectSame(each, desk);
  expect((await desk.query("t")).length).toBe(3);
});

it("a database that goes back while devices are live: all end with what it has and what they write since", async () => {
  const own = { url: server.url, token: await server.token("restored") };
  const [one, two] = [await open(own), await open(own)];
  await one.put("t", "before", { n: 0 });
  await one.sync();
  await server.keep();
  const lives = [one, two].map((each) => each.live({ policy: QUICK }));
  let [wrote, back] = [0, false];
  const writing = (async () => {
    for (; !back || wrote < 40; wrote++) {
      await [one, two][wrote % 2]?.put("t", `w${wrote}`, { n: wrote });
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  })();
  await until("some are written", () => wrote > 5 + Math.random() * 20);
  await server.restore();
  back = true;
  await writing;
  await one.put("t", "after", { n: 1 });
  for (const live of lives) expect(await live.waitUntilSynced(30_000)).toBe(true);
  for (const live of lives) await live.close();
  for (const each of [one, two, one]) await each.sync();
  const fresh = await open(own);
  await fresh.sync();
  expect((await fresh.get("t", "after"))?.fields).toEqual({ n: 1 });
  expect((await fresh.get("t", "before"))?.fields).toEqual({ n: 0 });
  for (const each of [one, two]) await expectSame(each, fresh);
});
