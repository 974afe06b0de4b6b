/** Records in memory: what is confirmed and what lies on top, what reads differently now, and what listeners are told. */

import { describe, expect, it } from "vitest";
import { type Key, stamped, writeChange } from "../src/data/change.js";
import { changesOf, liveState } from "../src/data/events.js";
import type { Register, Registers } from "../src/data/merge.js";
import { rowOf } from "../src/data/row.js";
import type { Json } from "../src/data/values.js";
import { MemoryStore } from "../src/store/memory.js";
import { dropUnconfirmed, LoadedRecord, load, pick, save, settle } from "../src/store/records.js";
import { type ChangeState, LAYOUT, type RecordRow, Store, type Transaction } from "../src/store/store.js";

const [AT, LATER] = ["2026-01-01T10:00:00.000000Z", "2026-01-01T10:00:00.000001Z"];
const KEY: Key = ["", "t", "r"];

function registers(fields: { [field: string]: Json }, at = AT, client = "other"): Registers {
  return stamped(Object.entries(fields), at, client);
}

function row(view: Registers, part: Partial<RecordRow> = {}): RecordRow {
  return { space: "", table: "t", id: "r", deleted: false, round: 0, view, base: null, ...part };
}

function values(of: Registers): { [field: string]: Json } {
  return Object.fromEntries(Array.from(of, ([field, { value }]) => [field, value]));
}

describe("a record", () => {
  it("that nobody has is of the round that it is looked for in, clean and alike", () => {
    const record = new LoadedRecord(KEY, undefined, 3);
    expect([record.round, record.dirty, record.layered, record.differs, record.view.size]).toEqual([
      3,
      false,
      false,
      false,
      0,
    ]);
  });

  it("keeps the round in which it was confirmed", () => {
    expect(new LoadedRecord(KEY, row(registers({ n: 1 }), { round: 2 }), 3).round).toBe(2);
    expect(new LoadedRecord(KEY, row(registers({ n: 1 }), { round: 0 }), 3).round).toBe(0);
  });

  it("has what is unsent on top, write by write, and what is confirmed below", () => {
    const held = row(registers({ n: 1 }));
    const record = new LoadedRecord(KEY, held, 0);
    record.write(registers({ n: 2 }, LATER, "me"));
    record.write(registers({ m: 3 }, LATER, "me"));
    expect([values(record.view), values(record.base)]).toEqual([{ n: 2, m: 3 }, { n: 1 }]);
    expect([record.layered, record.dirty, values(held.view)]).toEqual([true, true, { n: 1 }]);
    expect(values(record.row.base as Registers)).toEqual({ n: 1 });
  });

  it("has one map where nothing is unsent", () => {
    const record = new LoadedRecord(KEY, row(registers({ n: 1 })), 0);
    record.confirm(registers({ m: 2 }), 0);
    expect([values(record.view), record.row.base]).toEqual([{ n: 1, m: 2 }, null]);
    expect([record.dirty, record.differs]).toEqual([true, true]);
  });

  it("stays clean where the server says what is known", () => {
    const record = new LoadedRecord(KEY, row(registers({ n: 1 })), 0);
    record.confirm(registers({ n: 1 }), 0);
    record.confirm(registers({ n: 0 }, "2025-01-01T10:00:00.000000Z"), 0, false);
    expect([record.dirty, values(record.view)]).toEqual([false, { n: 1 }]);
  });

  it.each<[string, number, boolean | undefined, object]>([
    ["of the same round is merged", 0, undefined, { n: 1, m: 2 }],
    ["of the same round, and not whole, is merged", 0, false, { n: 1, m: 2 }],
    ["that is whole replaces what was known", 0, true, { m: 2 }],
    ["of a new round replaces what was known", 1, false, { m: 2 }],
  ])("%s", (_, round, whole, known) => {
    const plain = new LoadedRecord(KEY, row(registers({ n: 1 })), 0);
    plain.confirm(registers({ m: 2 }), round, whole);
    expect([values(plain.view), plain.round, plain.dirty]).toEqual([known, round, true]);
    const layered = new LoadedRecord(KEY, row(registers({ n: 5 }), { base: registers({ n: 1 }) }), 0);
    layered.confirm(registers({ m: 2 }), round, whole);
    expect([values(layered.base), values(layered.view)]).toEqual([known, { n: 5 }]);
  });

  it("of a new round is dirty also where that has nothing of it", () => {
    const record = new LoadedRecord(KEY, row(registers({ n: 1 })), 0);
    record.confirm(new Map(), 1);
    expect([record.dirty, record.differs, record.view.size]).toEqual([true, true, 0]);
  });

  it("is settled on what is confirmed, with or without something on top", () => {
    const record = new LoadedRecord(KEY, row(registers({ n: 5 }), { base: registers({ n: 1 }) }), 0);
    record.settle([registers({ n: 6 }, LATER), registers({ m: 7 }, LATER)]);
    expect([record.layered, record.dirty, values(record.view)]).toEqual([true, true, { n: 6, m: 7 }]);
    record.settle([]);
    expect([record.layered, record.row.base, values(record.view)]).toEqual([false, null, { n: 1 }]);
  });

  it.each<[string, Registers, boolean]>([
    ["the same", registers({ n: 1, m: [1] }), false],
    ["the same values with other stamps", registers({ n: 1, m: [1] }, LATER, "x"), false],
    ["another value", registers({ n: 1, m: [2] }), true],
    ["a field more", registers({ n: 1, m: [1], o: null }), true],
    ["a field less", registers({ n: 1 }), true],
    ["another field", registers({ n: 1, o: [1] }), true],
    ["another field that is null", registers({ n: 1, o: null }), true],
  ])("with %s: it reads differently %s", (_, now, differs) => {
    const record = new LoadedRecord(KEY, row(registers({ n: 1, m: [1] })), 0);
    record.view = now;
    expect(record.differs).toBe(differs);
  });
});

