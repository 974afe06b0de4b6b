/** Several tabs with one store: one leads, the others follow, and a leader that is gone is replaced. */

import { IDBFactory } from "fake-indexeddb";
import { afterEach, beforeEach, expect, it } from "vitest";
import { type Live, type Replica, SyncBusy } from "../src/index.js";
import { open, QUICK, until } from "./devices.js";
import { ProcessLocks } from "./locks.js";
import { Script, wire } from "./script.js";
import { changes, SocketScript } from "./socket-script.js";

const AT = "2026-01-01T10:00:00.000000Z";
let server: SocketScript;
let tabs = 0;
beforeEach(async () => {
  server = new SocketScript();
  await server.start();
  tabs += 1;
});
afterEach(() => server.stop());

/** Opens tabs of one browser. */
function browser(): { tab: () => Promise<Replica>; locks: ProcessLocks; lock: string } {
  const [indexedDB, locks, http, name] = [new IDBFactory(), new ProcessLocks(), new Script(), `tabs-${tabs}`];
  const options = { name, indexedDB, locks, url: server.url, token: "t", fetch: http.fetch };
  return { tab: () => open(options), locks, lock: `syncd:${name}` };
}

async function named(live: Live, name: string, following: boolean): Promise<void> {
  await until(`${name} ${following}`, () => live.state.name === name && live.state.following === following);
}

it("share one connection, and one device", async () => {
  const { tab } = browser();
  const [first, second] = [await tab(), await tab()];
  expect(first.clientId).toBe(second.clientId);
  const leader = first.live({ policy: QUICK });
  await named(leader, "live", false);
  const follower = second.live({ policy: QUICK });
  await named(follower, "live", true);
  expect([leader.leading, follower.leading]).toEqual([true, false]);
  expect(server.sockets).toHaveLength(1);
});

it("see what the others write, and what the server sends, and the leader sends for all", async () => {
  const { tab } = browser();
  const [first, second] = [await tab(), await tab()];
  const leader = first.live({ policy: QUICK });
  const follower = second.live({ policy: QUICK });
  await named(leader, "live", false);
  const seen: string[] = [];
  first.query("t").subscribe((rows) => seen.push(rows.map(({ id }) => id).join()));
  second.query("t").subscribe((rows) => seen.push(rows.map(({ id }) => id).join()));
  await until("both read", () => seen.length === 2);
  await second.put("t", "a", { n: 1 });
  await until("both see it", () => seen.filter((ids) => ids === "a").length === 2);
  await until("the leader sends it", () => server.frames("push").length === 1);
  server.say(changes([wire("b", { n: [1, AT] })]));
  await until("both see the server's", () => seen.filter((ids) => ids === "a,b").length === 2);
  expect(await follower.waitUntilSynced(10_000)).toBe(true);
});

it("replace a leader that was closed", async () => {
  const { tab } = browser();
  const [first, second] = [await tab(), await tab()];
  const leader = first.live({ policy: QUICK });
  await named(leader, "live", false);
  const follower = second.live({ policy: QUICK });
  await named(follower, "live", true);
  follower.presence("s", { at: "a" });
  await until("the leader says it", () => server.frames("presence").length === 1);
  await first.close();
  await named(follower, "live", false);
  await until("the new one too", () => server.frames("presence").length === 2);
  await second.put("t", "a", { n: 1 });
  expect(await follower.waitUntilSynced(10_000)).toBe(true);
});

it("replace a leader that crashed", async () => {
  const { tab, locks, lock } = browser();
  const [first, second] = [await tab(), await tab()];
  await named(first.live({ policy: QUICK }), "live", false);
  const follower = second.live({ policy: QUICK });
  await named(follower, "live", true);
  locks.crash(lock);
  await named(follower, "live", false);
});

it("tell each other of presence", async () => {
  const { tab } = browser();
  const [first, second, third] = [await tab(), await tab(), await tab()];
  await named(first.live({ policy: QUICK }), "live", false);
  const follower = second.live({ policy: QUICK });
  await named(follower, "live", true);
  server.say({ type: "presence", spaceId: "s", userId: "bo", clientId: "b1", state: { at: "b" } });
  await until("seen", () => follower.peers("s").length === 1);
  const late = third.live({ policy: QUICK });
  await until("seen by one that comes later", () => late.peers("s").length === 1);
});

it("sync by hand where none is live, and are told who is at it where one is", async () => {
  const { tab } = browser();
  const [first, second] = [await tab(), await tab()];
  await first.put("t", "a", { n: 1 });
  expect((await second.sync()).pushed).toBe(1);
  await named(first.live({ policy: QUICK }), "live", false);
  await expect(second.sync({ patience: 50 })).rejects.toThrow(SyncBusy);
});

it("a sync by hand in a tab that follows has its turn when that tab takes over", async () => {
  const { tab } = browser();
  const [first, second] = [await tab(), await tab()];
  await named(first.live({ policy: QUICK }), "live", false);
  const follower = second.live({ policy: QUICK });
  await named(follower, "live", true);
  const synced = second.sync({ patience: 5000 });
  await first.close();
  expect(await synced).toMatchObject({ requests: 1 });
  await named(follower, "live", false);
});
