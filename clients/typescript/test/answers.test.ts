/** What the application reads: doubles that stay doubles, and answers that nobody can change. */

import { describe, expect, it } from "vitest";
import { dump, parse } from "../src/data/values.js";
import type { Json, Replica } from "../src/index.js";
import { open, until } from "./devices.js";

describe("numbers", () => {
  it.each([1e23, Number.MAX_VALUE, 123456789012345680000, -1e23, 1e21, 2 ** 60, 0, -7, 9007199254740994])(
    "the double %d comes back as one",
    (value) => {
      const [mantissa = "", exponent = "0"] = value.toExponential().split("e+");
      const [whole = "", fraction = ""] = mantissa.split(".");
      const printed = `${whole}${fraction}${"0".repeat(Number(exponent) - fraction.length)}`;
      expect(parse(`[${printed},{"n":${printed}}]`)).toEqual([value, { n: value }]);
    },
  );

  it.each(["9007199254740993", "9223372036854775807", "-9223372036854775808", "100000000000000000000001"])(
    "the integer %s keeps its digits",
    (text) => {
      expect(parse(`[${text}]`)).toEqual([BigInt(text)]);
      expect(dump(parse(text))).toBe(text);
    },
  );

  it("are of one type, whatever the application gave", async () => {
    const replica = await open();
    await replica.put("t", "a", {
      double: 1e23,
      same: 100000000000000000000000n,
      long: 9223372036854775808n,
    });
    expect((await replica.get("t", "a"))?.fields).toEqual({ double: 1e23, same: 1e23, long: 2n ** 63n });
    expect(await replica.query("t", { double: { ">": 1e22 }, same: 1e23 })).toHaveLength(1);
  });
});

describe.each([
  ["in memory", { indexedDB: null }],
  ["in IndexedDB", {}],
])("answers (%s)", (_name, options) => {
  async function filled(): Promise<Replica> {
    const replica = await open(options);
    await replica.put("t", "a", { list: [1, { deep: [] }], n: 1 });
    return replica;
  }

  /** Tries to change it, as an application that is not in strict mode would. */
  function spoil(row: object | null | undefined): void {
    const { fields } = row as { fields: { list: Json[]; n: number } };
    for (const change of [
      () => fields.list.push(2),
      () => ((fields.list[1] as { deep: Json[] }).deep[0] = 1),
      () => (fields.n = 2),
      () => ((row as { id: string }).id = "b"),
    ])
      expect(change).toThrow(TypeError);
  }

  it("cannot be changed", async () => {
    const replica = await filled();
    spoil(await replica.get("t", "a"));
    spoil((await replica.query("t"))[0]);
    const query = replica.query("t");
    const seen: (readonly object[])[] = [];
    query.subscribe((rows) => seen.push(rows));
    await until("told", () => seen.length === 1);
    spoil(seen[0]?.[0]);
    expect(() => (query.current as object[]).pop()).toThrow(TypeError);
    expect((await replica.get("t", "a"))?.fields).toEqual({ list: [1, { deep: [] }], n: 1 });
  });

  it("of one reader are no others'", async () => {
    const replica = await filled();
    const registers = await replica.registers("t", "a");
    expect(() => ((registers.get("list")?.value as Json[])[0] = 2)).toThrow(TypeError);
    registers.clear();
    expect((await replica.registers("t", "a")).size).toBe(3);
    const told: { records: readonly object[] }[] = [];
    replica.on((event) => event.kind === "changes" && told.push(event));
    replica.on((event) => event.kind === "changes" && told.push(event));
    await replica.patch("t", "a", { n: 2 });
    const [first = { records: [] }] = told;
    expect(() => (first.records as object[]).pop()).toThrow(TypeError);
    expect(told[1]?.records).toHaveLength(1);
  });
});
