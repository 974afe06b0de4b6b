/** Lines that are slow: how much goes at a time, and what is done about a socket that cannot keep up. */

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Offline, type Replica } from "../src/index.js";
import { Pace } from "../src/sync/pace.js";
import { open, QUICK, until } from "./devices.js";
import { page, Script, wire } from "./script.js";
import { answered, SocketScript } from "./socket-script.js";

const AT = "2026-01-01T10:00:00.000000Z";
const SERVER = { url: "http://server/", token: "t", retry: { attempts: 4, first: 1, longest: 2 } };

describe("the pace", () => {
  it("grows with the speed that is measured, and no faster", () => {
    const pace = new Pace(100, 5000, 1000);
    pace.took(100, 10);
    expect(pace.size).toBe(400);
    pace.took(400, 800);
    expect(pace.size).toBe(500);
    pace.took(10, 900);
    expect(pace.size).toBe(500); // so little says nothing of the line
    pace.took(500, 1);
    pace.took(2000, 1);
    expect(pace.size).toBe(5000);
  });

  it("falls with what took too long, and by half with what failed", () => {
    const pace = new Pace(1000, 5000, 1000);
    pace.took(1000, 4000);
    expect(pace.size).toBe(250);
    for (let n = 0; n < 20; n++) pace.failed();
    expect(pace.size).toBe(1);
  });

  it("gives what is on its way the time of a slow line, until it knows better", () => {
    const pace = new Pace(1000, 5000, 1000);
    expect(pace.allowance(60_000)).toBe(60_000);
    pace.took(1000, 10);
    expect(pace.allowance(60_000)).toBe(2400);
  });
});

describe("a sync", () => {
  async function scripted(options: object = {}): Promise<{ replica: Replica; script: Script }> {
    const script = new Script();
    return { replica: await open({ ...SERVER, fetch: script.fetch, ...options }), script };
  }

  function limits({ pulls }: Script): number[] {
    return pulls.map((url) => Number(url.searchParams.get("limit")));
  }

  it("asks for little first, for more where that came quickly, and for half after a failure", async () => {
    const { replica, script } = await scripted();
    const rows = (count: number, from: number): object[] =>
      Array.from({ length: count }, (_, n) => wire(`r${from + n}`, { n: [n, AT] }));
    const many = (count: number): ReturnType<typeof page> => page(rows(count, 0) as never, { hasMore: true });
    script.answers.push(many(250), many(1000), new TypeError("cut"), new Response("{", { status: 200 }));
    await replica.pull();
    expect(limits(script)).toEqual([250, 1000, 1000, 500, 250]);
  });

  it("sends 64 KiB first, and half of it when it was too slow or cut", async () => {
    const { replica, script } = await scripted();
    for (let n = 0; n < 100; n++) await replica.put("t", `r${n}`, { text: "x".repeat(1000) });
    script.answers.push(new Response("{}", { status: 408 }), new TypeError("cut"));
    await replica.push();
    const sizes = script.pushes.map((push) => JSON.stringify(push.changes).length);
    expect(sizes[0]).toBeLessThanOrEqual(65_536);
    expect(sizes[1]).toBeLessThanOrEqual(32_768);
    expect(sizes[2]).toBeLessThanOrEqual(16_384);
    expect(await replica.pending()).toEqual([]);
  });

  it("gives a push the time of a slow line, and a pull that does not move 30 seconds", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    const slow: typeof fetch = async (_url, init) => {
      await new Promise((resolve) => setTimeout(resolve, init?.body ? 50_000 : 31_000));
      const { changes = [] } = JSON.parse(String(init?.body ?? "{}")) as { changes?: { changeId: string }[] };
      const results = changes.map(({ changeId }) => ({ changeId, status: "applied" }));
      return new Response(JSON.stringify(page([], { results, conflicts: [] })));
    };
    const { replica } = await scripted({ fetch: slow, indexedDB: null, retry: { attempts: 1 } });
    for (let n = 0; n < 30; n++) await replica.put("t", `r${n}`, { text: "x".repeat(1000) });
    const over = async (work: Promise<unknown>): Promise<unknown> => {
      const seen = work.catch((error: unknown) => error);
      for (let n = 0; n < 20; n++) await vi.advanceTimersByTimeAsync(5000);
      return seen;
    };
    expect(await over(replica.push())).toMatchObject({ pushed: 30 });
    expect(await over(replica.pull())).toBeInstanceOf(Offline);
    vi.useRealTimers();
  });
});

describe("a live sync", () => {
  let server: SocketScript;
  beforeEach(async () => {
    server = new SocketScript();
    await server.start();
  });
  afterEach(() => server.stop());

  it("that dies while it catches up goes on over HTTP, which is seen to move, and comes back", async () => {
    const http = new Script();
    http.answers.push(page([wire("a", { n: [1, AT] })], { hasMore: true, syncedUntil: "h1" }));
    http.answers.push(page([wire("b", { n: [1, AT] })], { syncedUntil: "h2" }));
    server.on.subscribe = [
      (_frame, socket) => {
        setTimeout(() => socket.terminate(), 50);
        return null;
      },
    ];
    const replica = await open({ url: server.url, token: "t", fetch: http.fetch });
    const live = replica.live({ policy: QUICK });
    const names: string[] = [];
    replica.on((event) => event.kind === "state" && names.push(event.name));
    await until("live", () => live.state.name === "live");
    expect(await replica.query("t")).toHaveLength(2);
    expect(server.frames("subscribe").map(({ since }) => since)).toEqual(["", "h2"]);
    expect(names).not.toContain("offline");
  });

  it("is not taken for dead while a push may be on its way, and sends less after one that was", async () => {
    server.on.push = [
      (frame, socket) => {
        server.mute = true; // pings are behind the push
        setTimeout(() => {
          server.mute = false;
          socket.send(JSON.stringify(answered(frame)));
        }, 5000);
        return null;
      },
      () => null,
    ];
    const replica = await open({ url: server.url, token: "t" });
    const live = replica.live({
      policy: { ...QUICK, pingInterval: 100, pingTimeout: 2000, answerTimeout: 2000 },
    });
    await until("live", () => live.state.name === "live");
    await replica.batch((batch) => {
      for (let n = 0; n < 8; n++) batch.put("t", `r${n}`, { text: "x".repeat(2000) });
    });
    expect(await live.waitUntilSynced(60_000)).toBe(true);
    expect(server.sockets).toHaveLength(1);
    const { socket } = replica["exchange"].parts.device.paces;
    const before = socket.size;
    await replica.put("t", "lost", { n: 1 });
    expect(await live.waitUntilSynced(60_000)).toBe(true);
    expect(server.sockets).toHaveLength(2);
    expect(socket.size).toBeLessThanOrEqual(before / 2);
  });
});
