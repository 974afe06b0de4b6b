/** A sync as an exchange with a server that is a script: what is asked, and what each answer changes. */

import { describe, expect, it } from "vitest";
import {
  BadReply,
  NotAllowed,
  NotConnected,
  Offline,
  Refused,
  ServerBusy,
  WrongReplica,
} from "../src/index.js";
import { open } from "./devices.js";
import { AT, AT_ONCE, fieldsOf, LOST, page, problem, results, scripted, wire } from "./script.js";

const YEARS = 3 * 365 * 86_400_000;

/** Retry-After and Date of a server whose clock is `ahead` of this one by so many milliseconds. */
function dates(ahead: number, wait: number): string[] {
  const now = Date.now() + ahead;
  return [now + wait, now].map((instant) => new Date(instant).toUTCString());
}

describe("a sync", () => {
  it("sends what is pending, then fetches the rest", async () => {
    const { replica, script } = await scripted();
    await replica.put("t", "a", { n: 1 });
    const first = { hasMore: true, syncedUntil: "c1", spaces: { joined: ["_personal:u"] } };
    script.answers.push((body) => results(body, "applied", first));
    script.answers.push(page([wire("b", { n: [2, AT] })], { syncedUntil: "c2" }));
    const report = await replica.sync();
    expect(report).toMatchObject({ pushed: 1, pulled: 1, requests: 2 });
    const [push, pull] = script.asked;
    expect([push?.method, push?.url.pathname, pull?.url.pathname]).toEqual([
      "POST",
      "/sync/app",
      "/sync/app/pull",
    ]);
    expect(push?.headers.get("authorization")).toBe("Bearer t");
    expect(script.pushes[0]?.clientId).toBe(replica.clientId);
    expect(push?.headers.get("x-sync-protocol")).toBe("1");
    expect(pull?.url.searchParams.get("since")).toBe("c1");
    expect(await fieldsOf(replica, "b")).toEqual({ n: 2 });
    expect((await replica.why("t", "a")).state).toBe("synced");
    await replica.sync();
    expect(script.pulls.at(-1)?.searchParams.get("since")).toBe("c2");
  });

  it("never splits a batch, and marks it as one", async () => {
    const { replica, script } = await scripted({ limits: { pushChanges: 3 } });
    await replica.put("t", "a", { n: 1 });
    await replica.batch((batch) => {
      for (const id of ["x", "y", "z"]) batch.put("t", id, { n: 1 });
    });
    await replica.sync();
    expect(script.pushes.map(({ changes }) => changes.length)).toEqual([1, 3]);
    expect(script.pushes.map(({ atomic }) => atomic)).toEqual([undefined, true]);
  });

  it("sends a batch that is larger than a push as one", async () => {
    const { replica, script } = await scripted({ limits: { pushBytes: 200 } });
    await replica.batch((batch) => {
      for (const id of ["x", "y", "z"]) batch.put("t", id, { n: "x".repeat(100) });
    });
    await replica.put("t", "alone", { n: 1 });
    await replica.sync();
    expect(script.pushes.map(({ changes }) => changes.map(({ id }) => id))).toEqual([
      ["x", "y", "z"],
      ["alone"],
    ]);
    expect(script.pushes.map(({ atomic }) => atomic)).toEqual([true, undefined]);
  });

  it("writes over a stamp that its own clock is far behind, by a microsecond", async () => {
    const { replica, script } = await scripted({ wall: () => Date.parse(AT) });
    script.answers.push(page([wire("a", { n: [1, "2027-01-01T10:00:00.000000Z"] }, { clientId: "~" })]));
    await replica.pull();
    await replica.patch("t", "a", { n: 2 });
    expect(await fieldsOf(replica)).toEqual({ n: 2 });
    expect((await replica.registers("t", "a")).get("n")?.at).toBe("2027-01-01T10:00:00.000001Z");
  });

  it("sends the same bytes again when the answer was lost, and has one effect", async () => {
    const { replica, script } = await scripted();
    await replica.put("t", "a", { n: 1 });
    script.answers.push(new TypeError("network"), (body) => results(body, "duplicate", { hasMore: true }));
    script.answers.push((): never => {
      throw new TypeError("network");
    });
    const own = (at: string): object => ({
      clientId: replica.clientId,
      changeId: script.pushes[0]?.changes[0]?.changeId,
      at,
    });
    script.answers.push(() => page([wire("a", { n: [1, AT] }, own(AT) as Record<string, string>)]));
    await replica.sync();
    expect(script.pushes[0]?.changes).toEqual(script.pushes[1]?.changes);
    expect(await replica.pending()).toEqual([]);
    expect(await fieldsOf(replica)).toEqual({ n: 1 });
    expect((await replica.why("t", "a")).state).toBe("synced");
  });

  it("adopts a stamp that the server lowered", async () => {
    const { replica, script } = await scripted({ wall: () => Date.parse("2030-01-01T00:00:00Z") });
    await replica.put("t", "a", { n: 1 });
    script.answers.push((body) => {
      const [change] = body?.changes ?? [];
      const at = { n: AT, deletedAt: AT };
      return page([], {
        results: [{ changeId: change?.changeId ?? "", status: "applied", at }],
        conflicts: [],
      });
    });
    await replica.sync();
    expect((await replica.registers("t", "a")).get("n")).toMatchObject({
      at: AT,
      sent: "2030-01-01T00:00:00.000000Z",
    });
    expect((await replica.why("t", "a")).state).toBe("clock_lowered");
  });

  it("lets the greater stamp win, and its own unsent write a tie", async () => {
    const { replica, script } = await scripted({ wall: () => Date.parse(AT), clientId: "me" });
    await replica.put("t", "a", { n: "mine", m: "mine" });
    const later = "2026-01-01T10:00:00.000001Z";
    script.answers.push(page([wire("a", { n: ["theirs", later], m: ["tie", AT] }, { clientId: "me" })]));
    await replica.pull();
    expect(await fieldsOf(replica)).toEqual({ n: "theirs", m: "mine" });
  });

  it("drops what it held of a record that is told of as whole, and keeps what is unsent", async () => {
    const { replica, script } = await scripted();
    const gone: [string, string] = [AT, AT];
    script.answers.push(page([wire("a", { x: ["old", AT], y: ["old", AT], deletedAt: gone })]));
    await replica.pull();
    await replica.put("t", "a", { z: "unsent" });
    expect(await fieldsOf(replica)).toEqual({ x: "old", y: "old", z: "unsent" });
    const later = "2026-01-01T11:00:00.000000Z";
    const made = wire("a", { x: ["new", later], deletedAt: [null, later] }, { op: "insert", whole: true });
    script.answers.push(page([made]));
    await replica.pull();
    expect(await fieldsOf(replica)).toEqual({ x: "new", z: "unsent" });
    expect([...(await replica.registers("t", "a")).keys()].sort()).toEqual(["deletedAt", "x", "z"]);
    script.answers.push((body) => results(body, "applied", { serverChanges: [made] }));
    await replica.sync();
    expect(await fieldsOf(replica)).toEqual({ x: "new", z: "unsent" });
  });

  it("reports conflicts and keeps them", async () => {
    const told: unknown[] = [];
    const { replica, script } = await scripted({ onConflict: (conflict: unknown) => told.push(conflict) });
    await replica.put("t", "a", { n: 1 }, { space: "s" });
    script.answers.push((body) => results(body, "superseded", { conflicts: [{ ...LOST, spaceId: "s" }] }));
    const { conflicts, superseded } = await replica.sync();
    expect(superseded).toBe(1);
    expect(conflicts).toEqual([{ kind: "lost", mine: 1, theirs: 2, ...LOST, space: "s" }]);
    expect(await replica.conflicts()).toEqual(conflicts);
    expect(told).toEqual(conflicts);
    await replica.clearConflicts();
    expect(await replica.conflicts()).toEqual([]);
  });
});

