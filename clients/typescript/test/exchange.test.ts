/** What a sync asks and what each kind of answer does to the replica: the cases that the Python client's tests have, too. */

import { describe, expect, it } from "vitest";
import {
  BadReply,
  type Json,
  type JsonObject,
  NotAllowed,
  Refused,
  type Replica,
  type ReplicaOptions,
  ServerBusy,
} from "../src/index.js";
import { applyPage } from "../src/sync/apply.js";
import { readPage } from "../src/sync/reply.js";
import { open } from "./devices.js";
import { type PushBody, page, problem, results, Script, wire } from "./script.js";

const [AT, LATER] = ["2026-01-01T10:00:00.000000Z", "2026-01-01T10:00:01.000000Z"];
const NOW = Date.parse("2026-09-21T12:00:00Z");
const AHEAD = NOW + 3 * 365 * 86_400_000;

async function scripted(
  options: Partial<ReplicaOptions> = {},
): Promise<{ replica: Replica; script: Script }> {
  const script = new Script();
  const server = { url: "http://server/", token: "t", fetch: script.fetch, indexedDB: null };
  const retry = { attempts: 3, first: 1, longest: 2, patience: 500 };
  return { replica: await open({ ...server, retry, ...options }), script };
}

async function fieldsOf(replica: Replica, id = "a"): Promise<object | undefined> {
  return (await replica.get("t", id))?.fields;
}

async function cursorOf(replica: Replica): Promise<string> {
  return replica["exchange"].parts.device.store.read(async ({ meta }) => meta.cursor);
}

/** The stamps of the field n in what waits. */
async function stamps(replica: Replica): Promise<string[]> {
  const waits = await replica.pending();
  return waits.map(({ change }) => (change.fields as { n: { at: string } }).n.at);
}

function ids({ pushes }: Script): unknown[][] {
  return pushes.map(({ changes }) => changes.map(({ id }) => id));
}

describe("a sync", () => {
  it("goes on from its cursor, page by page", async () => {
    const { replica, script } = await scripted();
    script.answers.push(
      page([wire("a", { n: [1, AT] })], { hasMore: true }),
      page([], { syncedUntil: "c2" }),
    );
    expect((await replica.sync()).pulled).toBe(1);
    await replica.pull();
    expect(script.pulls.map((url) => url.searchParams.get("since"))).toEqual(["", "c1", "c2"]);
  });

  it("leaves what is written meanwhile to the next one", async () => {
    const { replica, script } = await scripted();
    await replica.put("t", "a", { n: 1 });
    let meanwhile: Promise<unknown> = Promise.resolve();
    script.answers.push(async (body) => {
      meanwhile = replica.put("t", "b", { n: 1 });
      await meanwhile;
      return results(body);
    });
    await replica.sync();
    expect((await replica.pending()).map(({ id }) => id)).toEqual(["b"]);
    expect(ids(script)).toEqual([["a"]]);
  });

  it("of one kind does not do the other", async () => {
    const { replica, script } = await scripted();
    await replica.put("t", "a", { n: 1 });
    await replica.pull();
    expect(script.asked.map(({ method }) => method)).toEqual(["GET"]);
    script.answers.push((body) => results(body, "applied", { hasMore: true }));
    const report = await replica.push();
    expect(script.asked.map(({ method }) => method)).toEqual(["GET", "POST"]);
    expect(report).toMatchObject({ pushed: 1, pulled: 0, requests: 1, restarted: false, rejected: [] });
  });

  it("says which version, who acts and from where", async () => {
    const { replica, script } = await scripted({ schemaVersion: 3, actor: { model: "m" }, origin: "agent" });
    await replica.put("t", "a", { n: 1 });
    await replica.sync();
    const said = { schemaVersion: 3, actor: { model: "m" }, origin: "agent" };
    expect(script.pushes).toMatchObject([{ schemaVersion: 3, changes: [said] }]);
  });

  it("keeps to the limits of a push and splits no batch", async () => {
    const { replica, script } = await scripted({ limits: { pushChanges: 5 } });
    for (const [number, size] of [3, 1, 3, 5, 2, 2, 2].entries())
      await replica.batch((batch) => {
        for (let n = 0; n < size; n++) batch.put("t", `${number}-${n}`, { n });
      });
    await replica.sync();
    expect(script.pushes.map(({ changes }) => changes.length)).toEqual([4, 3, 5, 4, 2]);
    expect(script.pushes.every(({ atomic }) => atomic)).toBe(true);
  });

  it("does not make single writes all or nothing", async () => {
    const { replica, script } = await scripted();
    await replica.put("t", "a", { n: 1 });
    await replica.put("t", "b", { n: 1 });
    await replica.sync();
    expect(ids(script)).toEqual([["a", "b"]]);
    expect(script.pushes[0]).not.toHaveProperty("atomic");
  });

  it("asks for the tables that are to come first", async () => {
    const { replica, script } = await scripted({ limits: { first: "a,b", pullLimit: 7 } });
    await replica.pull();
    expect(script.pulls[0]?.search).toBe("?since=&first=a%2Cb&limit=7");
  });

  it("counts what it did, also over several pages", async () => {
    const { replica, script } = await scripted();
    for (const id of ["a", "b", "c", "d"]) await replica.put("t", id, { n: 1 });
    const statuses = ["applied", "superseded", "duplicate", "rejected"];
    const spaces = { joined: ["s", "_personal:u"], left: ["z"], unreadable: ["u"] };
    script.answers.push(
      (body) => {
        const each = body?.changes.map(({ changeId }, place) => ({
          changeId,
          status: statuses[place] as string,
        }));
        return page([wire("x", { n: [1, AT] })], { results: each ?? [], spaces, hasMore: true });
      },
      page([wire("y", { n: [1, AT] })], { spaces: { unreadable: ["u", "v"] } }),
    );
    expect(await replica.sync()).toMatchObject({
      pushed: 3,
      superseded: 1,
      duplicates: 1,
      pulled: 2,
      requests: 2,
      joined: ["s"],
      left: ["z"],
      unreadable: ["u", "v"],
    });
  });
});

