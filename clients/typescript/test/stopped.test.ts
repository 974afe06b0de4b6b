/** What of the queue is touched, and what is not, by a write, an answer, a space that is left, and what goes again. */

import { describe, expect, it } from "vitest";
import { type Key, stamped, type Written } from "../src/data/change.js";
import { after, formatInstant, type Instant, MAX_AHEAD } from "../src/data/clock.js";
import { InvalidWrite, type JsonObject } from "../src/index.js";
import * as outbox from "../src/store/outbox.js";
import { load, pick, save } from "../src/store/records.js";
import * as rejected from "../src/store/requeue.js";
import type { Store } from "../src/store/store.js";
import { NOW, put, store, write } from "./queues.js";

const BOUND = NOW + MAX_AHEAD;

async function refuse(to: Store, written: readonly Written[]): Promise<void> {
  const said = new Map(written.map(({ changeId }) => [changeId, { code: "no", detail: "No." }]));
  await to.write((tx) => outbox.reject(tx, said));
}

/** What the server has of a record. */
function confirm(to: Store, id: string, fields: JsonObject, at: Instant): Promise<unknown> {
  return to.write(async (tx) => {
    const key: Key = ["", "t", id];
    const records = await load(tx, [key]);
    pick(records, key).confirm(stamped(Object.entries(fields), at, "other"), 0);
    return save(tx, records);
  });
}

async function stampsOf(of: Store, id: string): Promise<{ [field: string]: Instant }> {
  const row = await of.read((tx) => tx.get("records", ["", "t", id]));
  return Object.fromEntries(Array.from(row?.view ?? [], ([field, { at }]) => [field, at]));
}

async function states(of: Store): Promise<string[]> {
  return (await of.read((tx) => tx.all("outbox"))).map(({ id, state }) => `${id} ${state}`);
}

describe("the stamp of a write", () => {
  const FAR = formatInstant(NOW + 10_000);

  it("is later than what it overwrites, and not than the rest", async () => {
    const to = store();
    await confirm(to, "r", { n: 1, m: 1, deletedAt: null }, FAR);
    await confirm(to, "q", { m: 1, deletedAt: null }, FAR);
    const [over, beside, bare] = await put(to, [write("r"), write("q"), write("q", {}, "", "delete")]);
    const at = [over, beside, bare].map((one) => [...(one?.registers.values() ?? [])].map((each) => each.at));
    expect(at).toEqual([[after(FAR)], [formatInstant(NOW, 1)], [after(FAR)]]);
  });

  it("of a deletion is later than the values that it takes back", async () => {
    const to = store();
    await confirm(to, "r", { n: 1 }, FAR);
    const [deletion] = await put(to, [write("r", { n: 2 }, "", "delete")]);
    const { n, deletedAt } = Object.fromEntries(deletion?.registers ?? []);
    expect([n?.at, deletedAt?.at, deletedAt?.value]).toEqual([after(FAR), after(FAR), after(FAR)]);
  });
});

describe("a stamp of a wrong clock", () => {
  const FAR = BOUND + MAX_AHEAD;

  /** A refused write far ahead of the clock, which another write is to mend or to leave alone. */
  async function ahead(): Promise<Store> {
    const to = store();
    await refuse(to, await put(to, [write("far")], false, FAR));
    return to;
  }

  async function isMended(of: Store): Promise<boolean> {
    return (await stampsOf(of, "far")).n !== formatInstant(FAR);
  }

  it("is mended by a write to any of its fields, among others", async () => {
    const to = store();
    await put(to, [write("far", { early: 1 })]);
    await refuse(to, await put(to, [write("far")], false, FAR));
    await put(to, [write("fresh"), write("far", { m: 1 })]);
    expect(await isMended(to)).toBe(true);
    expect((await stampsOf(to, "far")).early).toBe(formatInstant(NOW));
  });

  it("stays where another record is written that only waits", async () => {
    const to = await ahead();
    await put(to, [write("b")]);
    await put(to, [write("b")]);
    expect(await isMended(to)).toBe(false);
  });

  it("stays where another record is ahead only because the server's is", async () => {
    const to = await ahead();
    await confirm(to, "b", { theirs: 1 }, formatInstant(BOUND + 5000));
    await put(to, [write("b", { mine: 1 })]);
    await put(to, [write("b", { mine: 2 })]);
    expect(await isMended(to)).toBe(false);
  });

  it.each([
    ["a millisecond less than one later than", 1, 1, false],
    ["a millisecond later than", 0, 1, true],
  ])("of a record that is %s the server's: %d %d %s", async (_, below, later, mended) => {
    const to = await ahead();
    const theirs = BOUND + 5000;
    await confirm(to, "b", { n: 1 }, formatInstant(theirs, below));
    await put(to, [write("b")], false, theirs + later);
    await put(to, [write("b", { m: 1 })]);
    expect(await isMended(to)).toBe(mended);
  });

  it.each([
    [0, false],
    [1, true],
  ])("of a record that is %d ms beyond the bound: mended %s", async (beyond, mended) => {
    const to = await ahead();
    await refuse(to, await put(to, [write("b")], false, BOUND + beyond));
    await put(to, [write("b", { m: 1 })]);
    expect(await isMended(to)).toBe(mended);
  });
});

