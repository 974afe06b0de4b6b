/** A replica compared with a server that is a script: how often it asks, what it mends, and when it gives up. */

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { entriesOf, sumOf } from "../src/data/digest.js";
import { BadReply, type Event, type Json, type JsonObject, Refused, type Replica } from "../src/index.js";
import { keepVerified, verify } from "../src/verify.js";
import { open } from "./devices.js";
import { page, problem, Script, wire } from "./script.js";

const [AT, LATER] = ["2026-01-01T10:00:00.000000Z", "2026-01-01T10:00:01.000000Z"];
const MINE = "_personal:u";
const OTHER = "f".repeat(16);
const FOUND = {
  kind: "verified",
  spaces: 1,
  records: 2,
  differences: 0,
  repaired: 0,
  skipped: [],
  restarted: false,
};

let replica: Replica;
let script: Script;

beforeEach(async () => {
  script = new Script();
  const server = { url: "http://server/", token: "t", fetch: script.fetch, retry: { attempts: 1 } };
  replica = await open({ ...server, indexedDB: null });
  script.answers.push(page([wire("a", { n: [1, AT] }), wire("b", { n: [1, AT] })]));
  await replica.pull();
  script.asked.length = 0;
});

afterEach(() => vi.useRealTimers());

/** What the replica has, as the server would tell it. */
async function mine(space = ""): Promise<JsonObject> {
  const rows = await replica["exchange"].parts.device.store.read((tx) => tx.all("records", [space]));
  const name = space || MINE;
  return { spaceId: name, seq: 1, ...sumOf(await entriesOf(rows)) };
}

function told(spaces: Json[], behind: string[] = [], unready: string[] = []): JsonObject {
  return { spaces, behind, unready };
}

function bucket(changes: Json[] = [], gone: Json[] = [], hasMore = false): JsonObject {
  return { spaceId: MINE, seq: 1, changes, gone, hasMore };
}

/** What was asked, in short. */
function asked(): string[] {
  return script.asked.map(({ method, url }) => `${method} ${url.pathname.split("/").at(-1)}`);
}

async function buckets(): Promise<Json[]> {
  const rows = await replica["exchange"].parts.device.store.read((tx) => tx.all("records", [""]));
  return (await entriesOf(rows)).map((entry) => [entry.bucket, 1, entry.digest]);
}

