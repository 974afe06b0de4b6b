/** Digests: those of the vectors, and what of a replica's own rows counts. */

import { readFileSync } from "node:fs";
import { afterEach, describe, expect, it, vi } from "vitest";
import {
  bucketOf,
  byBucket,
  digestOf,
  EMPTY,
  type Entry,
  entriesOf,
  sameSum,
  sumOf,
} from "../src/data/digest.js";
import type { Register, Registers } from "../src/index.js";
import type { RecordRow } from "../src/store/store.js";

interface Wire {
  readonly [field: string]: { value: Register["value"]; at: string; clientId: string };
}
interface Member {
  readonly table: string;
  readonly id: string;
  readonly registers: Wire;
}
interface Vectors {
  readonly records: (Member & { name: string; digest: string; bucket: number })[];
  readonly sets: {
    name: string;
    members?: Member[];
    generated?: number;
    records: number;
    digest: string;
    buckets?: [number, number, string][];
    bucketCount?: number;
    firstBucket?: [number, number, string];
  }[];
}

const VECTORS = JSON.parse(
  readFileSync(new URL("../../../tests/vectors/digest.json", import.meta.url), "utf8"),
) as Vectors;

function registersOf(wire: Wire): Registers {
  const registers = Object.entries(wire).map(([field, { value, at, clientId }]): [string, Register] => [
    field,
    { value, at, client: clientId },
  ]);
  return new Map(registers);
}

function rowOf({ table, id, registers }: Member): RecordRow {
  return { space: "", table, id, deleted: false, round: 0, view: registersOf(registers), base: null };
}

/** The records that a vector describes: t0, t1, … with one register each. */
function generated(count: number): Member[] {
  return Array.from({ length: count }, (_, n) => {
    const at = `2026-01-01T00:00:${String(n % 60).padStart(2, "0")}.${String(n).padStart(6, "0")}Z`;
    return { table: "tasks", id: `t${n}`, registers: { n: { value: n, at, clientId: "phone" } } };
  });
}

afterEach(() => vi.unstubAllGlobals());

describe("digests", () => {
  it.each(VECTORS.records)(
    "are those of the vectors: $name",
    async ({ table, id, registers, digest, bucket }) => {
      expect(await digestOf(table, id, registersOf(registers))).toBe(digest);
      expect(await bucketOf(table, id)).toBe(bucket);
    },
  );

  it.each(VECTORS.sets)("of sets are those of the vectors: $name", async (set) => {
    const entries = await entriesOf((set.members ?? generated(set.generated ?? 0)).map(rowOf));
    expect(sumOf(entries)).toEqual({ records: set.records, digest: set.digest });
    const buckets = Array.from(
      byBucket(entries),
      ([bucket, held]) => [bucket, ...Object.values(sumOf(held))] as const,
    );
    buckets.sort(([one], [other]) => one - other);
    if (set.buckets) expect(buckets).toEqual(set.buckets);
    else expect([buckets.length, buckets[0]]).toEqual([set.bucketCount, set.firstBucket]);
  });

  it("are of what is confirmed, and of what is alive there", async () => {
    const [member] = generated(1) as [Member];
    const row = rowOf(member);
    const [entry] = await entriesOf([row]);
    const mine: Register = { value: 9, at: "2030-01-01T00:00:00.000000Z", client: "me" };
    const over = { ...row, view: new Map([["n", mine]]), base: row.view };
    expect(await entriesOf([over])).toEqual([entry]);
    const deleted: Registers = new Map([...row.view, ["deletedAt", { ...mine, value: mine.at }]]);
    const alive: Registers = new Map([...row.view, ["deletedAt", { ...mine, value: null }]]);
    expect(await entriesOf([{ ...row, view: deleted }])).toEqual([]);
    expect(await entriesOf([{ ...row, base: deleted }])).toEqual([]);
    expect(await entriesOf([{ ...row, view: deleted, base: row.view }])).toEqual([entry]);
    expect(await entriesOf([{ ...row, view: alive }])).toHaveLength(1);
    expect(await entriesOf([{ ...row, base: new Map() }])).toEqual([]);
  });

  it("of many records are of all of them, in their order", async () => {
    const rows = generated(2001).map(rowOf);
    const entries = await entriesOf(rows);
    expect(entries.map(({ id }) => id)).toEqual(rows.map(({ id }) => id));
  });

  it("are equal where both the number and the digest are", () => {
    const sum = { records: 1, digest: "f".repeat(16) };
    expect(sameSum(sum, { ...sum })).toBe(true);
    expect(sameSum(sum, { ...sum, records: 2 })).toBe(false);
    expect(sameSum(sum, EMPTY)).toBe(false);
    expect(sameSum({ ...sum, records: 0 }, EMPTY)).toBe(false);
    const entry = (digest: string): Entry => ({ table: "t", id: "r", bucket: 0, digest });
    expect(sumOf([entry("00000000000000ff"), entry("000000000000000f")])).toEqual({
      records: 2,
      digest: "00000000000000f0",
    });
    expect(sumOf([])).toEqual(EMPTY);
  });

  it("cannot be had where a page did not come over HTTPS, which is said", async () => {
    vi.stubGlobal("crypto", {});
    await expect(bucketOf("t", "r")).rejects.toMatchObject({ code: "no_crypto" });
    vi.stubGlobal("crypto", undefined);
    await expect(digestOf("t", "r", new Map())).rejects.toMatchObject({ code: "no_crypto" });
  });
});
