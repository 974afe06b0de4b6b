/** An answer as it is applied: what it takes off the queue, what it keeps, and what it tells. */

import { describe, expect, it } from "vitest";
import { type Packed, stamped, type Write } from "../src/data/change.js";
import type { Event } from "../src/data/events.js";
import type { JsonObject } from "../src/index.js";
import { enqueue, LIMITS } from "../src/store/enqueue.js";
import { MemoryStore } from "../src/store/memory.js";
import { pack } from "../src/store/outbox.js";
import { beginRestart } from "../src/store/records.js";
import { LAYOUT, Store } from "../src/store/store.js";
import { type Applied, announce, applyPage } from "../src/sync/apply.js";
import { buildPage, type Page, readConflict } from "../src/sync/reply.js";
import { findUnseen } from "../src/sync/unseen.js";
import { wire } from "./script.js";

const AT = "2026-01-01T10:00:00.000000Z";
const NOW = Date.parse(AT);

function page(said: JsonObject, pushed: readonly Packed[] = [], more = false): Page {
  return buildPage(said, pushed, "c1", more);
}

async function queued(ids: string[], spaces: string[] = []): Promise<[Store, Packed[]]> {
  const store = new Store(new MemoryStore(LAYOUT), 1000);
  const pushed = await store.write(async (tx) => {
    tx.meta.client = "me";
    for (const [place, id] of ids.entries()) {
      const write: Write = {
        op: "update",
        key: [spaces[place] ?? "", "t", id],
        values: new Map([["n", 1]]),
        extra: {},
        upsert: true,
      };
      await enqueue(tx, [write], NOW, LIMITS);
    }
    return pack(tx, Infinity, 1000, 1e6);
  });
  return [store, pushed];
}

function answer(pushed: readonly Packed[], ...said: JsonObject[]): JsonObject {
  return { results: pushed.map(({ changeId }, place) => ({ changeId, ...said[place] })), conflicts: [] };
}

async function states(store: Store): Promise<string[]> {
  return (await store.read((tx) => tx.all("outbox"))).map(({ id, state }) => `${id} ${state}`);
}

describe("an answer tells", () => {
  const told = (done: Partial<Applied>, page?: Page): Event[] => {
    const events: Event[] = [];
    announce({ publish: (event) => events.push(event) }, done, page);
    return events;
  };
  const KEY = ["", "t", "r"] as const;
  const changes = { kind: "changes", source: "server" };
  const record = { space: null, table: "t", id: "r" };

  it.each<[string, Partial<Applied>, string[], Event[] | object[]]>([
    ["nothing where it changed nothing", {}, [], []],
    [
      "what reads differently",
      { changed: [KEY] },
      [],
      [{ ...changes, records: [record], everything: false }],
    ],
    ["of everything", { everything: true }, [], [{ ...changes, records: [], everything: true }]],
    [
      "how many were accepted",
      {},
      ["applied", "duplicate", "superseded", "rejected"],
      [{ kind: "answered", accepted: 3, rejected: [] }],
    ],
    [
      "what was refused",
      { rejected: ["c"] },
      ["rejected"],
      [{ kind: "answered", accepted: 0, rejected: ["c"] }],
    ],
    ["nothing of what was refused before", {}, ["rejected"], []],
  ])("%s", (_, done, statuses, events) => {
    const pushed = statuses.map((_status, n) => ({
      changeId: `${n}`,
      batch: "",
      body: "{}",
      size: 2,
      space: "",
    }));
    const said = answer(pushed, ...statuses.map((status) => ({ status })));
    expect(told(done, page(said, pushed))).toEqual(events);
  });

  it("each conflict by itself, and what was refused without an answer", () => {
    const lost = { table: "t", id: "r", field: "n" };
    const conflicts = [lost, { ...lost, spaceId: "s" }].map(readConflict);
    expect(told({ conflicts })).toMatchObject([
      { kind: "conflict", conflict: { ...lost, space: null } },
      { kind: "conflict", conflict: { ...lost, space: "s" } },
    ]);
    expect(told({ rejected: ["c"] })).toEqual([{ kind: "answered", accepted: 0, rejected: ["c"] }]);
    expect(told({})).toEqual([]);
  });
});