describe("an answer that is wrong", () => {
  it("in one change is not applied in part", async () => {
    const { replica, script } = await scripted();
    const broken = wire("b", { n: [1, "yesterday"] });
    script.answers.push(page([wire("a", { n: [1, AT] }), broken], { syncedUntil: "c5" }));
    await expect(replica.sync()).rejects.toThrow(BadReply);
    expect([await fieldsOf(replica), await cursorOf(replica)]).toEqual([undefined, ""]);
    expect(script.asked).toHaveLength(1);
  });

  it("about other changes leaves all of them queued, and says why", async () => {
    const { replica, script } = await scripted();
    await replica.put("t", "a", { n: 1 });
    script.answers.push((body) => ({ ...results(body), results: [] }));
    await expect(replica.sync()).rejects.toThrow(BadReply);
    expect(await replica.pending()).toHaveLength(1);
    expect(await replica.why("t", "a")).toMatchObject({ state: "rejected", code: "bad_reply", pending: 1 });
  });

  it("and cannot be applied leaves nothing behind", async () => {
    const { replica, script } = await scripted();
    await replica.put("t", "a", { n: 1 });
    const { store } = replica["exchange"].parts.device;
    const all = (): Promise<unknown> =>
      store.read(async (tx) => [
        { ...tx.meta },
        await tx.all("records"),
        await tx.all("outbox"),
        await tx.all("spaces"),
      ]);
    const before = await all();
    const wanted = page([wire("b", { n: [1, AT] })], { spaces: { joined: ["s"] } });
    const failing = store.write(async (tx) => {
      await applyPage(tx, readPage(JSON.stringify(wanted), []), []);
      throw new Error("at the very end");
    });
    await expect(failing).rejects.toMatchObject({ code: "store_failed" });
    expect(await all()).toEqual(before);
    script.answers.push((body) => ({ ...results(body), ...wanted, results: results(body).results as Json }));
    await replica.sync();
    expect([await fieldsOf(replica, "b"), await replica.pending()]).toEqual([{ n: 1 }, []]);
  });

  it("twice the same changes nothing the second time", async () => {
    const { replica, script } = await scripted();
    const changes = [wire("a", { n: [1, AT] }), wire("a", { n: [2, LATER] }, { clientId: "third" })];
    script.answers.push(page(changes), page(changes));
    await replica.sync();
    const once = await replica.registers("t", "a");
    const told: unknown[] = [];
    replica.on((event) => event.kind === "changes" && told.push(event.records));
    await replica.sync();
    expect(await replica.registers("t", "a")).toEqual(once);
    expect(told.flat()).toEqual([]);
  });
});

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
    const { replica, script } = await scripted();
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

