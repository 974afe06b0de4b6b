/** A live sync with a server that is a script: frames, refusals, closed and dead connections. */

import { describe, expect, it, vi } from "vitest";
import { InvalidWrite, ServerBusy, StoreFailed } from "../src/errors.js";
import type { Event } from "../src/index.js";
import { endingOf } from "../src/live/reconnect.js";
import { readFrame } from "../src/live/session.js";
import { open, QUICK, until } from "./devices.js";
import { http, live, named, server } from "./live-script.js";
import { problem, wire } from "./script.js";
import { answered, changes, type Frame } from "./socket-script.js";

const AT = "2026-01-01T10:00:00.000000Z";

describe("a connection", () => {
  it("introduces itself, subscribes from the cursor, and applies what comes with its cursor", async () => {
    const { replica, live: sync } = await live();
    await named(sync, "live");
    expect(server.heard.slice(0, 2)).toEqual([
      { type: "auth", token: "t", clientId: replica.clientId, protocol: 1 },
      { type: "subscribe", appId: "app", since: "", roles: "", first: "" },
    ]);
    server.say(changes([wire("a", { n: [1, AT] })], { syncedUntil: "c7" }));
    await until("applied", async () => (await replica.get("t", "a"))?.fields.n === 1);
    server.sockets[0]?.terminate();
    await until("back", () => server.frames("subscribe").length === 2);
    expect(server.frames("subscribe")[1]?.since).toBe("c7");
  });

  it("goes on when the store fails that is told what is wrong", async () => {
    const { replica, live: sync } = await live();
    await named(sync, "live");
    const { store } = replica["exchange"].parts.device;
    const write = vi.spyOn(store, "write").mockRejectedValueOnce(new StoreFailed("it was evicted"));
    server.sockets[0]?.terminate();
    await until("the store was told", () => write.mock.calls.length > 0);
    await until("back", () => server.frames("subscribe").length === 2);
    await named(sync, "live");
  });

  it("sends what was written before, and what is written now, at once", async () => {
    const replica = await open({ url: server.url, token: "t", fetch: http.fetch });
    await replica.put("t", "before", { n: 1 });
    const sync = replica.live({ policy: QUICK });
    expect(await sync.waitUntilSynced(10_000)).toBe(true);
    // A ping comes in between where the machine is slow.
    const heard = server.heard.map(({ type }) => type).filter((type) => type !== "ping");
    expect(heard.slice(0, 3)).toEqual(["auth", "push", "subscribe"]);
    await replica.put("t", "now", { n: 1 });
    expect(await sync.waitUntilSynced(10_000)).toBe(true);
    expect(server.frames("push")).toHaveLength(2);
    expect(http.asked).toEqual([]);
  });

  it("asks again for what the server had already, for its stamps", async () => {
    server.on.push = [(frame) => answered(frame, "duplicate")];
    const { replica, live: sync } = await live();
    await named(sync, "live");
    await replica.put("t", "a", { n: 1 });
    await until("subscribed again", () => server.frames("subscribe").length === 2);
    expect(await sync.waitUntilSynced(10_000)).toBe(true);
  });

  it.each(["applied", "duplicate"])(
    "keeps its own write that was taken (%s) while it was put out of the space and in again",
    async (status) => {
      const old = wire("a", { n: [0, AT] }, { spaceId: "s" });
      server.on.subscribe = [() => changes([old], { spaces: { joined: ["s"] } })];
      const { replica, live: sync } = await live();
      await named(sync, "live");
      server.on.push = [
        (frame) => {
          server.say(changes([], { spaces: { left: ["s"] }, syncedUntil: "c2" }));
          server.say(changes([old], { spaces: { joined: ["s"] }, syncedUntil: "c3" }));
          return answered(frame, status);
        },
      ];
      const seen: string[] = [];
      replica.on((event) => event.kind === "answered" && seen.push(event.kind));
      await replica.batch((batch) => {
        batch.patch("t", "a", { n: 1 }, { space: "s" });
        batch.put("t", "mine", { n: 1 });
      });
      await until("answered", () => seen.length === 1);
      expect(await sync.waitUntilSynced(10_000)).toBe(true);
      const row = await replica.get("t", "a", { space: "s" });
      // What the server had already comes with the delta, which this server leaves out.
      expect(row?.fields).toEqual(status === "applied" ? { n: 1 } : { n: 0 });
      expect([await replica.rejected(), await replica.keptAside()]).toEqual([[], []]);
    },
  );

  it("sends a write to a space that was not named yet without a subscription, and believes what it then reads", async () => {
    const { replica, live: sync } = await live();
    await named(sync, "live");
    const joined = { spaces: { joined: ["s"] } };
    server.on.subscribe = [() => changes([wire("other", { n: [2, AT] }, { spaceId: "s" })], joined)];
    await replica.put("t", "a", { n: 1 }, { space: "s" });
    expect(await sync.waitUntilSynced(30_000)).toBe(true);
    const kinds = (): string[] => server.heard.map(({ type }) => type).filter((type) => type !== "ping");
    expect(kinds()).toEqual(["auth", "subscribe", "unsubscribe", "push", "subscribe"]);
    expect(await replica.get("t", "a", { space: "s" })).toBeNull();
    expect((await replica.get("t", "other", { space: "s" }))?.fields).toEqual({ n: 2 });
    await replica.put("t", "b", { n: 1 }, { space: "s" });
    expect(await sync.waitUntilSynced(30_000)).toBe(true);
    expect((await replica.get("t", "b", { space: "s" }))?.fields).toEqual({ n: 1 });
    expect(kinds().slice(5)).toEqual(["push"]);
  });

  it("lets the first page name the spaces before it sends what is written to one", async () => {
    server.on.subscribe = [() => null];
    const { replica, live: sync } = await live();
    await until("subscribed", () => server.frames("subscribe").length === 1);
    await replica.put("t", "a", { n: 1 }, { space: "s" });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(server.frames("push")).toEqual([]);
    server.say(changes([], { hasMore: true, spaces: { joined: ["s"] } }));
    await until("pushed", () => server.frames("push").length === 1);
    server.say(changes([], { syncedUntil: "c2" }));
    expect(await sync.waitUntilSynced(30_000)).toBe(true);
    expect(server.frames("unsubscribe")).toEqual([]);
    expect((await replica.get("t", "a", { space: "s" }))?.fields).toEqual({ n: 1 });
  });

  it("lets a later write win that waited behind one on its way, when it is sent again", async () => {
    const old = wire("a", { n: [0, AT] }, { spaceId: "s" });
    server.on.subscribe = [() => changes([old], { spaces: { joined: ["s"] } })];
    const { replica, live: sync } = await live();
    await named(sync, "live");
    server.on.push = [() => null];
    await replica.patch("t", "a", { n: 1 }, { space: "s" });
    await until("on its way", () => server.frames("push").length === 1);
    await replica.patch("t", "a", { n: 2 }, { space: "s" });
    server.say(changes([], { spaces: { left: ["s"] }, syncedUntil: "c2" }));
    server.say(changes([old], { spaces: { joined: ["s"] }, syncedUntil: "c3" }));
    server.say(answered(server.frames("push")[0] as Frame));
    await until("answered", async () => (await replica.keptAside()).length === 1);
    const shown = async () => (await replica.get("t", "a", { space: "s" }))?.fields;
    expect(await shown()).toEqual({ n: 1 });
    const taken = (await replica.registers("t", "a", { space: "s" })).get("n")?.at as string;
    await replica.requeue((await replica.keptAside())[0]?.changeId ?? "");
    expect(await shown()).toEqual({ n: 2 });
    expect(await sync.waitUntilSynced(10_000)).toBe(true);
    expect(await shown()).toEqual({ n: 2 });
    const again = server.frames("push")[1] as { changes: { fields: { n: { at: string } } }[] } | undefined;
    expect((again?.changes[0]?.fields.n.at ?? "") > taken).toBe(true);
  });

  it("keeps nothing of a space that it was put out of while its write was taken", async () => {
    server.on.subscribe = [() => changes([], { spaces: { joined: ["s"] } })];
    const { replica, live: sync } = await live();
    await named(sync, "live");
    server.on.push = [
      (frame) => {
        server.say(changes([], { spaces: { left: ["s"] }, syncedUntil: "c2" }));
        return answered(frame);
      },
    ];
    await replica.put("t", "a", { n: 1 }, { space: "s" });
    await until("left", async () => (await replica.spaces()).length === 0);
    expect(await sync.waitUntilSynced(10_000)).toBe(true);
    await until("forgotten", async () => (await replica.keptAside()).length === 0);
    expect(await replica.get("t", "a", { space: "s" })).toBeNull();
  });

  it("waits where the server is busy, and says so", async () => {
    server.on.push = [
      ({ requestId }) => ({
        type: "error",
        requestId: requestId ?? null,
        code: "busy",
        detail: "Later.",
        retryAfter: 3, // as long as the test may need to look
      }),
    ];
    const { replica, live: sync } = await live();
    await named(sync, "live");
    await replica.put("t", "a", { n: 1 });
    await named(sync, "busy");
    expect(await replica.why("t", "a")).toMatchObject({ state: "busy", code: "busy" });
    expect(await sync.waitUntilSynced(10_000)).toBe(true);
    expect(server.sockets).toHaveLength(1);
  });

  it("believes a busy server for five minutes at most", () => {
    const frame = { type: "error", appId: "app", code: "busy", detail: "Later.", retryAfter: 1e9 };
    expect(readFrame(JSON.stringify(frame), "app", null, false)).toMatchObject({ retryAfter: 300_000 });
    const busy = Object.assign(new ServerBusy("no", "busy"), { retryAfter: 1e12 });
    expect(endingOf(busy)).toMatchObject({ state: "busy", retryAfter: 300_000 });
  });

  it("has a push that is refused whole mended over HTTP, whose answer names the culprit", async () => {
    server.on.push = [
      ({ requestId }) => ({
        type: "error",
        requestId: requestId ?? null,
        code: "invalid_value",
        detail: "No.",
      }),
    ];
    http.answers.push(problem(400, "invalid_value", ["/changes/0/fields/n"]));
    const { replica, live: sync } = await live();
    await named(sync, "live");
    const changeId = await replica.put("t", "a", { n: 1 });
    await until("set aside", async () => (await replica.rejected())[0]?.changeId === changeId);
    await replica.put("t", "b", { n: 1 });
    expect(await sync.waitUntilSynced(10_000)).toBe(true);
  });

  it("begins again when the cursor is lost", async () => {
    const { replica, live: sync } = await live();
    await named(sync, "live");
    server.say(changes([wire("gone", { n: [1, AT] }), wire("kept", { n: [1, AT] })], { syncedUntil: "c9" }));
    await until("two", async () => (await replica.query("t")).length === 2);
    server.on.subscribe = [
      () => ({ type: "error", appId: "app", code: "cursor_lost", detail: "Restored." }),
      () => changes([wire("kept", { n: [1, AT] })]),
    ];
    server.sockets[0]?.terminate();
    await until("one", async () => (await replica.query("t")).length === 1);
    expect(server.frames("subscribe").map(({ since }) => since)).toEqual(["", "c9", ""]);
    await named(sync, "live");
  });

  it("that is dead is noticed, and replaced", async () => {
    const { replica, live: sync } = await live({}, { pingInterval: 50, pingTimeout: 80 });
    const codes: unknown[] = [];
    replica.on((event) => event.kind === "state" && event.code && codes.push(event.code));
    await named(sync, "live");
    server.mute = true;
    await until("offline", () => codes.length > 0);
    expect(codes[0]).toBe("silent");
    server.mute = false;
    await named(sync, "live");
    expect(server.frames("ping").length).toBeGreaterThan(0);
  });

  it("that a listening server never accepts is given up", async () => {
    server.mute = true;
    const { replica, live: sync } = await live({}, { openTimeout: 60 });
    await replica.put("t", "a", { n: 1 });
    await named(sync, "offline");
    expect(await replica.why("t", "a")).toMatchObject({ state: "offline", code: "open_timeout", pending: 1 });
  });

  it("whose push is not answered is replaced, and the push repeated as it was", async () => {
    server.on.push = [() => null];
    const { replica, live: sync } = await live({}, { answerTimeout: 100 });
    await named(sync, "live");
    await replica.put("t", "a", { n: 1 });
    expect(await sync.waitUntilSynced(10_000)).toBe(true);
    const [one, other] = server.frames("push");
    expect(one?.changes).toEqual(other?.changes);
  });

  it.each([
    [4401, "refused", "unauthorized"],
    [4429, "busy", "too_many_requests"],
    [1012, "offline", "restarting"],
  ])("closed with %i is %s, and comes back", async (code, name, because) => {
    const { replica, live: sync } = await live({}, { refusedInterval: 300, first: 300 });
    await named(sync, "live");
    const states: Event[] = [];
    replica.on((event) => event.kind === "state" && states.push(event));
    server.sockets[0]?.close(code);
    await until("told", () =>
      states.some((event) => event.kind === "state" && event.name === name && event.code === because),
    );
    await named(sync, "live");
  });
});