describe("records of a store", () => {
  let position = 0;

  function queue(tx: Transaction, id: string, fields: { [field: string]: Json }, state: ChangeState): void {
    position += 1;
    const draft = { changeId: `c${position}`, key: ["", "t", id] as const, op: "update" as const, extra: {} };
    const body = writeChange({ ...draft, registers: registers(fields, LATER, "me"), confirmed: new Map() });
    const { changeId } = draft;
    const rest = { batch: changeId, space: "", table: "t", size: 2, code: null, detail: null };
    tx.put("outbox", { position, changeId, id, state, body, ...rest });
  }

  async function filled(): Promise<Store> {
    const store = new Store(new MemoryStore(LAYOUT), 5000);
    await store.write(async (tx) => {
      tx.meta.client = "me";
      tx.put("records", row(registers({ n: 1 })));
      tx.put("records", row(registers({ n: 2 }), { id: "two", base: registers({ n: 1 }) }));
      queue(tx, "two", { n: 2 }, "pending");
    });
    return store;
  }

  it("are loaded once each, those that are not there too", async () => {
    const store = await filled();
    const records = await store.read((tx) => load(tx, [KEY, KEY, ["", "t", "none"]]));
    expect([...records.values()].map(({ key, view }) => [key[2], view.size])).toEqual([
      ["r", 1],
      ["none", 0],
    ]);
  });

  it("are saved where they changed, and those that read differently are told", async () => {
    const store = await filled();
    const changed = await store.write(async (tx) => {
      const keys = ["r", "two", "none", "gone"].map((id): Key => ["", "t", id]);
      const records = await load(tx, keys);
      pick(records, keys[0] as Key).confirm(registers({ n: 9 }, LATER), 0);
      pick(records, keys[1] as Key).confirm(registers({ n: 1 }, LATER), 0);
      pick(records, keys[3] as Key).write(new Map());
      tx.delete("records", keys[0] as Key);
      return save(tx, records);
    });
    expect(changed).toEqual([["", "t", "r"]]);
    const rows = await store.read((tx) => tx.all("records"));
    expect(rows.map(({ id, view }) => [id, values(view)])).toEqual([
      ["r", { n: 9 }],
      ["two", { n: 2 }],
    ]);
    expect(rows[1]?.base?.get("n")?.at).toBe(LATER);
  });

  it("that were not touched are not written", async () => {
    const store = await filled();
    const changed = await store.write(async (tx) => {
      const records = await load(tx, [KEY]);
      tx.delete("records", KEY);
      return save(tx, records);
    });
    expect(changed).toEqual([]);
    expect(await store.read((tx) => tx.get("records", KEY))).toBeUndefined();
  });

  it("without a register are none", async () => {
    const store = await filled();
    const changed = await store.write(async (tx) => {
      const records = await load(tx, [KEY]);
      pick(records, KEY).confirm(new Map(), 1);
      return save(tx, records);
    });
    expect(changed).toEqual([KEY]);
    expect(await store.read((tx) => tx.get("records", KEY))).toBeUndefined();
  });

  it("have on top what is unsent, in order, but not what is aside", async () => {
    const store = await filled();
    const seen = await store.write(async (tx) => {
      queue(tx, "two", { m: 1 }, "rejected");
      queue(tx, "two", { o: 1 }, "acked");
      queue(tx, "two", { p: 1 }, "aside");
      queue(tx, "r", { p: 1 }, "aside");
      const keys: Key[] = [KEY, ["", "t", "two"]];
      const records = await load(tx, keys);
      await settle(tx, records);
      return [...records.values()].map(({ view, layered, dirty }) => [values(view), layered, dirty]);
    });
    expect(seen).toEqual([
      [{ n: 1 }, false, false],
      [{ n: 2, m: 1, o: 1 }, true, true],
    ]);
  });

  it("of an earlier round are dropped at its end, under what is unsent", async () => {
    const store = await filled();
    await store.write(async (tx) => {
      tx.meta.round = 1;
      tx.meta.restarting = true;
      tx.put("records", row(registers({ n: 3 }), { id: "told", round: 1 }));
      await dropUnconfirmed(tx);
    });
    const rows = await store.read((tx) => tx.all("records"));
    expect(rows.map(({ id, view, base, round }) => [id, values(view), base && values(base), round])).toEqual([
      ["told", { n: 3 }, null, 1],
      ["two", { n: 2 }, {}, 1],
    ]);
    expect(await store.read(async ({ meta }) => meta.restarting)).toBe(false);
  });
});