describe("a comparison", () => {
  it("of what is the same asks once, and is noted", async () => {
    script.answers.push(page(), told([await mine()]));
    const events: Event[] = [];
    replica.on((event) => events.push(event));
    expect(await verify(replica)).toEqual(FOUND);
    expect(asked()).toEqual(["GET pull", "GET digest"]);
    expect(script.asked[1]?.url.search).toBe("?since=c1");
    expect(events.at(-1)).toEqual(FOUND);
    const { store } = replica["exchange"].parts.device;
    expect(await store.read(async ({ meta }) => meta.verified)).toBeGreaterThan(Date.now() - 60_000);
  });

  it("of what differs asks for the parts, and repairs those that do", async () => {
    const whole = await mine();
    const [first, second] = (await buckets()) as [number, number, string][];
    const lost = wire("a", { n: [1, LATER] });
    script.answers.push(
      page(),
      told([{ ...whole, digest: OTHER }]),
      told([{ ...whole, buckets: [[first?.[0] as number, 1, OTHER], second as Json] }]),
      bucket([lost]),
    );
    const changes: unknown[] = [];
    replica.on((event) => event.kind === "changes" && changes.push(event.records));
    expect(await verify(replica)).toEqual({ ...FOUND, differences: 1, repaired: 1 });
    expect(asked()).toEqual(["GET pull", "GET digest", "GET digest", "POST digest"]);
    expect(script.asked[2]?.url.searchParams.get("spaceId")).toBe(MINE);
    expect(script.asked[3]?.body).toEqual({
      since: "c1",
      spaceId: MINE,
      bucket: first?.[0],
      records: [["t", "a", first?.[2]]],
    });
    expect((await replica.registers("t", "a")).get("n")?.at).toBe(LATER);
    expect(changes).toEqual([[{ space: null, table: "t", id: "a" }]]);
  });

  it("removes what the server does not have, and keeps what is unsent of it", async () => {
    await replica.patch("t", "b", { mine: true });
    const whole = await mine();
    const parts = (await buckets()) as [number, number, string][];
    script.answers.push(page(), told([{ ...whole, records: 0 }]), told([{ ...whole, buckets: [] }]));
    for (const [, id] of parts.map(([part], place) => [part, place === 0 ? "a" : "b"]))
      script.answers.push(bucket([], [["t", id as string]]));
    expect(await verify(replica)).toMatchObject({ differences: 2, repaired: 2 });
    expect(await replica.get("t", "a")).toBeNull();
    expect((await replica.get("t", "b"))?.fields).toEqual({ mine: true });
    expect(await replica.pending()).toHaveLength(1);
  });

  it("goes on while there is more of a part, with what it holds by then, and ends where nothing new comes", async () => {
    const whole = await mine();
    const differs = told([{ ...whole, buckets: [[300, 9, OTHER], ...(await buckets())] }]);
    const one = wire("x", { n: [1, AT] });
    script.answers.push(page(), told([{ ...whole, digest: OTHER }]), differs);
    script.answers.push(
      bucket([one], [], true),
      bucket([wire("y", { n: [1, AT] })], [], true),
      bucket([one], [], true),
    );
    expect(await verify(replica)).toMatchObject({ differences: 2, repaired: 2 });
    expect(asked().filter((line) => line === "POST digest")).toHaveLength(3);
  });

  it.each([
    [63, false],
    [64, true],
  ])("of which %d parts differ begins anew: %s", async (count, restarted) => {
    const whole = await mine();
    const differing = Array.from({ length: count }, (_, n) => [n + 300, 1, OTHER]);
    script.answers.push(page(), told([{ ...whole, digest: OTHER }]));
    script.answers.push(told([{ ...whole, buckets: [...differing, ...(await buckets())] }]));
    if (restarted) script.answers.push(problem(400, "bad_cursor"), page([wire("a", { n: [1, AT] })]), page());
    else for (let n = 0; n < count; n++) script.answers.push(bucket());
    const { store } = replica["exchange"].parts.device;
    if (restarted)
      script.answers.push(async () => {
        const rows = await store.read((tx) => tx.all("records", [""]));
        return told([{ spaceId: MINE, seq: 1, ...sumOf(await entriesOf(rows)) }]);
      });
    const found = await verify(replica);
    expect(found).toMatchObject(
      restarted ? { restarted, records: 1, differences: 64, repaired: 64 } : { restarted, records: 2 },
    );
    expect(asked().filter((line) => line === "POST digest")).toHaveLength(restarted ? 0 : count);
    expect(script.asked.some(({ url }) => url.searchParams.get("since") === "anew")).toBe(restarted);
    expect((await replica.get("t", "b")) === null).toBe(restarted);
  });

  it("is asked for again after a pull where the replica or the space has moved, four times at most", async () => {
    script.answers.push(page());
    for (let turn = 0; turn < 4; turn++) {
      const whole = await mine();
      script.answers.push(told([{ ...whole, digest: OTHER }]), problem(409, "moved"));
      if (turn < 3) script.answers.push(page());
    }
    expect(await verify(replica)).toEqual({ ...FOUND, spaces: 0, records: 0, skipped: [null] });
    expect(asked()).toEqual([
      "GET pull",
      ...Array(4).fill(["GET digest", "GET digest", "GET pull"]).flat().slice(0, -1),
    ]);
  });

  it("names the spaces that could not be compared, in order, the personal one as null", async () => {
    const rest = ["z", MINE, "a"];
    script.answers.push(page());
    for (let turn = 0; turn < 4; turn++) script.answers.push(told([], rest), page());
    expect((await verify(replica)).skipped).toEqual(["a", null, "z"].sort());
  });

  it("waits a second at a time for a space that is not ready, a minute at most", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    script.answers.push(page(), told([], [], [MINE]), told([await mine()]));
    const soon = verify(replica);
    await vi.advanceTimersByTimeAsync(999);
    expect(script.asked).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(1);
    expect(await soon).toEqual(FOUND);
    script.asked.length = 0;
    script.answers.push(page());
    for (let turn = 0; turn < 61; turn++) script.answers.push(told([], [], [MINE]));
    const never = verify(replica);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(await never).toEqual({ ...FOUND, spaces: 0, records: 0, skipped: [null] });
    expect(script.asked).toHaveLength(62);
  });

  it("does not count a space twice, nor one that comes up only later", async () => {
    const whole = await mine();
    const later = { spaceId: "later", seq: 1, records: 5, digest: OTHER };
    script.answers.push(page(), told([whole], ["s"]), page());
    script.answers.push(told([whole, later, { spaceId: "s", seq: 1, ...sumOf([]) }]));
    expect(await verify(replica)).toEqual({ ...FOUND, spaces: 2 });
    expect(asked()).toEqual(["GET pull", "GET digest", "GET pull", "GET digest"]);
  });

  it("of no space is done", async () => {
    script.answers.push(page(), told([]));
    expect(await verify(replica)).toEqual({ ...FOUND, spaces: 0, records: 0 });
  });

  it("of a space that the server then does not tell of has moved", async () => {
    const whole = await mine();
    script.answers.push(page(), told([{ ...whole, digest: OTHER }]), told([]), page(), told([whole]));
    expect(await verify(replica)).toEqual(FOUND);
  });

  it.each<[string, (whole: JsonObject) => JsonObject[]]>([
    ["a number of records that is a text", (whole) => [told([{ ...whole, records: "2" }])]],
    ["no digest", ({ digest: _, ...whole }) => [told([whole])]],
    ["a space that is no object", () => [told([1])]],
    [
      "a part without a number",
      (whole) => [told([{ ...whole, digest: OTHER }]), told([{ ...whole, buckets: [[1]] }])],
    ],
    [
      "something gone that is no name",
      (whole) => [
        told([{ ...whole, digest: OTHER }]),
        told([{ ...whole, buckets: [[300, 1, OTHER]] }]),
        bucket([], [["t"]]),
      ],
    ],
  ])("is refused with %s, and changes nothing", async (_, answers) => {
    script.answers.push(page(), ...answers(await mine()));
    await expect(verify(replica)).rejects.toThrow(BadReply);
    expect(await replica.query("t")).toHaveLength(2);
  });

  it.each([404, 400])("by a server that answers %d is an error", async (status) => {
    const whole = await mine();
    script.answers.push(page(), told([{ ...whole, digest: OTHER }]), problem(status, "not_found"));
    await expect(verify(replica)).rejects.toThrow(Refused);
  });
});

