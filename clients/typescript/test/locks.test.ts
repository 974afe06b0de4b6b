/** Locks, turns and stores: what was taken is given back whatever fails, and whoever waits does so for so long only. */

import { IDBFactory } from "fake-indexeddb";
import { expect, it } from "vitest";
import {
  type Event,
  type Locks,
  NotConnected,
  Offline,
  type Replica,
  SyncBusy,
  WrongReplica,
} from "../src/index.js";
import { Mutex } from "../src/timing.js";
import { open, QUICK, until } from "./devices.js";
import { ProcessLocks } from "./locks.js";
import { page, Script } from "./script.js";
import { SocketScript } from "./socket-script.js";

/** A server that answers when it is told to. */
class Held extends Script {
  release: () => void = () => undefined;
  requests = 0;
  readonly #held = new Promise<void>((resolve) => {
    this.release = resolve;
  });

  override readonly fetch = async (): Promise<Response> => {
    this.requests += 1;
    await this.#held;
    return new Response(JSON.stringify(page()));
  };
}

const SERVER = { url: "http://server/", token: "t", retry: { attempts: 1 } };

it("a sync without a server fails as often as it is asked for, and keeps no lock", async () => {
  const replica = await open({ indexedDB: null });
  await expect(replica.sync()).rejects.toThrow(NotConnected);
  await expect(replica.sync({ patience: 500 })).rejects.toThrow(NotConnected);
});

const BOTH: [string, Locks | undefined][] = [
  ["without Web Locks", undefined],
  ["with locks", new ProcessLocks()],
];

it.each([
  ...BOTH,
  [
    "with locks that heed no signal",
    { request: (name, _, held) => new ProcessLocks().request(name, {}, held) },
  ],
] as [string, Locks | undefined][])(
  "a sync beside another one waits for its patience (%s)",
  async (_name, locks) => {
    const server = new Held();
    const replica = await open({ ...SERVER, fetch: server.fetch, ...(locks ? { locks } : {}) });
    const first = replica.sync();
    const second = replica.sync({ patience: 100 });
    if (!locks || locks instanceof ProcessLocks) await expect(second).rejects.toThrow(SyncBusy);
    server.release();
    await first;
    await replica.sync({ patience: 5000 });
  },
);

it("a sync right after live() has its turn", async () => {
  const server = new SocketScript();
  await server.start();
  const http = new Script();
  const replica = await open({ url: server.url, token: "t", fetch: http.fetch, indexedDB: null });
  const live = replica.live({ policy: QUICK });
  expect(await replica.sync({ patience: 5000 })).toMatchObject({ requests: 1 });
  await until("live", () => live.state.name === "live");
  await replica.close();
  await server.stop();
});

it.each(BOTH)(
  "a live sync right after another one of the replica has its turn, and so has the sync after it (%s)",
  async (_name, locks) => {
    const server = new SocketScript();
    await server.start();
    const options = { url: server.url, token: "t", fetch: new Script().fetch, ...(locks ? { locks } : {}) };
    const replica = await open({ ...options, indexedDB: null });
    const followed: Event[] = [];
    replica.on((event) => event.kind === "state" && event.following && followed.push(event));
    await replica.sync();
    const first = replica.live({ policy: QUICK });
    expect(await replica.sync({ patience: 5000 })).toMatchObject({ requests: 1 });
    await until("live", () => first.state.name === "live");
    await first.close();
    const second = replica.live({ policy: QUICK });
    expect(await replica.sync({ patience: 5000 })).toMatchObject({ requests: 1 });
    await until("live again", () => second.state.name === "live");
    if (!locks) expect(followed).toEqual([]); // there is nobody to follow
    await replica.close();
    await server.stop();
  },
);

it.each(BOTH)(
  "a sync is not in the way of a live one that begins beside it, which can be closed meanwhile (%s)",
  async (_name, locks) => {
    const server = new Held();
    const replica = await open({
      ...SERVER,
      fetch: server.fetch,
      webSocket: null,
      ...(locks ? { locks } : {}),
    });
    const under = replica.sync();
    await until("it asks", () => server.requests === 1);
    await replica.live({ policy: QUICK }).close();
    const live = replica.live({ policy: QUICK });
    const after = replica.sync({ patience: 5000 });
    await expect(replica.sync({ patience: 100 })).rejects.toThrow(SyncBusy);
    server.release();
    await under;
    await after;
    await until("it polls", () => live.state.name === "polling");
  },
);

it("a sync beside an exchange of the live one waits for its patience", async () => {
  const server = new Held();
  const replica = await open({ ...SERVER, fetch: server.fetch, webSocket: null });
  replica.live({ policy: QUICK });
  await until("it asks", () => server.requests === 1);
  await expect(replica.sync({ patience: 100 })).rejects.toThrow(SyncBusy);
  server.release();
  await replica.sync({ patience: 5000 });
});