describe("an answer", () => {
  const LARGE = { status: "rejected", code: "push_too_large" };

  it("leaves what was too much for its push to the next one, where others of it were settled", async () => {
    const [store, pushed] = await queued(["a", "b", "c"]);
    const said = answer(pushed, { status: "applied" }, LARGE, { status: "rejected", code: "no" });
    const { rejected } = await store.write((tx) => applyPage(tx, page(said, pushed), pushed));
    expect([rejected, await states(store)]).toEqual([[pushed[2]?.changeId], ["b pending", "c rejected"]]);
  });

  it("refuses what was too much for a push that had nothing else", async () => {
    const [store, pushed] = await queued(["a", "b"]);
    await store.write((tx) => applyPage(tx, page(answer(pushed, LARGE, LARGE), pushed), pushed));
    expect(await states(store)).toEqual(["a rejected", "b rejected"]);
  });

  it("names one incarnation from then on, and a pull as many as before", async () => {
    const [store, pushed] = await queued(["a"]);
    const names = async (sent: readonly Packed[]): Promise<unknown> =>
      store.write(async (tx) => {
        const said = answer(sent, { status: "applied" });
        await applyPage(tx, page(said, sent), sent);
        return tx.meta.incarnations;
      });
    await store.write(async ({ meta }) => {
      meta.incarnations = ["1.a", "2.b", "3.c"];
    });
    expect(await names([])).toEqual(["1.a", "2.b", "3.c"]);
    expect(await names(pushed)).toEqual(["3.c"]);
  });

  it("takes off the queue what it sends back of this device, and nothing of that name from another", async () => {
    const [store, pushed] = await queued(["a", "b"]);
    const back = pushed.map(({ changeId }, place) =>
      wire(["a", "b"][place] as string, { n: [1, AT] }, { changeId, clientId: place === 0 ? "me" : "other" }),
    );
    await store.write((tx) => applyPage(tx, page({ changes: back }), []));
    expect(await states(store)).toEqual(["b pending"]);
  });

  it("keeps conflicts until their space is left", async () => {
    const [store] = await queued([]);
    const lost = { table: "t", id: "r", field: "n" };
    const conflicts = [lost, { ...lost, spaceId: "s" }, { ...lost, spaceId: "s2" }];
    const kept = async (said: JsonObject): Promise<(string | null)[]> =>
      store.write(async (tx) => {
        await applyPage(tx, page(said), [], findUnseen);
        return (await tx.all("conflicts")).map(({ conflict, space }) =>
          conflict.space === (space || null) ? conflict.space : "another",
        );
      });
    expect(await kept({ conflicts })).toEqual([null, "s", "s2"]);
    expect(await kept({ spaces: { left: ["s", "_personal:u"] } })).toEqual([null, "s2"]);
  });

  it("is not shown of a space that was left and is not there any more", async () => {
    const [store, pushed] = await queued(["a"], ["s"]);
    const shown = (): Promise<number> => store.read(async (tx) => (await tx.all("records")).length);
    await store.write((tx) => applyPage(tx, page({ spaces: { left: ["s"] } }), []));
    await store.write((tx) => applyPage(tx, page(answer(pushed, { status: "applied" }), pushed), pushed));
    expect([await shown(), await states(store)]).toEqual([0, []]);
  });

  it("of which more is to come keeps, for the next, what the server has", async () => {
    const [store, pushed] = await queued(["a", "b"]);
    const ids = pushed.map(({ changeId }) => changeId);
    const said = answer(pushed, { status: "applied" }, { status: "applied" });
    const acked = (): Promise<unknown> => store.read(async ({ meta }) => meta.acked);
    await store.write((tx) => applyPage(tx, page(said, pushed, true), pushed));
    expect(await acked()).toEqual([ids[1]]);
    await store.write((tx) => applyPage(tx, page({}), [], null, ["other"]));
    expect(await acked()).toEqual([ids[1]]);
    await store.write((tx) => applyPage(tx, page({}), []));
    expect(await acked()).toEqual([]);
  });
});

it("a new start asks for everything, round by round, and forgets which spaces there are", async () => {
  const [store] = await queued(["a"]);
  await store.write(async (tx) => {
    tx.put("spaces", { id: "s" });
    tx.meta.cursor = "c";
    tx.meta.acked = ["x"];
    await beginRestart(tx);
    await beginRestart(tx);
    const key = ["", "t", "old"] as const;
    const view = stamped([["n", 1]], AT, "x");
    tx.put("records", {
      space: key[0],
      table: key[1],
      id: key[2],
      deleted: false,
      round: 1,
      view,
      base: null,
    });
  });
  const { round, restarting, cursor, acked } = await store.read(async ({ meta }) => meta);
  expect([round, restarting, cursor, acked]).toEqual([2, true, "", []]);
  expect(await store.read((tx) => tx.all("spaces"))).toEqual([]);
  const done = await store.write((tx) => applyPage(tx, page({}), []));
  expect([done.everything, await states(store)]).toEqual([true, ["a pending"]]);
  expect(await store.read(async (tx) => (await tx.all("records")).map(({ id }) => id))).toEqual(["a"]);
});
