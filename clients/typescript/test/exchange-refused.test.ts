/** What a refusal does to the replica, and a cursor that is lost, as the Python client's tests have it. */

import { describe, expect, it } from "vitest";
import { NotAllowed, Refused, ServerBusy } from "../src/index.js";
import { AT, fieldsOf, ids, scripted } from "./exchanges.js";
import { page, problem, wire } from "./script.js";

describe("a refusal", () => {
  it.each([0, 2, 4])("of the change at %d goes again without it", async (place) => {
    const { replica, script } = await scripted();
    const changeIds: string[] = [];
    for (let n = 0; n < 5; n++) changeIds.push(await replica.put("t", `${n}`, { n }));
    script.answers.push(problem(400, "invalid_value", [`/changes/${place}/fields/n/value`]));
    expect((await replica.sync()).rejected).toEqual([changeIds[place]]);
    expect(ids(script)[1]).toEqual(["0", "1", "2", "3", "4"].filter((id) => id !== `${place}`));
    const [kept] = await replica.rejected();
    expect(kept?.code).toBe("invalid_value");
    expect(kept?.detail).toContain(`/changes/${place}/fields/n/value`);
  });

  it("of one field is kept with the field", async () => {
    const { replica, script } = await scripted();
    for (const id of ["v1", "v2"]) await replica.put("visits", id, { reason: "" });
    const refused = { status: "rejected", code: "rule_refused", detail: "A visit needs a reason." };
    script.answers.push((body) => {
      const said = body?.changes.map(({ changeId, id }) => {
        return { ...refused, changeId, field: id === "v1" ? "reason" : 7 };
      });
      return page([], { results: said ?? [] });
    });
    await replica.sync();
    const kept = await replica.rejected();
    expect(kept.map(({ id, detail, field }) => [id, detail, field])).toEqual([
      ["v1", refused.detail, "reason"],
      ["v2", refused.detail, null],
    ]);
  });

  it.each<[number, string, string[]]>([
    [400, "invalid_request", ["/clientId"]],
    [400, "invalid_request", ["/changes/7"]],
    [404, "not_found", ["/changes/0"]],
    [409, "conflict", ["/changes/0"]],
  ])("%d %s that blames %j ends the sync and loses nothing", async (status, code, pointers) => {
    const { replica, script } = await scripted();
    await replica.put("t", "a", { n: 1 });
    script.answers.push(problem(status, code, pointers));
    await expect(replica.sync()).rejects.toMatchObject({ code, status });
    expect(await replica.pending()).toHaveLength(1);
    expect(script.asked).toHaveLength(1);
  });

  it.each([413, 422])("%d of what is too large is halved, down to the change that is", async (status) => {
    const { replica, script } = await scripted();
    for (let n = 0; n < 8; n++) await replica.put("t", `${n}`, { n });
    script.answers.push(problem(status, "body_too_large"), problem(status, "body_too_large"));
    await replica.sync();
    expect(script.pushes.map(({ changes }) => changes.length)).toEqual([8, 4, 2, 2, 2, 2]);
  });

  it("of one change that is too large alone sets it aside", async () => {
    const { replica, script } = await scripted({ limits: { changeBytes: 1 << 22 } });
    const large = await replica.put("t", "large", { n: "x".repeat(2_000_000) });
    await replica.put("t", "small", { n: 1 });
    script.answers.push(problem(413, "body_too_large"));
    expect((await replica.sync()).rejected).toEqual([large]);
    expect(ids(script)).toEqual([["large"], ["small"]]);
    expect(await replica.rejected()).toMatchObject([
      { changeId: large, code: "body_too_large", detail: "No." },
    ]);
  });

  it("of a pull that is too large is an error, as there is nothing to halve", async () => {
    const { replica, script } = await scripted();
    script.answers.push(problem(413, "body_too_large"));
    await expect(replica.pull()).rejects.toThrow(Refused);
  });

  it("of a batch sets all of it aside, and only it", async () => {
    const { replica, script } = await scripted();
    const first = await replica.put("t", "first", { n: 1 });
    const batch = await replica.batch((writes) => {
      writes.put("t", "a", { n: 1 }, { space: "s" });
      writes.put("t", "b", { n: 1 });
    });
    const last = await replica.put("t", "last", { n: 1 });
    script.answers.push(problem(422, "atomic_rejected", ["/changes/1"]));
    const report = await replica.sync();
    expect([...report.rejected].sort()).toEqual([...batch].sort());
    expect(script.pushes[1]?.changes.map(({ changeId }) => changeId)).toEqual([first, last]);
  });

  it("of a cursor again and again is an error, and the next sync begins anew", async () => {
    const { replica, script } = await scripted();
    script.answers.push(problem(410, "cursor_lost"), problem(410, "cursor_lost"));
    await expect(replica.sync()).rejects.toThrow(Refused);
    script.answers.push(problem(410, "cursor_lost"));
    expect((await replica.sync()).restarted).toBe(true);
  });

  it("of every copy is not asked about for ever", async () => {
    const { replica, script } = await scripted();
    const changeId = await replica.put("t", "a", { n: 1 });
    for (let n = 0; n < 9; n++) script.answers.push(problem(409, "device_copied"));
    await expect(replica.push()).rejects.toThrow(Refused);
    expect((await replica.pending()).map((queued) => queued.changeId)).toEqual([changeId]);
    expect(script.asked).toHaveLength(2);
  });

  it.each([401, 403])("%d says that there is no permission", async (status) => {
    const { replica, script } = await scripted();
    await replica.put("t", "a", { n: 1 });
    script.answers.push(problem(status, "forbidden"), problem(status, "forbidden"));
    await expect(replica.sync()).rejects.toThrow(NotAllowed);
    expect(script.asked).toHaveLength(status === 401 ? 2 : 1);
    expect(await replica.why("t", "a")).toMatchObject({ state: "no_permission", code: "forbidden" });
  });

  it("that passes is tried as often as it may be, and after an answer again", async () => {
    const { replica, script } = await scripted();
    const busy = problem(503, "busy");
    script.answers.push(problem(503, "busy"), problem(500, "internal"), page([], { hasMore: true }));
    script.answers.push(problem(503, "busy"), problem(503, "busy"), page());
    expect((await replica.pull()).requests).toBe(6);
    script.answers.push(busy, problem(503, "busy"), problem(502, "bad_gateway"));
    await expect(replica.pull()).rejects.toMatchObject({ code: "bad_gateway" });
    await expect(replica.pull()).resolves.toMatchObject({ requests: 1 });
  });

  it("with a time that is longer than it has patience for ends the sync at once", async () => {
    const { replica, script } = await scripted();
    script.answers.push(problem(503, "busy", [], { "retry-after": "1" }));
    await expect(replica.pull()).rejects.toThrow(ServerBusy);
    expect(script.asked).toHaveLength(1);
    script.answers.push(problem(503, "busy", [], { "retry-after": "0" }));
    await replica.pull();
  });
});

