/** What a sync asks, and what an answer that is taken or cannot be read does to the replica, as the Python client's tests have it. */

import { describe, expect, it } from "vitest";
import { BadReply, type Json, type JsonObject } from "../src/index.js";
import { applyPage } from "../src/sync/apply.js";
import { readPage } from "../src/sync/reply.js";
import { AT, answer, cursorOf, fieldsOf, ids, LATER, scripted } from "./exchanges.js";
import { page, results, wire } from "./script.js";

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
    expect(script.pulls[0]?.search).toBe("?since=&first=a%2Cb&limit=7&words=1&until=&roles=");
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