describe("failures", () => {
  it("are retried, and end with an error that says which", async () => {
    const { replica, script } = await scripted();
    await replica.put("t", "a", { n: 1 });
    script.answers.push(new TypeError("x"), new TypeError("x"), new TypeError("x"));
    await expect(replica.sync()).rejects.toThrow(Offline);
    expect((await replica.why("t", "a")).state).toBe("offline");
    script.answers.push(...[1, 2, 3].map(() => problem(503, "busy")));
    await expect(replica.sync()).rejects.toThrow(ServerBusy);
    expect(await replica.why("t", "a")).toMatchObject({ state: "busy", code: "busy", pending: 1 });
    script.answers.push(problem(429, "too_many_requests", [], { "retry-after": "7" }));
    await expect(replica.sync()).rejects.toMatchObject({ retryAfter: 7000 });
    script.answers.push(new Response("<html>"), new Response("<html>"), new Response("<html>"));
    await expect(replica.sync()).rejects.toThrow(BadReply);
    script.answers.push(page([{ nonsense: true }]));
    await expect(replica.pull()).rejects.toThrow(BadReply);
    script.answers.push(problem(404, "not_found"));
    await expect(replica.sync()).rejects.toThrow(Refused);
    await replica.sync();
    expect((await replica.why("t", "a")).state).toBe("synced");
  });

  it("with a Retry-After are waited for as long as it says", async () => {
    const { replica, script } = await scripted({ retry: { ...AT_ONCE, patience: 5000 } });
    await replica.put("t", "a", { n: 1 });
    script.answers.push(problem(429, "too_many_requests", [], { "retry-after": "1" }));
    const begun = performance.now();
    await replica.sync();
    expect(performance.now() - begun).toBeGreaterThanOrEqual(990);
    expect(script.pushes[0]?.changes).toEqual(script.pushes[1]?.changes);
    expect((await replica.why("t", "a")).state).toBe("synced");
  });

  it.each([
    ["as seconds", () => ["7"], 7000],
    ["as a date, after the answer's own", () => dates(YEARS, 7000), 7000],
    ["as a date, where the device is ahead", () => dates(-YEARS, 7000), 7000],
    ["as a date that is over", () => dates(YEARS, -7000), null],
    ["as a date far from the answer's own", () => dates(0, YEARS), YEARS],
    ["as a date alone", () => [new Date(0).toUTCString()], null],
    ["as a date beside one that is none", () => [new Date(0).toUTCString(), "now"], null],
    ["as many seconds", () => ["86400"], 86_400_000],
    ["as a word", () => ["later"], null],
  ] as [string, () => string[], number | null][])(
    "with a Retry-After say how long it is: %s",
    async (_name, said, retryAfter) => {
      const { replica, script } = await scripted({ retry: { ...AT_ONCE, attempts: 1 } });
      const [until = "", date] = said();
      const headers = { "retry-after": until, ...(date ? { date } : {}) };
      script.answers.push(problem(503, "busy", [], headers));
      await expect(replica.sync()).rejects.toMatchObject({ code: "busy", retryAfter });
    },
  );

  it("of a quota that is used up are said at once, and lose nothing", async () => {
    const { replica, script } = await scripted();
    await replica.put("t", "a", { n: 1 });
    script.answers.push(problem(507, "quota_exceeded"));
    await expect(replica.sync()).rejects.toMatchObject({ code: "quota_exceeded", status: 507 });
    const why = { state: "rejected", code: "quota_exceeded", pending: 1 };
    expect([script.asked.length, await replica.why("t", "a")]).toMatchObject([1, why]);
    await replica.sync();
    expect((await replica.why("t", "a")).state).toBe("synced");
    expect(script.pushes[0]?.changes).toEqual(script.pushes[1]?.changes);
  });

  it("of the token: a fresh one is asked for once", async () => {
    let tokens = 0;
    const { replica, script } = await scripted({ token: () => `t${++tokens}` });
    script.answers.push(problem(401, "unauthorized"));
    await replica.sync();
    expect(script.asked.map(({ headers }) => headers.get("authorization"))).toEqual([
      "Bearer t1",
      "Bearer t2",
    ]);
    script.answers.push(problem(401, "unauthorized"), problem(401, "unauthorized"));
    await expect(replica.sync()).rejects.toThrow(NotAllowed);
    const failing = await scripted({ token: () => Promise.reject(new Error("no session")) });
    await expect(failing.replica.sync()).rejects.toMatchObject({ code: "no_token" });
    await expect((await open()).sync()).rejects.toThrow(NotConnected);
  });

  it("another user's token does not get in", async () => {
    const token = (user: string): string => `h.${btoa(JSON.stringify({ sub: user }))}.s`;
    let user = "ann";
    const { replica } = await scripted({ token: () => token(user) });
    await replica.sync();
    user = "bo";
    await expect(replica.sync()).rejects.toThrow(WrongReplica);
  });

  it.each(["cursor_lost", "bad_cursor"])(
    "%s: everything comes again, what did not come is gone, unsent writes stay",
    async (code) => {
      const { replica, script } = await scripted();
      script.answers.push(page([wire("kept", { n: [1, AT] }), wire("gone", { n: [1, AT] })]));
      await replica.sync();
      await replica.patch("t", "gone", { mine: true });
      script.answers.push(
        problem(410, code),
        page([], { hasMore: true }),
        page([wire("kept", { n: [0, "2025-01-01T00:00:00Z"] })]),
      );
      const report = await replica.pull();
      expect(report.restarted).toBe(true);
      expect(script.pulls[2]?.searchParams.get("since")).toBe("");
      expect(await fieldsOf(replica, "kept")).toEqual({ n: 0 });
      expect(await fieldsOf(replica, "gone")).toEqual({ mine: true });
      expect(await replica.pending()).toHaveLength(1);
    },
  );
});

describe("a replica without IndexedDB", () => {
  it("syncs like any other", async () => {
    const { replica, script } = await scripted({ indexedDB: null });
    await replica.put("t", "a", { n: 1 });
    script.answers.push((body) => results(body), page([wire("b", { n: [9007199254740991, AT] })]));
    await Promise.all([replica.sync(), replica.sync()]);
    expect(await replica.query("t")).toHaveLength(2);
    expect(await replica.pending()).toEqual([]);
  });
});
