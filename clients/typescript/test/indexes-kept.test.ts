/** Indexes that are kept in memory: how they are made, and told what changes, without keeping the page from being drawn. */

import { IDBFactory } from "fake-indexeddb";
import { describe, expect, it } from "vitest";
import type { Event, Replica } from "../src/index.js";
import { indexes } from "../src/indexes/index.js";
import { SortedBlocks } from "../src/indexes/sorted.js";
import { include } from "../src/queries/index.js";
import { MemoryStore } from "../src/store/memory.js";
import { LAYOUT, type RowStore, type Store, type Transaction } from "../src/store/store.js";
import { open, until } from "./devices.js";
import { ALONE } from "./files.js";

const MANY = 600;

/** What was read of a store at once: so many records, and so many keys. */
interface Reads {
  readonly listed: number[];
  readonly named: number[];
}

function storeOf(replica: Replica): Store {
  return replica["exchange"].parts.device.store;
}

/** Counts what a replica reads from now on. */
function counted(replica: Replica): Reads {
  const reads: Reads = { listed: [], named: [] };
  const store = storeOf(replica);
  const read = store.read.bind(store);
  store.read = (work) =>
    read((tx: Transaction) => {
      const [all, among] = [tx.all.bind(tx), tx.among.bind(tx)];
      tx.all = (async (...asked: Parameters<typeof all>) => {
        const rows = await all(...asked);
        if (asked[0] === "records") reads.listed.push(rows.length);
        return rows;
      }) as typeof tx.all;
      tx.among = async (keys) => {
        reads.named.push(keys.length);
        return among(keys);
      };
      return work(tx);
    });
  return reads;
}

async function fill(replica: Replica, value: number): Promise<void> {
  await replica.batch((batch) => {
    for (let n = 0; n < MANY; n += 1) batch.put("t", `r${n}`, { a: (n * 7) % 10, b: value });
  });
}

async function ids(rows: PromiseLike<readonly { id: string }[]>): Promise<string[]> {
  return (await rows).map(({ id }) => id);
}

describe.skipIf(ALONE)("in a browser", () => {
  const kept = (): object => ({
    store: undefined,
    indexedDB: new IDBFactory(),
    indexes: indexes({ t: ["a", "b"] }),
  });

  it("are made once for all queries that ask at the same time, in parts", async () => {
    const replica = await open(kept());
    await fill(replica, 0);
    const reads = counted(replica);
    const asked = Array.from({ length: 10 }, (_, a) => replica.query("t", { a }, { limit: 3 }));
    const answers = await Promise.all(asked);
    expect(answers.map((rows) => rows.map(({ fields }) => fields.a))).toEqual(
      Array.from({ length: 10 }, (_, a) => [a, a, a]),
    );
    expect(Math.max(...reads.listed)).toBeLessThanOrEqual(250);
    expect(reads.listed.reduce((sum, count) => sum + count, 0)).toBeLessThan(MANY + 10);
  });

  it("read what has changed in parts", async () => {
    const replica = await open(kept());
    await fill(replica, 0);
    expect(await ids(replica.query("t", { b: 1 }))).toEqual([]);
    await fill(replica, 1);
    const reads = counted(replica);
    expect(await replica.query("t", { b: 1 }, { limit: 5 })).toHaveLength(5);
    expect(await replica.query("t", { b: 0 })).toEqual([]);
    expect(Math.max(...reads.named)).toBeLessThanOrEqual(250);
    expect(reads.listed).toEqual([]);
  });

  it("are made for all that is read in one transaction", async () => {
    const replica = await open(kept());
    await fill(replica, 0);
    const reads = counted(replica);
    const people = replica.query("people");
    await replica.put("people", "x", { of: "r3" });
    const [person] = await include(people, { task: { one: replica.query("t", { a: 1 }), by: "of" } });
    expect(person?.included.task?.id).toBe("r3");
    const [, , , ...again] = reads.listed.filter((count) => count > 1);
    expect(again).toEqual([]);
  });

  it("have what is written while they are made", async () => {
    const replica = await open(kept());
    await fill(replica, 0);
    const first = replica.query("t", { b: 1 });
    const store = storeOf(replica);
    const read = store.read.bind(store);
    let parts = 0;
    store.read = async (work) => {
      const answer = await read(work);
      parts += 1;
      if (parts === 3) await fill(replica, 1);
      return answer;
    };
    expect(await first).toHaveLength(MANY);
  });
});

