/** The queue of writes: limits met exactly and exceeded by one, whole batches, refusals, and what the server has. */

import { describe, expect, it } from "vitest";
import type { Key } from "../src/data/change.js";
import { after, formatInstant, LATEST, MAX_AHEAD } from "../src/data/clock.js";
import type { Registers } from "../src/data/merge.js";
import { BatchTooLarge } from "../src/index.js";
import { incarnate as nameOpening } from "../src/store/copied.js";
import * as queueing from "../src/store/enqueue.js";
import * as outbox from "../src/store/outbox.js";
import * as rejected from "../src/store/requeue.js";
import type { Store, Transaction, Work } from "../src/store/store.js";
import { NOW, packed, put, seen, states, store, write } from "./queues.js";

describe("a batch", () => {
  const ids = ["a", "b", "c"];

  it.each([
    [3, true],
    [2, false],
  ])("of three changes, where a push takes %d: %s", async (pushChanges, fits) => {
    const to = store();
    const limits = { ...queueing.LIMITS, pushChanges };
    const written = to.write((tx) =>
      queueing.enqueue(
        tx,
        ids.map((id) => write(id)),
        NOW,
        limits,
      ),
    );
    if (fits) expect(await written).toHaveLength(3);
    else await expect(written).rejects.toBeInstanceOf(BatchTooLarge);
    expect(await states(to)).toHaveLength(fits ? 3 : 0);
  });

  it("may have as many bytes as a push takes, counted as they are sent, and not one more", async () => {
    const writes = ids.map((id) => write(id, { n: "é\u{1f600}" }));
    const sized = store();
    await put(sized, writes);
    const rows = await sized.read((tx) => tx.all("outbox"));
    const size = rows.reduce((sum, row) => sum + row.size, 0);
    expect(rows.map((row) => row.size)).toEqual(rows.map(({ body }) => Buffer.byteLength(body)));
    const limited = (batchBytes: number): Promise<unknown> =>
      store().write((tx) => queueing.enqueue(tx, writes, NOW, { ...queueing.LIMITS, batchBytes }));
    expect(await limited(size)).toHaveLength(3);
    await expect(limited(size - 1)).rejects.toBeInstanceOf(BatchTooLarge);
  });

  it("of one change, or of writes that do not go together, may be larger than a push takes", async () => {
    const limits = { ...queueing.LIMITS, pushChanges: 1, batchBytes: 1 };
    expect(await store().write((tx) => queueing.enqueue(tx, [write("a")], NOW, limits))).toHaveLength(1);
    const apart = store();
    await apart.write((tx) => queueing.enqueue(tx, [write("a"), write("b")], NOW, limits, true));
    expect(await packed(apart, 1)).toEqual(["a"]);
    expect(new Set((await apart.read((tx) => tx.all("outbox"))).map(({ batch }) => batch)).size).toBe(2);
  });

  it("shares one name, and its writes see each other", async () => {
    const to = store();
    const written = await put(to, [write("a", { n: 1 }), write("a", { n: 2 }), write("b")]);
    const rows = await to.read((tx) => tx.all("outbox"));
    expect(rows.map(({ batch }) => batch)).toEqual(Array(3).fill(written[0]?.changeId));
    expect(rows.map(({ position }) => position)).toEqual([1, 2, 3]);
    expect((await seen(to, "a")).get("n")?.value).toBe(2);
    expect(written.map(({ before }) => before.size)).toEqual([0, 0, 0]);
    const [again] = await put(to, [write("a", { n: 3 })]);
    expect(again?.before.get("n")?.value).toBe(2);
  });
});

describe("a push", () => {
  async function queued(): Promise<Store> {
    const to = store();
    for (const [number, size] of [3, 1, 3, 5, 2].entries())
      await put(
        to,
        Array.from({ length: size }, (_, n) => write(`${number}-${n}`)),
      );
    return to;
  }

  async function sizes(changes: number): Promise<number[]> {
    const [to, taken] = [await queued(), [] as number[]];
    for (;;) {
      const ids = await to.write(async (tx) => {
        const rows = await outbox.pack(tx, Infinity, changes, 1e6);
        await outbox.forget(
          tx,
          rows.map(({ changeId }) => changeId),
        );
        return rows;
      });
      if (ids.length === 0) return taken;
      taken.push(ids.length);
    }
  }

  it.each([
    [5, [4, 3, 5, 2]],
    [4, [4, 3, 5, 2]],
    [3, [3, 1, 3, 5, 2]],
    [7, [7, 7]],
    [1, [3, 1, 3, 5, 2]],
    [14, [14]],
  ])("of %d changes at most takes whole batches: %j", async (changes, taken) => {
    expect(await sizes(changes)).toEqual(taken);
  });

  it("takes as many bytes as it may, with a comma each, and not one more", async () => {
    const to = store();
    for (const id of ["a", "b", "c"]) await put(to, [write(id)]);
    const rows = await to.read((tx) => tx.all("outbox"));
    const two = (rows[0]?.size ?? 0) + (rows[1]?.size ?? 0) + 2;
    expect(await packed(to, 1000, two)).toEqual(["a", "b"]);
    expect(await packed(to, 1000, two - 1)).toEqual(["a"]);
    expect(await packed(to, 1000, two + (rows[2]?.size ?? 0) + 1)).toEqual(["a", "b", "c"]);
    expect(await packed(to, 1000, 1)).toEqual(["a"]);
  });

  it("takes what was queued before it began, and nothing that is stopped", async () => {
    const to = store();
    await put(to, [write("a"), write("b"), write("c")]);
    const written = await put(to, [write("d")]);
    await put(to, [write("e")]);
    expect(await packed(to, 1000, 1e6, 4)).toEqual(["a", "b", "c", "d"]);
    expect(await packed(to, 1000, 1e6, 0)).toEqual([]);
    const refusal = { code: "x", detail: "" };
    await to.write((tx) => outbox.reject(tx, new Map([[written[0]?.changeId ?? "", refusal]])));
    expect(await packed(to)).toEqual(["a", "b", "c", "e"]);
    expect(await packed(to, 1)).toEqual(["a", "b", "c"]);
    expect(await packed(store())).toEqual([]);
  });
});

