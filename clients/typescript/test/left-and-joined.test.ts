/** What the server has taken stands on the device, whatever happened to its space while the answer was on its way. */

import { beforeEach, describe, expect, it } from "vitest";
import type { Packed } from "../src/data/change.js";
import type { Json, JsonObject, Replica } from "../src/index.js";
import { pack } from "../src/store/outbox.js";
import { applyPage } from "../src/sync/apply.js";
import { buildPage } from "../src/sync/reply.js";
import { open } from "./devices.js";
import { page, results, Script, wire } from "./script.js";

const EARLY = "2001-01-01T00:00:00.000000Z";
const BEFORE = wire("a", { n: ["before", EARLY], m: ["before", EARLY] }, { spaceId: "s" });
const LEFT: JsonObject = { spaces: { left: ["s"] } };
const JOINED: JsonObject = { spaces: { joined: ["s"] }, changes: [BEFORE] };
const S = { space: "s" };

let replica: Replica;
let script: Script;

beforeEach(async () => {
  script = new Script();
  const server = { url: "http://server/", token: "t", fetch: script.fetch, retry: { attempts: 1 } };
  replica = await open({ ...server, indexedDB: null });
  script.answers.push(page([BEFORE], { spaces: { joined: ["s"] } }));
  await replica.pull();
  await replica.patch("t", "a", { n: "mine" }, S);
});

/** Applies a frame of a live connection. */
async function take(frame: JsonObject, pushed: readonly Packed[] = []): Promise<void> {
  const built = buildPage(frame, pushed, pushed.length > 0 ? null : "c", pushed.length > 0);
  await replica["exchange"].parts.device.store.write((tx) => applyPage(tx, built, pushed));
}

/** What a live connection sends now. */
function packed(): Promise<Packed[]> {
  return replica["exchange"].parts.device.store.read((tx) => pack(tx, Infinity, 1000, 1e6));
}

function answer(pushed: readonly Packed[], status: string): JsonObject {
  return { results: pushed.map(({ changeId }) => ({ changeId, status })), conflicts: [] };
}

async function shown(space: string | null = "s", id = "a"): Promise<object | undefined> {
  return (await replica.get("t", id, { space }))?.fields;
}

async function queue(): Promise<string[][]> {
  const parts = [await replica.pending(), await replica.keptAside(), await replica.rejected()];
  return parts.map((part) => part.map(({ id }) => id));
}

const EMPTY = [[], [], []];

describe("a write to a space", () => {
  it.each(["applied", "superseded", "duplicate"])(
    "that was left, joined and is then %s stands",
    async (status) => {
      const pushed = await packed();
      await take(LEFT);
      await take(JOINED);
      await take(answer(pushed, status), pushed);
      expect(await shown()).toEqual({ n: "mine", m: "before" });
      expect(await queue()).toEqual(EMPTY);
      expect((await replica.why("t", "a", S)).state).toBe("synced");
    },
  );

  it.each(["applied", "duplicate"])(
    "that was left for good and is then %s is neither shown nor kept",
    async (status) => {
      const pushed = await packed();
      await take(LEFT);
      await take(answer(pushed, status), pushed);
      await take({ changes: [] });
      expect(await shown()).toBeUndefined();
      expect(await queue()).toEqual(EMPTY);
    },
  );

  it("in a batch that was taken is not kept as refused because that space was left", async () => {
    await replica.batch((batch) => {
      batch.put("t", "own", { n: 1 });
      batch.put("t", "shared", { n: 1 }, S);
    });
    const pushed = await packed();
    await take(LEFT);
    expect((await queue())[2]).toEqual(["own"]);
    await take(answer(pushed, "applied"), pushed);
    expect(await shown(null, "own")).toEqual({ n: 1 });
    expect(await shown("s", "shared")).toBeUndefined();
    expect(await queue()).toEqual(EMPTY);
  });

  it("that came back before its answer is not undone by it", async () => {
    const pushed = await packed();
    const { fields } = JSON.parse(pushed[0]?.body ?? "") as { fields: Json };
    const own = { changeId: pushed[0]?.changeId as string, clientId: replica.clientId, fields };
    await take({ changes: [wire("a", {}, { spaceId: "s", ...own })] });
    const theirs: [Json, string] = ["theirs", "2099-01-01T00:00:00.000000Z"];
    await take({ changes: [wire("a", { n: theirs }, { spaceId: "s" })] });
    await take(answer(pushed, "applied"), pushed);
    expect(await shown()).toEqual({ n: "theirs", m: "before" });
    expect(await queue()).toEqual(EMPTY);
  });

  it("that was moved elsewhere meanwhile is sent there, and stands where it was taken", async () => {
    const pushed = await packed();
    await take(LEFT);
    await take(JOINED);
    const moved = await replica.move((await replica.keptAside())[0]?.changeId ?? "", null);
    await take(answer(pushed, "applied"), pushed);
    expect(await shown()).toEqual({ n: "mine", m: "before" });
    expect(await shown(null)).toEqual({ n: "mine" });
    expect((await replica.pending()).map(({ changeId }) => changeId)).toEqual([moved]);
  });

  it("that is refused after the space was left stays aside", async () => {
    const pushed = await packed();
    await take(LEFT);
    await take(JOINED);
    await take(answer(pushed, "rejected"), pushed);
    expect(await queue()).toEqual([[], ["a"], []]);
    expect(await shown()).toEqual({ n: "before", m: "before" });
  });

  it("that was made again under its old name is not the old one's", async () => {
    const again = wire("b", { n: ["again", EARLY] }, { spaceId: "s" });
    const spaces = { left: ["s"], joined: ["s"] };
    script.answers.push((body) => results(body, "applied", { serverChanges: [again], spaces }));
    await replica.sync();
    expect((await replica.query("t", [], S)).map(({ id }) => id)).toEqual(["a", "b"]);
    expect(await shown()).toEqual({ n: "mine" });
    expect((await replica.spaces()).map(({ id }) => id)).toEqual(["s"]);
  });

  it("that waited behind one on its way wins when it is sent again", async () => {
    const pushed = await packed();
    await replica.patch("t", "a", { n: "later" }, S);
    await take(LEFT);
    await take(JOINED);
    await take(answer(pushed, "applied"), pushed);
    const taken = (await replica.registers("t", "a", S)).get("n");
    const [waits] = await replica.keptAside();
    expect([taken?.value, waits?.id]).toEqual(["mine", "a"]);
    await replica.requeue(waits?.changeId ?? "");
    expect(await shown()).toEqual({ n: "later", m: "before" });
    await replica.sync();
    const sent = script.pushes.at(-1)?.changes[0]?.fields as { n: { at: string } };
    expect(sent.n.at > (taken?.at ?? "")).toBe(true);
    expect(await shown()).toEqual({ n: "later", m: "before" });
    expect(await queue()).toEqual(EMPTY);
  });

  it("that is left does not touch what is beside it", async () => {
    await replica.patch("t", "a", { n: 1 }, { space: "s2", upsert: true });
    await replica.patch("t", "a", { n: 2 }, { upsert: true });
    await take({ spaces: { joined: ["s2", "z"] } });
    await take(LEFT);
    expect((await replica.spaces()).map(({ id }) => id)).toEqual(["s2", "z"]);
    expect([await shown(), await shown("s2"), await shown(null)]).toEqual([undefined, { n: 1 }, { n: 2 }]);
    expect(await queue()).toEqual([["a", "a"], ["a"], []]);
    await take({ spaces: { left: ["_personal:u"] } });
    expect(await shown(null)).toEqual({ n: 2 });
  });
});