describe("a replica that is kept verified", () => {
  const HOUR = 3_600_000;
  const verifications = (): number => asked().filter((line) => line === "GET digest").length;

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
  });

  it("is compared when it is due, the first time so long after it was first asked for", async () => {
    const stop = keepVerified(replica, { every: HOUR, quiet: 1000 });
    await vi.advanceTimersByTimeAsync(HOUR - 1);
    expect(verifications()).toBe(0);
    script.answers.push(page(), told([]), page(), told([]));
    await vi.advanceTimersByTimeAsync(1001);
    expect(verifications()).toBe(1);
    await vi.advanceTimersByTimeAsync(HOUR - 1);
    expect(verifications()).toBe(1);
    await vi.advanceTimersByTimeAsync(1001);
    expect(verifications()).toBe(2);
    stop();
    await vi.advanceTimersByTimeAsync(3 * HOUR);
    expect(verifications()).toBe(2);
  });

  it("is compared 6 hours after the last time, where nothing else was asked for", async () => {
    const stop = keepVerified(replica);
    await vi.advanceTimersByTimeAsync(6 * HOUR - 1);
    expect(verifications()).toBe(0);
    script.answers.push(page(), told([]));
    await vi.advanceTimersByTimeAsync(30_001);
    expect(verifications()).toBe(1);
    stop();
  });

  it("is compared again after a failure, a 36th of the time later", async () => {
    const stop = keepVerified(replica, { every: 36_000, quiet: 10 });
    script.answers.push(new TypeError("cut"));
    await vi.advanceTimersByTimeAsync(36_020);
    const { length } = script.asked;
    expect(length).toBe(1);
    await vi.advanceTimersByTimeAsync(900);
    expect(script.asked).toHaveLength(1);
    script.answers.push(page(), told([]));
    await vi.advanceTimersByTimeAsync(200);
    expect(verifications()).toBe(1);
    stop();
  });

  it("is left alone until it has been quiet for so long, and while its live sync is not live", async () => {
    const { store } = replica["exchange"].parts.device;
    await store.write(async ({ meta }) => {
      meta.verified = Date.now() - HOUR;
    });
    const stop = keepVerified(replica, { every: HOUR, quiet: 1000 });
    for (let n = 0; n < 5; n++) {
      await vi.advanceTimersByTimeAsync(900);
      await replica.put("t", "a", { n });
    }
    const state = (name: string, following = false): void =>
      replica["exchange"].parts.device.publish({
        kind: "state",
        name,
        following,
        code: null,
        detail: "",
      } as Event);
    expect(script.asked).toHaveLength(0);
    for (const [name, following] of [
      ["offline"],
      ["live", true],
      ["polling", true],
      ["connecting"],
    ] as const) {
      state(name, following);
      await vi.advanceTimersByTimeAsync(2000);
    }
    expect(script.asked).toHaveLength(0);
    script.answers.push(page(), told([]));
    state("polling");
    await vi.advanceTimersByTimeAsync(1001);
    expect(verifications()).toBe(1);
    stop();
  });
});