it("a lock that cannot be had once can be had again", async () => {
  const locks = new ProcessLocks();
  let failures = 2;
  const failing: Locks = {
    request: (...asked) => {
      if (failures-- > 0) throw new Error("the page is being put away");
      return locks.request(...asked);
    },
  };
  const replica = await open({ ...SERVER, fetch: new Script().fetch, locks: failing, webSocket: null });
  await expect(replica.sync()).rejects.toThrow(SyncBusy);
  const live = replica.live({ policy: QUICK });
  await until("it polls", () => live.state.name === "polling");
});

it("a turn that was not waited for is not taken, and the next one comes", async () => {
  const mutex = new Mutex();
  let release = (): void => undefined;
  const done: string[] = [];
  const first = mutex.run(() => new Promise<void>((resolve) => (release = resolve)));
  const giving = new AbortController();
  const second = mutex.run(async () => done.push("second"), giving.signal);
  const third = mutex.run(async () => done.push("third"));
  giving.abort(new SyncBusy("no"));
  await expect(second).rejects.toThrow(SyncBusy);
  release();
  await first;
  await third;
  expect(done).toEqual(["third"]);
});

it("a replica that could not be opened leaves its store to whoever comes next", async () => {
  const indexedDB = new IDBFactory();
  const before = await open({ name: "d", indexedDB, schemaVersion: 1 });
  await before.put("t", "a", { n: 1 });
  await before.close();
  const failing = {
    name: "d",
    indexedDB,
    schemaVersion: 2,
    onMigrate: () => Promise.reject(new Offline("no")),
  };
  await expect(open(failing)).rejects.toThrow(Offline);
  await expect(open({ name: "d", indexedDB, clientId: "another" })).rejects.toThrow(WrongReplica);
  await new Promise<void>((resolve, reject) => {
    const request = indexedDB.deleteDatabase("syncd:d");
    request.onsuccess = () => resolve();
    request.onblocked = () => reject(new Error("somebody has it open"));
  });
});

// -- whose a replica is --------------------------------------------------------------------------------

function tokenOf(user: string): string {
  return `h.${btoa(JSON.stringify({ sub: user }))}.s`;
}

async function ofAnn(): Promise<{ indexedDB: IDBFactory; name: string; url: string; fetch: typeof fetch }> {
  const shared = {
    indexedDB: new IDBFactory(),
    name: "ann's",
    url: "http://server/",
    fetch: new Script().fetch,
  };
  const replica = await open({ ...shared, token: tokenOf("ann") });
  await replica.put("t", "a", { n: 1 });
  return shared;
}

it("somebody else's token does not open it, in no tab", async () => {
  const shared = await ofAnn();
  await expect(open({ ...shared, token: tokenOf("bo") })).rejects.toThrow(WrongReplica);
  await expect(open({ ...shared, token: () => tokenOf("bo"), user: "bo" })).rejects.toThrow(WrongReplica);
  await expect(open({ ...shared, token: tokenOf("bo"), user: "ann" })).rejects.toThrow(WrongReplica);
  const again = await open({ ...shared, token: tokenOf("ann"), user: "ann" });
  expect((await again.get("t", "a"))?.fields).toEqual({ n: 1 });
});

it("a tab that follows ends when its token turns out to be somebody else's", async () => {
  const server = new SocketScript();
  await server.start();
  server.on.auth = [() => ({ type: "auth-ok", userId: "ann", serverTime: new Date().toISOString() })];
  const shared = { ...(await ofAnn()), url: server.url, locks: new ProcessLocks() };
  const leader = (await open({ ...shared, token: tokenOf("ann") })).live({ policy: QUICK });
  await until("live", () => leader.state.name === "live");
  const stranger = (await open({ ...shared, token: () => tokenOf("bo") })).live({ policy: QUICK });
  await until("it ends", () => stranger.state.name === "closed");
  expect(stranger.state.code).toBe("wrong_replica");
  await server.stop();
});

it("the personal space of somebody else is no space, in writes, reads and moves", async () => {
  const token = tokenOf("ann");
  const replica: Replica = await open({ url: "http://server/", token, fetch: new Script().fetch });
  const unknown = await open();
  const theirs = { space: "_personal:bo" };
  for (const one of [replica, unknown]) {
    await expect(one.put("t", "a", { n: 1 }, theirs)).rejects.toMatchObject({ code: "invalid_write" });
    await expect(one.delete("t", "a", theirs)).rejects.toMatchObject({ code: "invalid_write" });
    expect(await one.pending()).toEqual([]);
    expect(() => one.query("t", [], theirs)).toThrow("_personal:bo");
    expect(() => one.get("t", "a", theirs)).toThrow("_personal:bo");
    await expect(one.why("t", "a", theirs)).rejects.toMatchObject({ code: "invalid_query" });
    await expect(one.move("c", "_personal:bo")).rejects.toMatchObject({ code: "invalid_write" });
  }
  await replica.put("t", "a", { n: 1 }, { space: "_personal:ann" });
  expect((await replica.get("t", "a"))?.fields).toEqual({ n: 1 });
  expect(await replica.query("t", [], { space: "_personal:ann" })).toHaveLength(1);
});