describe("stamps that the server lowered", () => {
  it("are adopted, explained, and do not win for ever", async () => {
    const { replica, script } = await scripted({ wall: () => AHEAD });
    await replica.put("t", "a", { n: 1 });
    script.answers.push(
      (body) => {
        const each = body?.changes.map(({ changeId }) => ({
          changeId,
          status: "applied",
          at: { n: AT, x: AT },
        }));
        return page([], { results: each as Json, conflicts: [] });
      },
      page([wire("a", { n: [2, LATER] })]),
    );
    await replica.sync();
    expect((await replica.why("t", "a")).state).toBe("clock_lowered");
    expect((await replica.registers("t", "a")).has("x")).toBe(false);
    await replica.sync();
    expect(await fieldsOf(replica)).toEqual({ n: 2 });
  });

  it("of a deletion are when it was deleted", async () => {
    const { replica, script } = await scripted({ wall: () => AHEAD });
    script.answers.push(page([wire("a", { n: [1, AT] })]));
    await replica.pull();
    await replica.delete("t", "a");
    script.answers.push((body) => {
      const each = body?.changes.map(({ changeId }) => ({
        changeId,
        status: "applied",
        at: { deletedAt: LATER },
      }));
      return page([], { results: each as Json, conflicts: [] });
    });
    await replica.sync();
    expect((await replica.get("t", "a", { deleted: true }))?.deletedAt).toBe(LATER);
    expect((await replica.registers("t", "a")).get("deletedAt")).toMatchObject({ value: LATER, at: LATER });
  });

  it("in the form that comes back replace the own write, where the answer was lost", async () => {
    const { replica, script } = await scripted({ wall: () => AHEAD });
    const changeId = await replica.patch("t", "a", { n: 1 });
    const [sent = ""] = await stamps(replica);
    const fields = { n: { value: 1, at: AT, sent } };
    const back = wire("a", {}, { clientId: replica.clientId, changeId, fields });
    script.answers.push(page([back, wire("a", { n: [2, LATER] })]));
    await replica.pull();
    expect(await fieldsOf(replica)).toEqual({ n: 2 });
    expect(await replica.pending()).toEqual([]);
  });
});

function answer(status: string, other: JsonObject = {}): (body: PushBody | null) => JsonObject {
  return (body) => results(body, status, other);
}

describe("what the server had already", () => {
  it("is taken from its delta, and stays in sight until that has come", async () => {
    const { replica, script } = await scripted({ wall: () => AHEAD });
    const changeIds = [await replica.patch("t", "a", { n: 1 }), await replica.patch("t", "a", { n: 2 })];
    const sent = await stamps(replica);
    const lowered = changeIds.map((changeId, place) => {
      const register = { value: place + 1, at: `2026-01-01T10:00:0${place}Z`, sent: sent[place] as string };
      return wire("a", {}, { clientId: replica.clientId, changeId, fields: { n: register } });
    });
    const seen: unknown[] = [];
    script.answers.push(answer("duplicate", { hasMore: true }), async () => {
      seen.push(await fieldsOf(replica), await replica.pending());
      return page(lowered, { syncedUntil: "c2" });
    });
    expect((await replica.sync()).duplicates).toBe(2);
    expect(seen).toEqual([{ n: 2 }, []]);
    expect((await replica.registers("t", "a")).get("n")?.at).toBe("2026-01-01T10:00:01.000000Z");
    script.answers.push(page([wire("a", { n: [3, "2026-01-01T10:00:02Z"] })]));
    await replica.pull();
    expect(await fieldsOf(replica)).toEqual({ n: 3 });
  });

  it("and that had lost does not win here", async () => {
    const { replica, script } = await scripted();
    await replica.patch("t", "a", { n: "mine" });
    script.answers.push(answer("duplicate", { serverChanges: [wire("a", { n: ["theirs", AT] })] }));
    await replica.sync();
    expect([await fieldsOf(replica), await replica.pending()]).toEqual([{ n: "theirs" }, []]);
  });

  it("is named until the cursor is past it, one change a push, 16 at most", async () => {
    const { replica, script } = await scripted({ limits: { pushChanges: 1 } });
    const named = (): unknown[] =>
      script.asked.splice(0).map(({ url, body }) => {
        return (body as { pushed?: string[] } | null)?.pushed ?? url.searchParams.getAll("pushed");
      });
    const first = await replica.put("t", "a", { n: 1 });
    script.answers.push(answer("applied", { hasMore: true }));
    await replica.push();
    expect(named()).toEqual([[]]);
    const second = await replica.put("t", "b", { n: 1 });
    script.answers.push(answer("applied", { hasMore: true }), page([], { hasMore: true }), page());
    await replica.sync();
    const [, asked] = script.pulls.slice(-2);
    expect(asked?.searchParams.get("clientId")).toBe(replica.clientId);
    expect(named()).toEqual([[first], [first, second], [first, second]]);
    await replica.sync();
    expect(script.pulls.at(-1)?.searchParams.has("clientId")).toBe(false);
    expect(named()).toEqual([[]]);
    const many: string[] = [];
    for (let n = 0; n < 18; n++) many.push(await replica.put("t", `m${n}`, { n }));
    for (let n = 0; n < 18; n++) script.answers.push(answer("applied", { hasMore: true }));
    await replica.push();
    named();
    script.answers.push(problem(410, "cursor_lost"), page(), page());
    await replica.pull();
    await replica.pull();
    expect(named()).toEqual([many.slice(-16), [], []]);
  });

  it("is not named where it was superseded, or where an answer brought all of it", async () => {
    const { replica, script } = await scripted();
    await replica.put("t", "a", { n: 1 });
    script.answers.push(answer("superseded", { hasMore: true }), page());
    await replica.sync();
    await replica.put("t", "b", { n: 1 });
    await replica.sync();
    await replica.pull();
    expect(script.pulls.map((url) => url.searchParams.getAll("pushed"))).toEqual([[], []]);
  });
});

