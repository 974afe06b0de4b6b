/** The vectors that every implementation reads: those of tests/vectors in the repository that concern a client. */

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { readChange, readRegisters, stamped } from "../src/data/change.js";
import { formatInstant, parseInstant, tick } from "../src/data/clock.js";
import { isDeleted, merge, overlay, type Register, type Registers, wins } from "../src/data/merge.js";
import { wayBack } from "../src/data/undo.js";
import { dump, type Json, type JsonObject, parse } from "../src/data/values.js";
import { stampOver } from "../src/store/enqueue.js";
import type { Transaction } from "../src/store/store.js";
import { open } from "./devices.js";
import { page, Script, wire } from "./script.js";

type Whole = number | bigint;
interface ClockVectors {
  parse: { text: string; micros: Whole; canonical: string }[];
  invalid: string[];
  order: { smaller: [Whole, string]; greater: [Whole, string] }[];
  tick: { name: string; last: Whole; wall: Whole; expect: Whole }[];
}
interface MergeVector {
  name: string;
  anyOrder: boolean;
  changes: Json[];
  expect: { deleted: boolean; registers: JsonObject };
}
interface ReplicaVectors {
  lowered: { name: string; held: Json; incoming: Json; stands: "held" | "incoming" }[];
  overlay: { name: string; client: string; confirmed: JsonObject; unsent: Json[]; expect: JsonObject }[];
  write: { name: string; last: Whole; wall: Whole; replaces: Whole[]; sent?: Whole[]; expect: Whole }[];
  undo: UndoVector[];
}
interface UndoVector {
  name: string;
  writes: { id: string; before: JsonObject; fields: string[]; at: string }[];
  now: { [id: string]: JsonObject };
  expect: { id: string; op: "update" | "delete"; fields: JsonObject }[];
}

interface BaseVector {
  name: string;
  held: JsonObject;
  wall: Whole;
  writes: ["put" | "patch" | "delete" | "undelete", JsonObject?][];
  changes: JsonObject[];
}

interface FoundVector {
  name: string;
  held: JsonObject;
  edits?: JsonObject[];
  change?: JsonObject;
  overwrote?: Json[];
  conflicts: JsonObject[];
}

const BASE = (read("base.json") as unknown as { base: BaseVector[] }).base;
const FOUND = (read("overwrites.json") as unknown as { found: FoundVector[] }).found;
const CLOCK = read("clock.json") as unknown as ClockVectors;
const MERGE = read("merge.json") as unknown as MergeVector[];
const REPLICA = read("replica.json") as unknown as ReplicaVectors;

function read(name: string): Json {
  return parse(readFileSync(new URL(`../../../tests/vectors/${name}`, import.meta.url), "utf8"));
}

/** What the digits of a vector say: some of them are a double, which is printed so. */
function exactly(micros: Whole): bigint {
  return BigInt(String(micros));
}

/** Microseconds as the instant they are. */
function instant(micros: Whole): string {
  const exact = exactly(micros);
  return formatInstant(Number(exact / 1000n), Number(exact % 1000n));
}

function millis(micros: Whole): number {
  return Number(exactly(micros) / 1000n);
}

describe("clock", () => {
  it.each(CLOCK.parse)("reads and writes $text", ({ text, micros, canonical }) => {
    expect(parseInstant(text)).toBe(canonical);
    expect(instant(micros)).toBe(canonical);
  });

  it.each(CLOCK.invalid)("refuses %j, which is no instant", (text) => {
    expect(() => parseInstant(text)).toThrow(RangeError);
  });

  it.each(CLOCK.tick)("ticks: $name", ({ last, wall, expect: wanted }) => {
    expect(tick(instant(last), millis(wall))).toBe(instant(wanted));
  });

  it.each(CLOCK.order)("orders $smaller before $greater", ({ smaller, greater }) => {
    const [less, more] = [smaller, greater].map(([at, client]) => ({ value: null, at: instant(at), client }));
    expect(wins(more as Register, less as Register)).toBe(true);
    expect(wins(less as Register, more as Register)).toBe(false);
  });
});

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length <= 1) return [[...items]];
  return items.flatMap((item, place) =>
    permutations([...items.slice(0, place), ...items.slice(place + 1)]).map((rest) => [item, ...rest]),
  );
}

function plain(registers: Registers): JsonObject {
  return Object.fromEntries(
    Array.from(registers, ([field, { value, at, client }]) => [field, { value, at, clientId: client }]),
  );
}

describe("merge", () => {
  it("has enough vectors", () => expect(MERGE.length).toBeGreaterThanOrEqual(25));

  it.each(MERGE)("merges: $name", ({ anyOrder, changes, expect: wanted }) => {
    for (const order of anyOrder ? permutations(changes) : [changes]) {
      const held: Registers = new Map();
      for (const change of order) merge(held, readChange(change).registers);
      expect(plain(held)).toEqual(wanted.registers);
      expect(isDeleted(held)).toBe(wanted.deleted);
    }
  });

  it("keeps every digit of an integer", () => {
    const text =
      '{"a":[9007199254740993,-12345678901234567890],"__proto__":{"b":1e300},"c":"\\"99999999999999999,"}';
    expect(dump(parse(text))).toBe(text.replace("1e300", "1e+300"));
    expect(parse("9007199254740992")).toBe(9007199254740992);
    expect(parse("[9007199254740993]")).toEqual([9007199254740993n]);
    expect(parse(`["${"x\\n".repeat(3_000_000)}",9007199254740993]`)).toHaveLength(2);
  });
});

