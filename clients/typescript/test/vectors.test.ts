/** The vectors that every implementation reads: tests/vectors/clock.json and merge.json of the repository. */

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { readChange } from "../src/change.js";
import { formatInstant, observe, parseInstant, tick } from "../src/clock.js";
import { dump, type Json, type JsonObject, parse } from "../src/json.js";
import { isDeleted, merge, type Register, type Registers, wins } from "../src/merge.js";

type Whole = number | bigint;
interface ClockVectors {
  parse: { text: string; micros: Whole; canonical: string }[];
  invalid: string[];
  order: { smaller: [Whole, string]; greater: [Whole, string] }[];
  tick: { name: string; last: Whole; wall: Whole; expect: Whole }[];
  observe: { name: string; last: Whole; seen: Whole; wall: Whole; expect: Whole }[];
}
interface MergeVector {
  name: string;
  anyOrder: boolean;
  changes: Json[];
  expect: { deleted: boolean; registers: JsonObject };
}

const CLOCK = read("clock.json") as unknown as ClockVectors;
const MERGE = read("merge.json") as unknown as MergeVector[];

function read(name: string): Json {
  return parse(readFileSync(new URL(`../../../tests/vectors/${name}`, import.meta.url), "utf8"));
}

/** Microseconds as the instant they are. */
function instant(micros: Whole): string {
  const exact = BigInt(micros);
  return formatInstant(Number(exact / 1000n), Number(exact % 1000n));
}

function millis(micros: Whole): number {
  return Number(BigInt(micros) / 1000n);
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

  it.each(CLOCK.observe)("observes: $name", ({ last, seen, wall, expect: wanted }) => {
    expect(observe(instant(last), instant(seen), millis(wall))).toBe(instant(wanted));
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
