/** What a server that is a script refuses: set aside, fixed, moved, dropped. */

import { describe, expect, it } from "vitest";
import type { Replica } from "../src/index.js";
import { AT, fieldsOf, page, problem, results, type Script, scripted, wire } from "./script.js";

describe("what the server refuses", () => {
  async function refused(): Promise<{ replica: Replica; script: Script; changeId: string }> {
    const { replica, script } = await scripted();
    script.answers.push(page([wire("a", { n: [0, AT] })]));
    await replica.sync();
    const changeId = await replica.patch("t", "a", { n: 1 });
    await replica.put("t", "b", { n: 1 });
    script.answers.push((body) => {
      const each = body?.changes.map((change) =>
        change.id === "a"
          ? { changeId: change.changeId, status: "rejected", code: "not_a_writer", detail: "You only read." }
          : { changeId: change.changeId, status: "applied" },
      );
      return page([], { results: each ?? [], conflicts: [] });
    });
    const report = await replica.sync();
    expect(report.rejected).toEqual([changeId]);
    return { replica, script, changeId };
  }

  it("is sent again where it was too much for its push and others were taken, and kept where none was", async () => {
    const { replica, script } = await scripted();
    const ids = [await replica.put("t", "a", { n: 1 }), await replica.put("t", "b", { n: 1 })];
    const said = (changeId: string) => ({ changeId, status: "rejected", code: "push_too_large", detail: "" });
    script.answers.push(
      (body) => {
        const [first, second] = body?.changes ?? [];
        return page([], {
          results: [{ changeId: String(first?.changeId), status: "applied" }, said(String(second?.changeId))],
          conflicts: [],
          spaces: { joined: [], left: [], unreadable: ["s"] },
        });
      },
      (body) =>
        page([], { results: (body?.changes ?? []).map((c) => said(String(c.changeId))), conflicts: [] }),
    );
    const report = await replica.sync();
    expect(script.pushes.map(({ changes }) => changes.map(({ changeId }) => changeId))).toEqual([
      ids,
      [ids[1]],
    ]);
    expect(report).toMatchObject({ rejected: [ids[1]], unreadable: ["s"] });
  });

  it("is set aside alone, with its reason, and can be fixed", async () => {
    const { replica, script, changeId } = await refused();
    expect(await replica.rejected()).toMatchObject([
      { changeId, code: "not_a_writer", detail: "You only read." },
    ]);
    expect(await replica.why("t", "a")).toMatchObject({ state: "no_permission", code: "not_a_writer" });
    expect((await replica.why("t", "b")).state).toBe("synced");
    const fresh = await replica.fix(changeId, { n: 2 });
    expect(fresh).not.toBe(changeId);
    expect(await fieldsOf(replica)).toEqual({ n: 2 });
    await replica.sync();
    expect(script.pushes.at(-1)?.changes).toMatchObject([
      { changeId: fresh, op: "update", fields: { n: { value: 2 } } },
    ]);
    expect(await replica.rejected()).toEqual([]);
  });

  it("can be dropped, and the record falls back", async () => {
    const { replica, changeId } = await refused();
    expect(await fieldsOf(replica)).toEqual({ n: 1 });
    await replica.drop(changeId);
    expect(await fieldsOf(replica)).toEqual({ n: 0 });
    await expect(replica.drop(changeId)).rejects.toMatchObject({ code: "no_such_change" });
  });

  it("can be sent again, or moved", async () => {
    const { replica, script, changeId } = await refused();
    const again = await replica.requeue(changeId);
    expect((await replica.pending()).map((change) => change.changeId)).toEqual([again]);
    script.answers.push((body) => results(body, "rejected"));
    await replica.sync();
    const moved = await replica.move(again, "s2");
    expect(await replica.pending()).toMatchObject([{ changeId: moved, space: "s2" }]);
    expect(await fieldsOf(replica)).toEqual({ n: 0 });
    expect((await replica.get("t", "a", { space: "s2" }))?.fields).toEqual({ n: 1 });
  });

  it("as a whole is found by its pointer, at every place of a long queue", async () => {
    const { replica, script } = await scripted();
    const changeIds: string[] = [];
    for (let n = 0; n < 5; n++) changeIds.push(await replica.put("t", `r${n}`, { n }));
    for (const place of [3, 0])
      script.answers.push(problem(400, "invalid_value", [`/changes/${place}/fields/n`]));
    const report = await replica.sync();
    expect(report.rejected).toEqual([changeIds[3], changeIds[0]]);
    expect(report.pushed).toBe(3);
    expect(await replica.why("t", "r3")).toMatchObject({ state: "rejected", code: "invalid_value" });
  });

  it("as too large is halved until the culprit is alone", async () => {
    const { replica, script } = await scripted();
    const changeIds: string[] = [];
    for (let n = 0; n < 4; n++) changeIds.push(await replica.put("t", `r${n}`, { n }));
    const answer = (body: { changes: readonly { id?: unknown }[] } | null): Response | object =>
      body?.changes.some(({ id }) => id === "r2") ? problem(413, "body_too_large") : results(body as never);
    for (let n = 0; n < 6; n++) script.answers.push(answer as never);
    const report = await replica.sync();
    expect(report.rejected).toEqual([changeIds[2]]);
    expect(report.pushed).toBe(3);
  });

  it("takes the rest of its batch with it", async () => {
    const { replica, script } = await scripted();
    const changeIds = await replica.batch((batch) => {
      batch.put("t", "a", { n: 1 });
      batch.put("t", "b", { n: 1 });
    });
    script.answers.push(problem(422, "atomic_rejected", ["/changes/1"]));
    await replica.sync();
    expect((await replica.rejected()).map(({ changeId, code }) => [changeId, code])).toEqual([
      [changeIds[0], "batch_rejected"],
      [changeIds[1], "atomic_rejected"],
    ]);
    await replica.drop(changeIds[0] ?? "");
    expect(await replica.rejected()).toEqual([]);
    expect(await replica.query("t")).toEqual([]);
  });

  it("says what for, where all of a batch is refused for one change", async () => {
    const { replica, script } = await scripted();
    await replica.batch((batch) => {
      batch.put("t", "a", { n: 1 });
      batch.put("t", "b", { n: 1 });
    });
    const errors = [{ pointer: "/changes/0", code: "not_a_writer", detail: "You read." }];
    const body = { ...((await problem(422, "atomic_rejected").json()) as object), errors };
    script.answers.push(new Response(JSON.stringify(body), { status: 422 }));
    await replica.sync();
    expect(await replica.why("t", "a")).toMatchObject({ state: "no_permission", code: "not_a_writer" });
    expect((await replica.why("t", "b")).code).toBe("batch_rejected");
  });
});