describe("a replica", () => {
  it.each(REPLICA.lowered)("knows a lowered write: $name", ({ held, incoming, stands }) => {
    const [left, came] = [held, incoming].map((register) => readRegisters({ x: register }, ""));
    const wanted = (stands === "held" ? left : came)?.get("x");
    merge(left as Registers, came as Registers);
    expect(left?.get("x")).toEqual(wanted);
  });

  it.each(REPLICA.overlay)(
    "shows what is unsent on top: $name",
    ({ client, confirmed, unsent, expect: wanted }) => {
      const changes = unsent.map((change) => readChange(change, client).registers);
      expect(overlay(readRegisters(confirmed, ""), changes)).toEqual(readRegisters(wanted, ""));
    },
  );

  it.each(REPLICA.write)("stamps a write: $name", ({ last, wall, replaces, sent = [], expect: wanted }) => {
    const view: Registers = new Map(
      replaces.map((at, place) => {
        const lowered = sent[place] === undefined ? {} : { sent: instant(sent[place]) };
        return [`f${place}`, { value: 0, at: instant(at), client: "me", ...lowered }];
      }),
    );
    const tx = { meta: { clock: instant(last) } } as Transaction;
    expect(stampOver(tx, view, view.keys(), millis(wall))).toBe(instant(wanted));
  });

  it.each(REPLICA.undo)("takes a batch back: $name", ({ writes, now, expect: wanted }) => {
    const written = writes.map(({ id, before, fields, at }, place) => ({
      changeId: `${place}`,
      key: ["s", "t", id] as const,
      registers: stamped(
        fields.map((field) => [field, null]),
        at,
        "me",
      ),
      before: readRegisters(before, ""),
    }));
    const extra = { origin: "o" };
    const back = wayBack(written, ([, , id]) => readRegisters(now[id], ""), "me", extra);
    expect(back).toEqual(
      wanted.map(({ id, op, fields }) => ({
        op,
        key: ["s", "t", id],
        values: new Map(Object.entries(fields)),
        extra,
      })),
    );
  });

  it.each(BASE)(
    "says what of others a write is written over: $name",
    async ({ held, wall, writes, changes }) => {
      const script = new Script();
      const server = { url: "http://server/", token: "t", fetch: script.fetch };
      const replica = await open({ ...server, clientId: "me", wall: () => millis(wall) });
      script.answers.push(page([wire("r", {}, { fields: held })]));
      await replica.pull();
      for (const [write, fields = {}] of writes) {
        if (write === "put" || write === "patch") await replica[write]("t", "r", fields);
        else await replica[write]("t", "r");
      }
      const sent = (await replica.pending()).map(({ change: { changeId, ...said } }) => said);
      expect(sent).toEqual(changes.map((change) => ({ table: "t", id: "r", ...change })));
    },
  );
});

it.each(FOUND)(
  "finds what was written over unseen: $name",
  async ({ held, edits = [], change, overwrote = [], conflicts }) => {
    const script = new Script();
    const server = { url: "http://server/", token: "t", fetch: script.fetch };
    const wall = (): number => Date.parse("2026-01-01T10:30:00Z");
    const replica = await open({ ...server, clientId: "me", wall });
    script.answers.push(page([wire("r", {}, { fields: held })]));
    await replica.pull();
    for (const fields of edits) await replica.patch("t", "r", fields, { upsert: true });
    if (change) script.answers.push(page([wire("r", {}, change)]));
    else
      script.answers.push((body) => {
        const sent = body?.changes ?? [];
        const each = sent.map(({ changeId }, place) => ({
          changeId,
          seq: place + 2,
          status: "applied",
          overwrote: overwrote[place],
        }));
        return page([], { results: each as Json, conflicts: [] });
      });
    await (change ? replica.pull() : replica.push());
    const found = await replica.conflicts();
    expect(found.map(({ kind, field, mine, theirs, by }) => ({ kind, field, mine, theirs, by }))).toEqual(
      conflicts,
    );
  },
);

interface NumberVector {
  name: string;
  sent: string;
  back: string;
  kind: "double" | "integer" | "both";
}

describe("numbers", () => {
  it.each(read("numbers.json") as unknown as NumberVector[])(
    "reads $name as it should",
    ({ sent, back, kind }) => {
      const [value] = parse(`[${back}]`) as [number | bigint];
      if (kind === "integer") expect(value).toBe(BigInt(back));
      else expect(value).toBe(Number(sent));
      expect(parse(dump(value))).toBe(value);
    },
  );
});