describe("the application", () => {
  it("may sync by hand meanwhile", async () => {
    const { replica, live: sync } = await live();
    await named(sync, "live");
    expect(await replica.sync()).toMatchObject({ requests: 1 });
    expect(() => replica.live()).toThrow("live already");
    await sync.close();
    expect(sync.state.name).toBe("closed");
    expect(await sync.waitUntilSynced()).toBe(false);
    const again = replica.live({ policy: QUICK });
    await named(again, "live");
  });

  it("refuses to be present in somebody else's own space", async () => {
    const { live: sync } = await live();
    await named(sync, "live");
    expect(() => sync.presence("_personal:somebody", { at: "a" })).toThrow(InvalidWrite);
  });

  it("hears of others' presence, and says its own after each reconnection", async () => {
    const { live: sync } = await live();
    sync.presence("s", { at: "a" });
    await until("said", () => server.frames("presence").length === 1);
    expect(server.frames("presence")[0]).toEqual({ type: "presence", spaceId: "s", state: { at: "a" } });
    server.say({ type: "presence", spaceId: "s", userId: "bo", clientId: "b1", state: { at: "b" } });
    await until("seen", () => sync.peers("s").length === 1);
    expect(sync.peers("s")).toBe(sync.peers("s"));
    server.sockets[0]?.terminate();
    await until("gone", () => sync.peers("s").length === 0);
    await until("said again", () => server.frames("presence").length === 2);
  });

  it("has listeners that fail without harm", async () => {
    const { replica, live: sync } = await live();
    const { error } = console;
    const reported: unknown[] = [];
    console.error = (...words: unknown[]) => reported.push(words);
    replica.on(() => {
      throw new Error("a bug of the application");
    });
    await replica.put("t", "a", { n: 1 });
    expect(await sync.waitUntilSynced(10_000)).toBe(true);
    await replica.close();
    console.error = error;
    expect(reported.length).toBeGreaterThan(0);
  });
});