describe.skipIf(ALONE)("where another tab ends between its commit and its word", () => {
  /** Two tabs, of which the second tells nobody. */
  async function tabs(): Promise<[one: Replica, silent: Replica]> {
    const shared = { indexedDB: new IDBFactory(), name: "silent", indexes: indexes({ t: ["a"] }) };
    const channel = globalThis.BroadcastChannel;
    const one = await open(shared);
    globalThis.BroadcastChannel = undefined as never;
    try {
      return [one, await open({ ...shared, indexes: indexes({ t: ["a"] }) })];
    } finally {
      globalThis.BroadcastChannel = channel;
    }
  }

  it("are right at once", async () => {
    const [one, silent] = await tabs();
    await silent.put("t", "x", { a: 1 });
    expect(await ids(one.query("t", { a: 1 }))).toEqual(["x"]);
    await silent.put("t", "y", { a: 1 });
    expect(await ids(one.query("t", { a: 1 }))).toEqual(["x", "y"]);
    await one.put("t", "z", { a: 1 });
    await silent.patch("t", "x", { a: 2 });
    expect(await ids(one.query("t", { a: 1 }))).toEqual(["y", "z"]);
    expect(await ids(one.query("t", { a: 2 }))).toEqual(["x"]);
  });

  it("read what it has written, and the table only where that is too much to know", async () => {
    const [one, silent] = await tabs();
    await fill(silent, 0);
    expect(await ids(one.query("t", { a: "new" }))).toEqual([]);
    const reads = counted(one);
    for (let n = 0; n < 60; n += 1) await silent.put("t", `r${n}`, { a: "new" });
    expect(await one.query("t", { a: "new" })).toHaveLength(60);
    expect(reads.listed).toEqual([]);
    for (let n = 0; n < 70; n += 1) await silent.put("t", `r${n}`, { a: "newer" });
    expect(await one.query("t", { a: "newer" })).toHaveLength(70);
    expect(await one.query("t", { a: "new" })).toEqual([]);
    expect(reads.listed).not.toEqual([]);
  });

  it("go on where others tell more than the store knows", async () => {
    const [one] = await tabs();
    await fill(one, 0);
    expect(await ids(one.query("t", { a: "new" }))).toEqual([]);
    const reads = counted(one);
    for (let n = 0; n < 150; n += 1) await one.put("t", `r${n}`, { a: "new" });
    expect(await one.query("t", { a: "new" })).toHaveLength(150);
    expect(reads.listed).toEqual([]);
  });
});

it.skipIf(ALONE)("are made of a store that begins at the beginning each time", async () => {
  const store = async (_name: string, prepare: Parameters<RowStore["write"]>[0]): Promise<RowStore> => {
    const rows = new MemoryStore(LAYOUT);
    await rows.write(prepare);
    return {
      durable: false,
      read: (work) =>
        rows.read((tx) => {
          const all = tx.all.bind(tx);
          tx.all = (name, prefix, index, limit) => all(name, prefix, index, limit);
          return work(tx);
        }),
      write: (work) => rows.write(work),
      close: () => rows.close(),
    };
  };
  const replica = await open({ store: store as never, indexes: indexes({ t: ["a"] }) });
  await fill(replica, 0);
  expect(await replica.query("t", { a: 3 })).toHaveLength(MANY / 10);
});

describe.skipIf(ALONE)("opening with another schema", () => {
  async function migrated(write: boolean): Promise<[told: Event[], other: Event[]]> {
    const shared = { indexedDB: new IDBFactory(), name: "migrated" };
    const before = await open({ ...shared, schemaVersion: 1 });
    await before.put("t", "x", { a: 1 });
    const [told, other]: [Event[], Event[]] = [[], []];
    before.on((event) => other.push(event));
    const after = await open({
      ...shared,
      schemaVersion: 2,
      onMigrate: (_from, batch, replica) => {
        replica.on((event) => told.push(event));
        if (write) batch.patch("t", "x", { a: 2 });
      },
    });
    await after.put("t", "y", { a: 1 });
    await until("the other tab has heard", () => other.length >= 1 + Number(write));
    return [told, other];
  }

  const record = (id: string): object => ({ space: null, table: "t", id });

  it("tells what was migrated, to other tabs, too", async () => {
    const [told, other] = await migrated(true);
    for (const events of [told, other]) {
      expect(events[0]).toMatchObject({ kind: "changes", everything: false, records: [record("x")] });
      expect(events[1]).toMatchObject({ records: [record("y")] });
    }
  });

  it("tells nothing where nothing was", async () => {
    for (const events of await migrated(false)) {
      expect(events).toHaveLength(1);
      expect(events[0]).toMatchObject({ everything: false, records: [record("y")] });
    }
  });
});

it("keeps a list in order, whatever comes and goes, and never changes one that is read", () => {
  type Item = { readonly n: number };
  const compare = (one: Item, other: Item): number => one.n - other.n;
  let [held, blocks, state]: [Item[], SortedBlocks<Item>, number] = [[], new SortedBlocks<Item>(), 7];
  const draw = (most: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >> 8) % most;
  };
  for (let n = 0; n < 60; n += 1) {
    const gone = held.filter(() => draw(n % 7 === 6 ? 2 : 9) === 0);
    const come = Array.from({ length: draw(n % 5 ? 20 : 900) }, () => ({ n: draw(1e9) }));
    const [before, list] = [blocks, [...blocks.between(0, blocks.size)]];
    blocks = blocks.changed(compare, gone, come);
    held = held
      .filter((item) => !gone.includes(item))
      .concat(come)
      .sort(compare);
    expect([...blocks.between(0, blocks.size)]).toEqual(held);
    expect([...before.between(0, before.size)]).toEqual(list);
    const [first, end] = [draw(held.length + 1), draw(held.length + 1)].sort((a, b) => a - b) as [
      number,
      number,
    ];
    expect([...blocks.between(first, end)]).toEqual(held.slice(first, end));
    if (held[first]) expect(blocks.at(first)).toBe(held[first]);
    const bound = draw(1e9);
    expect(blocks.first((item) => item.n >= bound)).toBe(held.filter((item) => item.n < bound).length);
  }
  expect(blocks.changed(compare, held, []).size).toBe(0);
});