describe("a refusal", () => {
  it("stops what waits, with its batch, and says of each why", async () => {
    const to = store();
    const [first, second] = await put(to, [write("a"), write("b")]);
    const [third] = await put(to, [write("c")]);
    await put(to, [write("d")]);
    const ids = [first?.changeId ?? "", third?.changeId ?? ""];
    const said = new Map(ids.map((id) => [id, { code: "no", detail: `of ${id}` }]));
    const told = await to.write((tx) => outbox.reject(tx, said.set("nobody", { code: "x", detail: "" })));
    expect([...told].sort()).toEqual([...ids, second?.changeId ?? ""].sort());
    expect(await states(to)).toEqual([
      "a rejected no",
      "b rejected batch_rejected",
      "c rejected no",
      "d pending",
    ]);
    const stopped = await to.read((tx) => outbox.listed(tx, "rejected"));
    expect(stopped[0]?.detail).toBe(`of ${ids[0]}`);
    expect(stopped[1]?.detail).toContain(ids[0]);
    expect(await to.write((tx) => outbox.reject(tx, said))).toEqual([]);
  });

  it("leaves alone what the server has", async () => {
    const to = store();
    const [written] = await put(to, [write("a")]);
    const id = written?.changeId ?? "";
    await to.write((tx) => outbox.acknowledge(tx, [id], true));
    expect(await to.write((tx) => outbox.reject(tx, new Map([[id, { code: "no", detail: "" }]])))).toEqual(
      [],
    );
    expect(await states(to)).toEqual(["a acked"]);
  });
});

describe("what the server has", () => {
  it("stays on top until all of its news are here", async () => {
    const to = store();
    const [written] = await put(to, [write("a")]);
    const id = written?.changeId ?? "";
    const acknowledge = (ids: string[], more: boolean): Promise<Key[]> =>
      to.write((tx) => outbox.acknowledge(tx, ids, more));
    expect(await acknowledge([id], true)).toEqual([["", "t", "a"]]);
    expect(await to.read(outbox.waiting)).toBe(true);
    await to.write((tx) => outbox.forget(tx, [id, "nobody"]));
    expect(await states(to)).toEqual(["a acked"]);
    expect(await acknowledge([], true)).toEqual([]);
    expect(await acknowledge([], false)).toEqual([["", "t", "a"]]);
    expect(await states(to)).toEqual([]);
    expect(await to.read(outbox.waiting)).toBe(false);
    expect(await acknowledge(["nobody"], false)).toEqual([]);
  });

  it("is forgotten where its space was left", async () => {
    const to = store();
    const [one, other] = await put(to, [write("a", { n: 1 }, "s"), write("b")]);
    await to.write((tx) => outbox.setAside(tx, "s"));
    expect(await states(to)).toEqual(["a aside space_left", "b rejected batch_rejected"]);
    await to.write((tx) => outbox.acknowledge(tx, [one?.changeId ?? "", other?.changeId ?? ""], true));
    expect(await states(to)).toEqual(["b acked batch_rejected"]);
  });
});