describe("the queue", () => {
  it("is waited for while something is pending or acknowledged", async () => {
    const to = store();
    const waits = (): Promise<boolean> => to.read(outbox.waiting);
    expect(await waits()).toBe(false);
    const written = await put(to, [write("a")]);
    expect(await waits()).toBe(true);
    await refuse(to, written);
    expect(await waits()).toBe(false);
  });

  it("gives the rest of a batch that is larger than a push, of which the server has some", async () => {
    const to = store();
    const [first] = await put(to, [write("a"), write("b"), write("c")]);
    await to.write((tx) => outbox.acknowledge(tx, [first?.changeId ?? ""], true));
    const packed = await to.read((tx) => outbox.pack(tx, Infinity, 1, 1e6));
    expect(packed.map(({ body }) => (JSON.parse(body) as { id: string }).id)).toEqual(["b", "c"]);
  });

  it("keeps what waits, is refused or is aside, when all news are here", async () => {
    const to = store();
    const [acked] = await put(to, [write("a")]);
    await refuse(to, await put(to, [write("b")]));
    await put(to, [write("c", { n: 1 }, "s")]);
    await put(to, [write("d")]);
    await to.write((tx) => outbox.setAside(tx, "s"));
    const keys = await to.write((tx) => outbox.acknowledge(tx, [acked?.changeId ?? ""], false));
    expect(keys.map(([, , id]) => id)).toEqual(["a"]);
    expect(await states(to)).toEqual(["b rejected", "c aside", "d pending"]);
  });

  it("goes on with a batch whose part in a space that is left the server has", async () => {
    const to = store();
    const [shared] = await put(to, [write("a", { n: 1 }, "s"), write("b")]);
    await to.write((tx) => outbox.acknowledge(tx, [shared?.changeId ?? ""], true));
    await to.write((tx) => outbox.setAside(tx, "s"));
    expect(await states(to)).toEqual(["b pending"]);
  });

  it("says why the rest of a batch over a space that is left is stopped", async () => {
    const to = store();
    await put(to, [write("a", { n: 1 }, "s"), write("b")]);
    await to.write((tx) => outbox.setAside(tx, "s"));
    const [stopped] = await to.read((tx) => outbox.listed(tx, "rejected"));
    expect(stopped).toMatchObject({
      id: "b",
      code: "batch_rejected",
      detail: expect.stringContaining("left"),
    });
  });
});

describe("what goes again", () => {
  const named = { fields: { spaceId: "x" } };

  async function batch(): Promise<[Store, string, string]> {
    const to = store();
    const written = await put(to, [write("own"), write("shared", { n: 1 }, "s")]);
    await refuse(to, written);
    const [own, shared] = written.map(({ changeId }) => changeId);
    return [to, own ?? "", shared ?? ""];
  }

  it("may have a field spaceId only where the change itself goes to a shared space", async () => {
    const [to, own, shared] = await batch();
    const again = (id: string, how: rejected.Requeue): Promise<{ changeId: string }> =>
      to.write((tx) => rejected.requeue(tx, id, NOW, how));
    await expect(again(own, named)).rejects.toBeInstanceOf(InvalidWrite);
    await expect(again(shared, { ...named, space: "", alone: true })).rejects.toBeInstanceOf(InvalidWrite);
    expect(await states(to)).toEqual(["own rejected", "shared rejected"]);
    const { changeId } = await again(shared, named);
    const rows = await to.read((tx) => tx.all("outbox"));
    expect(rows.map(({ batch: name }) => name)).toEqual([rows[0]?.changeId, rows[0]?.changeId]);
    expect(rows[1]?.changeId).toBe(changeId);
    expect(JSON.parse(rows[1]?.body ?? "")).toMatchObject({
      spaceId: "s",
      fields: { spaceId: { value: "x" } },
    });
  });

  it("may have a field spaceId where the change is moved to a shared space", async () => {
    const [to, own] = await batch();
    await to.write((tx) => rejected.requeue(tx, own, NOW, { ...named, space: "s2", alone: true }));
    expect(await states(to)).toEqual(["shared rejected", "own pending"]);
  });
});
