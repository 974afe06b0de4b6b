/** Sets in a record: the cases of tests/vectors/sets.json, as Python has them, and two devices that were apart. */

import { describe, expect, it } from "vitest";
import type { Json, JsonObject } from "../src/data/values.js";
import { InvalidWrite } from "../src/index.js";
import { adding, members, removing } from "../src/sets.js";
import { vectors } from "./vectors.js";

interface Cases {
  changes: { name: string; set: string; add: string[]; remove: string[]; expect: JsonObject }[];
  members: { name: string; fields: JsonObject; set: string; expect: string[] }[];
  refused: { set: Json; member: Json }[];
}

const CASES = vectors<Cases>("sets");

describe("the vectors", () => {
  it.each(CASES.changes)("changes: $name", ({ set, add, remove, expect: fields }) => {
    expect({ ...adding(set, ...add), ...removing(set, ...remove) }).toEqual({ ...fields });
  });

  it.each(CASES.members)("members: $name", ({ fields, set, expect: found }) => {
    expect(members(fields, set)).toEqual(found);
  });

  it.each(CASES.refused)("refused: $member in $set", ({ set, member }) => {
    expect(() => adding(set as string, member as string)).toThrow(InvalidWrite);
    expect(() => removing(set as string, member as string)).toThrow(InvalidWrite);
  });

  it("refuses to read what is no name of a set", () => {
    expect(() => members({}, "a:b")).toThrow(InvalidWrite);
  });
});
