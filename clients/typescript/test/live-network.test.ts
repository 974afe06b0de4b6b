/** A live sync where there is no network by the browser's word, no socket, or a busy server: it ends, polls, and begins again. */

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { until } from "./devices.js";
import { http, live, named, server } from "./live-script.js";
import { page, problem } from "./script.js";

describe("the browser's word on the network", () => {
  const page = new EventTarget();
  beforeEach(() => {
    vi.stubGlobal("addEventListener", page.addEventListener.bind(page));
  });
  afterEach(() => vi.unstubAllGlobals());
  const LONG = { first: 60_000, longest: 60_000, pingInterval: 60_000 };

  it.each<[string, object]>([
    ["live", {}],
    ["polling", { webSocket: null }],
  ])("ends what is %s at once, and begins it again at once", async (name, options) => {
    const { live: sync } = await live(options, LONG);
    await named(sync, name);
    const cut = Date.now();
    page.dispatchEvent(new Event("offline"));
    await named(sync, "offline");
    expect(Date.now() - cut).toBeLessThan(1000);
    expect(sync.state.code).toBe("offline");
    const [sockets, asked] = [server.frames("auth").length, http.asked.length];
    await new Promise((resolve) => setTimeout(resolve, 600)); // three times the pause between polls
    expect([sync.state.name, server.frames("auth").length, http.asked.length]).toEqual([
      "offline",
      sockets,
      asked,
    ]);
    page.dispatchEvent(new Event("online"));
    await named(sync, name);
  });

  it("is not all: it tries again by itself", async () => {
    const { live: sync } = await live({}, { longest: 300 });
    await named(sync, "live");
    page.dispatchEvent(new Event("offline"));
    await named(sync, "offline");
    await named(sync, "live");
  });

  it("counts no more once a connection has shown it wrong", async () => {
    const { replica, live: sync } = await live({}, { longest: 300, restartSpread: 0 });
    await named(sync, "live");
    page.dispatchEvent(new Event("offline"));
    await named(sync, "offline");
    await named(sync, "live");
    const states: string[] = [];
    replica.on((event) => event.kind === "state" && states.push(`${event.name} ${event.code}`));
    server.sockets.at(-1)?.close(1012);
    await until("live again", () => states.at(-1) === "live null");
    expect(states).not.toContain("offline offline");
  });
});

describe("without sockets", () => {
  it("it polls, sends what is written at once, and tries a socket now and then", async () => {
    const { replica, live: sync } = await live(
      { webSocket: null },
      { first: 60_000, refusedInterval: 60_000 },
    );
    await named(sync, "polling");
    await replica.put("t", "a", { n: 1 });
    http.answers.push((body) =>
      body === null
        ? page()
        : page([], { results: body.changes.map(({ changeId }) => ({ changeId, status: "applied" })) }),
    );
    expect(await sync.waitUntilSynced(10_000)).toBe(true);
    const pulls = http.pulls.length;
    await until("it asks again", () => http.pulls.length > pulls);
  });

  it("waits as long as a busy server says with its own date, whatever the device's clock says", async () => {
    const date = new Date(Date.now() + 3 * 365 * 86_400_000).toUTCString();
    http.answers.push(problem(503, "busy", [], { date, "retry-after": date }));
    const { live: sync } = await live({ webSocket: null });
    await until("busy", () => http.asked.length === 1);
    await named(sync, "polling");
  });

  it("it is offline while nothing answers, and retryNow ends a pause", async () => {
    http.answers.push(...Array.from({ length: 50 }, () => new TypeError("no network")));
    const { live: sync } = await live({ webSocket: null }, { first: 60_000, longest: 60_000 });
    await named(sync, "offline");
    http.answers.length = 0;
    await until("polling", () => {
      sync.retryNow();
      return sync.state.name === "polling";
    });
  });
});
