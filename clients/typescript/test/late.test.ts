/** Answers that come late: the replica has moved on meanwhile, and keeps what it has. */

import { describe, expect, it } from "vitest";
import type { JsonObject, Replica } from "../src/index.js";
import { applyPage } from "../src/sync/apply.js";
import { readPage } from "../src/sync/reply.js";
import { verify } from "../src/verify.js";
import { open } from "./devices.js";
import { page, results, Script, wire } from "./script.js";

const [AT, LATER] = ["2026-01-01T10:00:00.000001Z", "2026-01-01T10:00:00.000002Z"];
const LEFT = page([], { spaces: { joined: [], left: ["s"] }, syncedUntil: "c2" });

async function member(): Promise<{ replica: Replica; script: Script }> {
  const script = new Script();
  const server = { url: "http://server/", token: "t", retry: { attempts: 1 }, fetch: script.fetch };
  const replica = await open({ ...server, wall: () => Date.parse("2026-01-02T00:00:00Z") });
  script.answers.push(
    page([wire("a", { n: [1, AT] }, { spaceId: "s" }), wire("p", { n: [1, AT] })], {
      spaces: { joined: ["s"], left: [] },
    }),
  );
  await replica.pull();
  return { replica, script };
}

/** What a live connection brings while a request is under way. */
async function bring(replica: Replica, wire: JsonObject): Promise<void> {
  const { device } = replica["exchange"].parts;
  await device.store.write((tx) => applyPage(tx, readPage(JSON.stringify(wire), []), []));
}

describe("an answer that comes late", () => {
  it("to a push for a space that was left shows nothing of it", async () => {
    const { replica, script } = await member();
    await replica.patch("t", "a", { n: 2 }, { space: "s" });
    script.answers.push(async (body) => {
      await bring(replica, LEFT);
      return results(body, "applied", { syncedUntil: "c2" });
    });
    await replica.sync();
    expect(await replica.get("t", "a", { space: "s", deleted: true })).toBeNull();
    expect(await replica.query("t", [], { space: "s" })).toEqual([]);
    expect([await replica.pending(), await replica.keptAside()]).toEqual([[], []]);
  });

  it("to a comparison undoes nothing that came since", async () => {
    const { replica, script } = await member();
    const [none, sum] = ["0".repeat(16), "f".repeat(16)];
    const told = { spaceId: "_personal:u", seq: 1, records: 2, digest: sum };
    const digests = (spaces: JsonObject[], behind: string[] = []): JsonObject => ({
      spaces,
      behind,
      unready: [],
    });
    const old = { changes: [wire("p", { n: [1, AT] })], gone: [["t", "made"]], hasMore: false };
    script.answers.push(page(), digests([told]), digests([{ ...told, buckets: [[7, 2, sum]] }]), async () => {
      const brought = [wire("p", { n: [2, LATER] }), wire("made", { n: [2, LATER] })];
      await bring(replica, page(brought, { syncedUntil: "c2" }));
      return { spaceId: "_personal:u", seq: 1, ...old };
    });
    script.answers.push(page([], { syncedUntil: "c3" }), digests([{ ...told, records: 0, digest: none }]));
    for (let turn = 0; turn < 4; turn++) script.answers.push(digests([], ["_personal:u"]), page());
    await verify(replica);
    expect((await replica.get("t", "p"))?.fields).toEqual({ n: 2 });
    expect((await replica.get("t", "made"))?.fields).toEqual({ n: 2 });
  });
});