describe("a space that is left", () => {
  it("sets aside what waits, keeps the reason of what was refused, and forgets what the server has", async () => {
    const to = store();
    const [acked] = await put(to, [write("a", { n: 1 }, "s")]);
    const [refused] = await put(to, [write("b", { n: 1 }, "s")]);
    const [, other] = await put(to, [write("c", { n: 1 }, "s"), write("d")]);
    await put(to, [write("e", { n: 1 }, "s2")]);
    await to.write(async (tx) => {
      await outbox.acknowledge(tx, [acked?.changeId ?? ""], true);
      await outbox.reject(tx, new Map([[refused?.changeId ?? "", { code: "no", detail: "No." }]]));
      await outbox.setAside(tx, "s");
    });
    expect(await states(to)).toEqual([
      "b aside no",
      "c aside space_left",
      "d rejected batch_rejected",
      "e pending",
    ]);
    const aside = await to.read((tx) => outbox.listed(tx, "aside"));
    expect(aside.map(({ detail, space }) => [detail, space])).toEqual([
      ["No.", "s"],
      ["The space was left before this was sent.", "s"],
    ]);
    const present = (row: { space: string; state: "aside" | "pending" }): Promise<boolean> =>
      to.read((tx) => outbox.present(tx, row));
    expect(await present({ space: "s", state: "aside" })).toBe(false);
    expect(await present({ space: "s", state: "pending" })).toBe(true);
    expect(await present({ space: "", state: "aside" })).toBe(true);
    await to.write(async (tx) => tx.put("spaces", { id: "s" }));
    expect(await present({ space: "s", state: "aside" })).toBe(true);
    await expect(to.write((tx) => rejected.drop(tx, other?.changeId ?? "", false))).resolves.toHaveLength(2);
  });
});

describe("a stamp", () => {
  it("stays the last instant there is, where what it overwrites has that", async () => {
    const tx = { meta: { clock: LATEST } } as Transaction;
    const view: Registers = new Map([["n", { value: 1, at: LATEST, client: "x" }]]);
    expect(queueing.stampOver(tx, view, ["n"], NOW)).toBe(LATEST);
  });

  it("is one shortly before the last instant there is, where that was lowered", async () => {
    const tx = { meta: { clock: LATEST } } as Transaction;
    const view: Registers = new Map([["n", { value: 1, at: LATEST, client: "x", sent: LATEST }]]);
    expect(queueing.stampOver(tx, view, ["n"], NOW)).toBe(after(LATEST, -1));
  });

  async function refusedAt(ahead: number): Promise<[Store, string]> {
    const to = store();
    const [written] = await put(to, [write("a", { n: "refused" })], false, NOW + ahead);
    const id = written?.changeId ?? "";
    await to.write((tx) => outbox.reject(tx, new Map([[id, { code: "no", detail: "" }]])));
    return [to, id];
  }

  it.each([
    [MAX_AHEAD, formatInstant(NOW + MAX_AHEAD, 1)],
    [MAX_AHEAD + 1, formatInstant(NOW, 1)],
  ])("over a refused one that is %d ms ahead is %s", async (ahead, at) => {
    const [to] = await refusedAt(ahead);
    await put(to, [write("a", { n: "later" })]);
    const held = (await seen(to, "a")).get("n");
    expect([held?.value, held?.at]).toEqual(["later", at]);
  });

  it("of another record, or of what only waits, mends nothing", async () => {
    const [to] = await refusedAt(MAX_AHEAD + 1);
    await put(to, [write("b")]);
    expect((await seen(to, "a")).get("n")?.at).toBe(formatInstant(NOW + MAX_AHEAD + 1));
    const waits = store();
    await put(waits, [write("a", { n: 1 })], false, NOW + 2 * MAX_AHEAD);
    await put(waits, [write("a", { n: 2 })]);
    expect((await seen(waits, "a")).get("n")).toMatchObject({
      value: 2,
      at: formatInstant(NOW + 2 * MAX_AHEAD, 1),
    });
  });
});

describe("an opening of the store", () => {
  it("is numbered, and named with those that may have pushed before, 31 of them at most", async () => {
    const to = store();
    const incarnate = (opening: string): Promise<readonly string[] | undefined> =>
      to.write(async (tx) => nameOpening(tx, opening));
    expect(await incarnate("")).toBeUndefined();
    expect(await incarnate("a")).toEqual(["1.a"]);
    expect(await incarnate("")).toEqual(["1.a"]);
    expect(await incarnate("b")).toEqual(["1.a", "2.b"]);
    for (let n = 3; n <= 31; n++) await incarnate("c");
    expect(await incarnate("d")).toHaveLength(31);
    const last = await incarnate("e");
    expect([last?.length, last?.[0], last?.at(-1)]).toEqual([31, "3.c", "33.e"]);
  });
});

it("the unread spaces of a push are those that the server has not named", async () => {
  const to = store();
  await put(to, [write("a"), write("b", {}, "s"), write("c", {}, "s2")]);
  const unread: Work<string[]> = async (tx) => {
    const rows = await tx.all("outbox");
    const ids = await outbox.unread(tx, rows);
    return rows.filter(({ changeId }) => ids.includes(changeId)).map(({ id }) => id);
  };
  expect(await to.read(unread)).toEqual(["a", "b", "c"]);
  await to.write(async (tx) => {
    tx.put("spaces", { id: "s" });
    tx.put("spaces", { id: "_personal:u" });
  });
  expect(await to.read(unread)).toEqual(["c"]);
});
