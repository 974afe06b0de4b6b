/** What comes back to a replica of its own: lowered stamps, what the server had already, unsent writes. */

import { describe, expect, it } from "vitest";
import type { Json } from "../src/index.js";
import { AHEAD, AT, answer, fieldsOf, LATER, NOW, scripted, stamps } from "./exchanges.js";
import { page, problem, wire } from "./script.js";

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
    const changeId = await replica.patch("t", "a", { n: 1 }, { upsert: true });
    const [sent = ""] = await stamps(replica);
    const fields = { n: { value: 1, at: AT, sent } };
    const back = wire("a", {}, { clientId: replica.clientId, changeId, fields });
    script.answers.push(page([back, wire("a", { n: [2, LATER] })]));
    await replica.pull();
    expect(await fieldsOf(replica)).toEqual({ n: 2 });
    expect(await replica.pending()).toEqual([]);
  });
});

describe("what the server had already", () => {
  it("is taken from its delta, and stays in sight until that has come", async () => {
    const { replica, script } = await scripted({ wall: () => AHEAD });
    const changeIds = [
      await replica.patch("t", "a", { n: 1 }, { upsert: true }),
      await replica.patch("t", "a", { n: 2 }),
    ];
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
    await replica.patch("t", "a", { n: "mine" }, { upsert: true });
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
      writes.delete("t", "b", { upsert: true });
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
      batch.patch("t", "2", { tags }, { upsert: true });
      tags.push("c");
    });
    await replica.sync();
    const values = script.pushes[0]?.changes.map(
      ({ fields }) => (fields as { tags: { value: Json } }).tags.value,
    );
    expect(values).toEqual([["a"], ["a", "b"]]);
  });
});