describe("a cursor that is lost", () => {
  it.each([
    [410, "cursor_lost"],
    [400, "bad_cursor"],
  ])("(%d %s) begins again, sends afterwards, and keeps what is unsent", async (status, code) => {
    const { replica, script } = await scripted();
    const old = ["kept", "gone", "edited"].map((id) => wire(id, { n: [1, AT] }));
    script.answers.push(page(old, { spaces: { joined: ["s"] } }));
    await replica.sync();
    await replica.put("t", "mine", { n: 2 });
    await replica.patch("t", "edited", { m: 2 });
    script.answers.push(
      problem(status, code),
      page([wire("kept", { n: [0, "2001-01-01T00:00:00Z"] })], { syncedUntil: "c8", hasMore: true }),
      page([], { syncedUntil: "c9" }),
    );
    const told: unknown[] = [];
    replica.on((event) => event.kind === "changes" && told.push(event.everything));
    const report = await replica.sync();
    expect(report).toMatchObject({ restarted: true, pushed: 2 });
    expect(script.pulls.map((url) => url.searchParams.get("since"))).toEqual(["", "", "c8"]);
    expect(script.pushes.at(-1)?.since).toBe("c9");
    const now = await Promise.all(["kept", "gone", "edited", "mine"].map((id) => fieldsOf(replica, id)));
    expect(now).toEqual([{ n: 0 }, undefined, { m: 2 }, { n: 2 }]);
    expect(told).toContain(true);
    expect(await replica.spaces()).toEqual([]);
    expect((await replica.why("t", "edited")).state).toBe("synced");
  });
});
