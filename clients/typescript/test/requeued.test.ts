/** What the server refused: what becomes of it when it is sent again, moved, dropped, or dated anew. */

import { describe, expect, it } from "vitest";
import { readChange } from "../src/data/change.js";
import { after, formatInstant } from "../src/data/clock.js";
import { NoSuchChange } from "../src/index.js";
import { takeName } from "../src/store/copied.js";
import * as outbox from "../src/store/outbox.js";
import * as rejected from "../src/store/requeue.js";
import { redate } from "../src/store/restamp.js";
import type { Store, Transaction } from "../src/store/store.js";
import { NOW, put, seen, states, store, write } from "./queues.js";

describe("what was stopped", () => {
  const refuse = (to: Store, id = ""): Promise<unknown> =>
    to.write((tx) => outbox.reject(tx, new Map([[id, { code: "no", detail: "No." }]])));
  const requeue = (to: Store, id: string, how: rejected.Requeue = {}): ReturnType<typeof rejected.requeue> =>
    to.write((tx) => rejected.requeue(tx, id, NOW + 1000, how));

  it.each<[string, (tx: Transaction, id: string) => Promise<unknown>]>([
    ["dropped", (tx, id) => rejected.drop(tx, id, false)],
    ["requeued", (tx, id) => rejected.requeue(tx, id, NOW, {})],
  ])("alone can be %s: not what waits, nor what is not there", async (_, act) => {
    const to = store();
    const [written] = await put(to, [write("a")]);
    const tried = (id: string): Promise<unknown> => to.write((tx) => act(tx, id));
    await expect(tried(written?.changeId ?? "")).rejects.toBeInstanceOf(NoSuchChange);
    await expect(tried("nobody")).rejects.toBeInstanceOf(NoSuchChange);
    expect(await states(to)).toEqual(["a pending"]);
  });

  it("goes again with its batch, at the end, under new ids and one new name", async () => {
    const to = store();
    const [first, second] = await put(to, [write("a"), write("b")]);
    await put(to, [write("c")]);
    await refuse(to, second?.changeId);
    const { changeId, keys } = await requeue(to, second?.changeId ?? "", { fields: { n: 2 } });
    const rows = await to.read((tx) => tx.all("outbox"));
    expect(rows.map(({ id, position }) => [id, position])).toEqual([
      ["c", 3],
      ["a", 4],
      ["b", 5],
    ]);
    expect(rows[2]?.changeId).toBe(changeId);
    expect(rows[1]?.batch).toBe(rows[2]?.batch);
    expect(new Set([first?.changeId, second?.changeId, changeId, rows[1]?.changeId]).size).toBe(4);
    expect(rows.map(({ state, code, detail }) => [state, code, detail])).toEqual(
      Array(3).fill(["pending", null, null]),
    );
    expect((await seen(to, "a")).get("n")?.value).toBe(1);
    expect((await seen(to, "b")).get("n")).toMatchObject({ value: 2, at: formatInstant(NOW + 1000, 1) });
    expect(keys.map(([, , id]) => id)).toEqual(["a", "b", "a", "b"]);
  });

  it("goes again with the stamps that it has, but for what is edited", async () => {
    const to = store();
    const [written] = await put(to, [write("a", { n: 1, m: 1 })]);
    await refuse(to, written?.changeId);
    await requeue(to, written?.changeId ?? "", { fields: { n: 2 } });
    const held = await seen(to, "a");
    expect([held.get("n")?.at, held.get("m")?.at]).toEqual([formatInstant(NOW + 1000), formatInstant(NOW)]);
  });

  it("goes elsewhere alone, and its record falls back", async () => {
    const to = store();
    const [first] = await put(to, [write("a"), write("b")]);
    await refuse(to, first?.changeId);
    await requeue(to, first?.changeId ?? "", { space: "s", alone: true });
    expect(await states(to)).toEqual(["b rejected batch_rejected", "a pending"]);
    expect((await seen(to, "a")).size).toBe(0);
    expect((await seen(to, "a", "s")).get("n")?.value).toBe(1);
    expect((await seen(to, "b")).get("n")?.value).toBe(1);
  });

  it("is dropped with its batch, or alone", async () => {
    for (const alone of [false, true]) {
      const to = store();
      const [first] = await put(to, [write("a"), write("b")]);
      await refuse(to, first?.changeId);
      await to.write((tx) => rejected.drop(tx, first?.changeId ?? "", alone));
      expect(await states(to)).toEqual(alone ? ["b rejected batch_rejected"] : []);
      expect([(await seen(to, "a")).size, (await seen(to, "b")).size]).toEqual([0, alone ? 1 : 0]);
    }
  });

  it("keeps what the application said of itself", async () => {
    const to = store();
    const extra = { schemaVersion: 3, actor: { by: "me" }, origin: "agent" };
    const [written] = await put(to, [{ ...write("a"), extra }]);
    await refuse(to, written?.changeId);
    await requeue(to, written?.changeId ?? "");
    const [queued] = await to.read((tx) => outbox.listed(tx, "pending"));
    expect(queued?.change).toMatchObject({ ...extra, op: "update", table: "t", id: "a" });
    expect(queued).toMatchObject({ space: null, table: "t", id: "a" });
    expect(Object.keys(queued ?? {}).sort()).toEqual(
      ["batch", "change", "changeId", "code", "detail", "id", "space", "state", "table"].sort(),
    );
  });

  it("is dated anew only beyond the bound, each as it is said", async () => {
    const [bound, date] = [formatInstant(NOW), formatInstant(NOW - 5000)];
    const to = store();
    const [early] = await put(to, [write("early")], false, NOW);
    const [one] = await put(to, [write("one", { n: 1, m: 1 })], false, NOW + 1);
    const [other] = await put(to, [write("other", { n: 1 }, "s")], false, NOW + 2);
    await put(to, [write("waits")], false, NOW + 3);
    for (const written of [early, one]) await refuse(to, written?.changeId);
    await to.write((tx) => outbox.setAside(tx, "s"));
    const dates = new Map([[one?.changeId ?? "", date]]);
    const dated = await to.write((tx) => redate(tx, bound, after(bound, -1), dates));
    expect(dated.map(([, , id]) => id).sort()).toEqual(["one", "other"]);
    expect(other?.changeId).toBeDefined();
    const rows = await to.read((tx) => tx.all("outbox"));
    const stamps = rows.map(({ body }) =>
      [...readChange(JSON.parse(body)).registers.values()].map(({ at }) => at),
    );
    expect(stamps).toEqual([[bound], [date, date], [after(bound, -1)], [formatInstant(NOW + 3)]]);
    expect(rows.map(({ changeId }) => changeId).slice(0, 2)).toEqual([early?.changeId, one?.changeId]);
  });

  it("is another device's after the store was found to be a copy", async () => {
    const to = store();
    await put(to, [write("a")]);
    await to.write((tx) => takeName(tx, "new"));
    expect((await seen(to, "a")).get("n")?.client).toBe("new");
    expect(await to.read(async ({ meta }) => [meta.client, meta.acked, meta.incarnations])).toEqual([
      "new",
      [],
      [],
    ]);
  });
});