describe("unsent writes", () => {
  it("win a tie, and lie apart from what is confirmed", async () => {
    const { replica, script } = await scripted();
    await replica.put("t", "a", { n: "mine", m: 1 });
    const [at = ""] = await stamps(replica);
    const twin = wire(
      "a",
      { n: ["theirs", at], k: ["k", AT] },
      { clientId: replica.clientId, changeId: null },
    );
    script.answers.push(page([twin]));
    await replica.pull();
    expect(await fieldsOf(replica)).toEqual({ n: "mine", m: 1, k: "k" });
    script.answers.push(problem(400, "invalid_value", ["/changes/0"]));
    await replica.sync();
    await replica.drop((await replica.rejected())[0]?.changeId ?? "");
    expect(await fieldsOf(replica)).toEqual({ n: "theirs", k: "k" });
  });

  it("of a refused batch are fixed or dropped whole", async () => {
    const { replica, script } = await scripted();
    const batch = await replica.batch((writes) => {
      writes.put("t", "a", { n: 1 });
      writes.delete("t", "b");
    });
    script.answers.push(problem(422, "atomic_rejected", ["/changes/0"]));
    await replica.sync();
    await replica.fix(batch[0] ?? "", { n: 2 });
    expect((await replica.pending()).map(({ id }) => id)).toEqual(["a", "b"]);
    script.answers.push(problem(422, "atomic_rejected", ["/changes/1"]));
    await replica.sync();
    await replica.drop((await replica.rejected())[0]?.changeId ?? "");
    expect([await replica.rejected(), await replica.pending()]).toEqual([[], []]);
    expect(await replica.query("t", [], { deleted: true })).toEqual([]);
  });

  it("have the last instant that there is only once in a field, and the clock comes back", async () => {
    let now = Date.parse("9999-12-31T23:59:59.999Z");
    const { replica, script } = await scripted({ wall: () => now });
    for (const n of [0, 1, 2]) await replica.put("t", "a", { n });
    script.answers.push((body) => {
      const each = body?.changes.map(({ changeId }, place) => {
        const at = `2026-09-21T12:00:00.00000${place}Z`;
        return { changeId, status: "applied", at: { n: at, deletedAt: at } };
      });
      return page([], { results: each as Json, conflicts: [] });
    });
    await replica.sync();
    now = NOW + 1000;
    await replica.put("t", "a", { n: 4 });
    await replica.put("t", "b", { n: 4 });
    const held = await Promise.all(["a", "b"].map((id) => replica.registers("t", id)));
    expect(held.map((registers) => registers.get("n")?.at)).toEqual([
      "2026-09-21T12:00:01.000000Z",
      "2026-09-21T12:00:01.000001Z",
    ]);
  });

  it("of one list are each what it was when they were written", async () => {
    const { replica, script } = await scripted();
    const tags: Json[] = ["a"];
    await replica.batch((batch) => {
      batch.put("t", "1", { tags, deep: { in: { it: tags } } });
      tags.push("b");
      batch.patch("t", "2", { tags });
      tags.push("c");
    });
    await replica.sync();
    const values = script.pushes[0]?.changes.map(
      ({ fields }) => (fields as { tags: { value: Json } }).tags.value,
    );
    expect(values).toEqual([["a"], ["a", "b"]]);
  });
});

describe("conflicts", () => {
  it("are kept in the order in which they came", async () => {
    const { replica, script } = await scripted();
    const lost = (id: string): JsonObject => ({ table: "t", id, field: "n", clientValue: 1, serverValue: 2 });
    for (const names of [["b", "a"], ["c"]]) {
      await replica.put("t", "x", { n: 1 });
      script.answers.push(answer("superseded", { conflicts: names.map(lost) }));
      await replica.sync();
    }
    expect((await replica.conflicts()).map(({ id }) => id)).toEqual(["b", "a", "c"]);
  });
});