describe("what listeners are told", () => {
  it("is each record once, the personal space as null", () => {
    const keys: Key[] = [KEY, ["s", "t", "r"], KEY];
    expect(changesOf(keys, "server")).toEqual({
      kind: "changes",
      source: "server",
      everything: false,
      records: [
        { space: null, table: "t", id: "r" },
        { space: "s", table: "t", id: "r" },
      ],
    });
    expect(changesOf(keys, "tab", true)).toEqual({
      kind: "changes",
      source: "tab",
      everything: true,
      records: [],
    });
  });

  it.each([
    [1000, false],
    [1001, true],
  ])("of %d records is everything: %s", (count, everything) => {
    const keys = Array.from({ length: count }, (_, n): Key => ["", "t", `${n}`]);
    const told = changesOf([...keys, ...keys], "device");
    expect([told.everything, told.records.length]).toEqual([everything, everything ? 0 : count]);
  });

  it("of a live sync has a reason only where there is one", () => {
    const plain = { kind: "state", name: "live", code: null, detail: "", following: false };
    expect(liveState("live")).toEqual(plain);
    expect(liveState("busy", "c", "d", true)).toEqual({
      kind: "state",
      name: "busy",
      code: "c",
      detail: "d",
      following: true,
    });
  });
});

describe("a row", () => {
  const view = (tombstone?: Json): Registers =>
    registers(tombstone === undefined ? { n: [1] } : { n: [1], deletedAt: tombstone });

  it.each<[Json | undefined, string | null]>([
    [undefined, null],
    [null, null],
    [AT, AT],
    [7, "7"],
    ["", ""],
  ])("whose tombstone is %j was deleted at %j", (tombstone, deletedAt) => {
    const read = rowOf({ space: "", table: "t", id: "r", view: view(tombstone) });
    expect(read).toEqual({ space: null, table: "t", id: "r", deletedAt, fields: { n: [1] } });
  });

  it("names its space, and cannot be changed", () => {
    const read = rowOf<{ n: number[] }>({ space: "s", table: "t", id: "r", view: view() });
    expect(read.space).toBe("s");
    expect([read, read.fields, read.fields.n].map((part) => Object.isFrozen(part))).toEqual([
      true,
      true,
      true,
    ]);
  });

  it("has a field of whatever name", () => {
    const own: Register = { value: 1, at: AT, client: "x" };
    const read = rowOf({ space: "", table: "t", id: "r", view: new Map([["__proto__", own]]) });
    expect(Object.keys(read.fields)).toEqual(["__proto__"]);
  });
});
