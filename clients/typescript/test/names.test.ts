/** Names that may be surprising: tests/vectors/names.json, as the server, Python and RxDB have them. */

import { describe, expect, it } from "vitest";
import { InvalidQuery, InvalidWrite } from "../src/index.js";
import { aggregate, groupBy } from "../src/queries/index.js";
import { open } from "./devices.js";
import { NAMES } from "./vectors.js";

const VALID = NAMES.filter(({ valid }) => valid);

describe("a name", () => {
  it.each(VALID)("is a table, a record, a field and a space: $name", async ({ called: name }) => {
    const replica = await open();
    const place = { space: name };
    const value = Object.fromEntries([[name, 1]]);
    expect(await replica.get(name, name, place)).toBeNull();
    await replica.put("t", "other", { n: 1 }, place);
    const ascending = name.startsWith("-") ? [] : [name]; // it would be the descending order of another
    expect(await replica.query("t", [[name, "!=", null]], { ...place, order: ascending })).toEqual([]);
    await replica.put(name, name, Object.fromEntries([[name, value]]), place);
    const found = await replica.get(name, name, place);
    expect(found).toMatchObject({ table: name, id: name, space: name });
    expect(Object.entries(found?.fields ?? {})).toEqual([[name, value]]);
    expect((await replica.registers(name, name, place)).has(name)).toBe(true);
    const query = replica.query(name, Object.fromEntries([[name, { "=": value }]]), {
      ...place,
      order: ascending,
    });
    expect(await query).toEqual([found]);
    expect(await replica.query(name, { other: null }, { ...place, order: `-${name}` })).toEqual([found]);
    expect(await groupBy(query, name, { all: "count" })).toEqual([{ all: 1, by: value }]);
    const counted = await aggregate(query, Object.fromEntries([[name, { count: name }]]));
    expect(Object.entries(counted)).toEqual([[name, 1]]);
    const [, queued] = await replica.pending();
    expect(queued).toMatchObject({ table: name, id: name, space: name });
    expect(Object.keys((queued?.change.fields ?? {}) as object).sort()).toEqual(["deletedAt", name].sort());
    await replica.delete(name, name, place);
    expect(await replica.query(name, [], place)).toEqual([]);
  });

  it.each(NAMES.filter(({ valid }) => !valid))("is none: $name", async ({ called: name }) => {
    const replica = await open();
    const writes: [string, string, object, string | null][] = [
      [name, "r", { n: 1 }, null],
      ["t", name, { n: 1 }, null],
      ["t", "r", Object.fromEntries([[name, 1]]), null],
      ...(name === "" ? [] : [["t", "r", { n: 1 }, name] as [string, string, object, string]]),
    ];
    for (const [table, id, fields, space] of writes)
      await expect(replica.put(table, id, fields, { space })).rejects.toThrow(InvalidWrite);
    expect(() => replica.get(name, "r")).toThrow(InvalidQuery);
    expect(() => replica.get("t", name)).toThrow(InvalidQuery);
    expect(() => replica.query("t", [[name, "=", 1]])).toThrow(InvalidQuery);
    expect(() => replica.query("t", [], { order: [name] })).toThrow(InvalidQuery);
    expect(await replica.pending()).toEqual([]);
  });

  it("is another one than those that look alike", async () => {
    const replica = await open();
    await replica.batch((batch) => {
      for (const { called } of VALID) batch.put("t", called, { n: called });
    });
    const rows = await replica.query("t");
    expect(rows.map(({ id, fields }) => [id, fields.n])).toHaveLength(VALID.length);
    for (const { id, fields } of rows) expect(fields.n).toBe(id);
  });
});
