/** A device whose clock was wrong: its writes count when they were made, as soon as the clock is mended. */

import { describe, expect, it } from "vitest";
import { formatInstant, LATEST } from "../src/data/clock.js";
import type { Replica } from "../src/index.js";
import { open } from "./devices.js";
import { type PushBody, page, Script, wire } from "./script.js";

const NOW = Date.parse("2026-09-21T12:00:00Z");
const YEARS = 3 * 365 * 86_400_000;

interface Device {
  readonly replica: Replica;
  readonly script: Script;
  readonly clock: { now: number };
}

async function device(now = NOW + YEARS): Promise<Device> {
  const [script, clock] = [new Script(), { now }];
  const server = { url: "http://server/", token: "t", fetch: script.fetch, retry: { attempts: 1 } };
  const replica = await open({ ...server, clientId: "me", wall: () => clock.now });
  return { replica, script, clock };
}

/** An answer that takes everything, with its stamps lowered to this millisecond and the microseconds after it. */
function lowered(to: number): (body: PushBody | null) => ReturnType<typeof page> {
  return (body) =>
    page([], {
      conflicts: [],
      results: (body?.changes ?? []).map(({ changeId, fields }, place) => {
        const names = Object.keys((fields as object | undefined) ?? { deletedAt: 0 });
        const at = Object.fromEntries(names.map((name) => [name, formatInstant(to, place)]));
        return { changeId, status: "applied", at };
      }),
    });
}

async function stamp(replica: Replica, id: string): Promise<string | undefined> {
  return (await replica.registers("t", id)).get("n")?.at;
}

async function fieldsOf(replica: Replica): Promise<object | undefined> {
  return (await replica.get("t", "a"))?.fields;
}

function refused(code = "rule_refused"): (body: PushBody | null) => ReturnType<typeof page> {
  return (body) => {
    const each = (body?.changes ?? []).map(({ changeId }) => ({ changeId, status: "rejected", code }));
    return page([], { results: each, conflicts: [] });
  };
}

describe("a clock that was ahead", () => {
  it("comes back when the server has lowered a stamp", async () => {
    const { replica, script, clock } = await device();
    await replica.put("t", "a", { n: 1 });
    await replica.put("t", "b", { n: 1 });
    script.answers.push(lowered(NOW));
    await replica.sync();
    clock.now = NOW + 3_600_000;
    await replica.patch("t", "a", { n: 2 });
    await replica.patch("t", "c", { n: 2 }, { upsert: true });
    expect([await stamp(replica, "a"), await stamp(replica, "c")]).toEqual([
      formatInstant(clock.now),
      formatInstant(clock.now, 1),
    ]);
  });

  it.each(["refused", "unsent"])("leaves nothing behind where it is mended before: %s", async (how) => {
    const { replica, script, clock } = await device();
    await replica.put("t", "a", { b: 1 });
    if (how === "refused") script.answers.push(refused("not_a_writer"));
    if (how === "refused") await replica.sync();
    clock.now = NOW;
    await replica.patch("t", "a", { n: 1 });
    await replica.put("t", "c", { n: 1 });
    expect([await stamp(replica, "a"), await stamp(replica, "c")]).toEqual([
      formatInstant(NOW),
      formatInstant(NOW, 1),
    ]);
  });

  it("does not take a write over a refused one along into its future", async () => {
    const { replica, script, clock } = await device();
    await replica.put("t", "a", { n: 1, m: 1 });
    script.answers.push(refused());
    await replica.sync();
    clock.now = NOW;
    await replica.patch("t", "a", { n: 2 });
    expect(await stamp(replica, "a")).toBe(formatInstant(NOW, 1));
    expect(await fieldsOf(replica)).toEqual({ n: 2, m: 1 });
  });

  it("comes back, too, when the answer was lost and the server sends the change", async () => {
    const { replica, script, clock } = await device();
    const changeId = await replica.put("t", "a", { n: 1 });
    const register = { value: 1, at: formatInstant(NOW), sent: formatInstant(NOW + YEARS) };
    script.answers.push(page([wire("a", {}, { clientId: "me", changeId, fields: { n: register } })]));
    await replica.pull();
    clock.now = NOW + 1000;
    await replica.put("t", "b", { n: 1 });
    expect(await stamp(replica, "b")).toBe(formatInstant(clock.now));
  });

  it("still writes later than what it overwrites where it is beyond the last instant", async () => {
    const { replica, script } = await device(Date.parse(LATEST) + YEARS);
    for (const n of [0, 1, 2]) {
      await replica.put("t", "a", { n });
      await replica.patch("t", "a", { n: n + 10 });
      expect(await fieldsOf(replica)).toEqual({ n: n + 10 });
      script.answers.push(lowered(NOW + n));
      await replica.sync();
      expect(await fieldsOf(replica)).toEqual({ n: n + 10 });
    }
  });

  it("still writes later than what it overwrites, and never twice with one stamp", async () => {
    const { replica, script, clock } = await device();
    await replica.put("t", "a", { n: 1 });
    script.answers.push(lowered(NOW));
    await replica.sync();
    await replica.patch("t", "a", { n: 2 }); // by a clock that stands still where the lowered stamp was made
    expect(await fieldsOf(replica)).toEqual({ n: 2 });
    expect(await stamp(replica, "a")).toBe(formatInstant(NOW + YEARS, 1));
    script.answers.push(lowered(NOW + 1));
    await replica.sync();
    clock.now = NOW - YEARS;
    for (const n of [3, 4, 5]) await replica.patch("t", "a", { n });
    const stamps = (await replica.pending()).map(
      ({ change }) => (change.fields as { n: { at: string } }).n.at,
    );
    expect(stamps).toEqual([1, 2, 3].map((step) => formatInstant(NOW + 1, step)));
  });

  it("leaves on top what was written while the answer was on its way", async () => {
    const { replica, script, clock } = await device();
    await replica.put("t", "a", { n: 1 });
    let meanwhile: Promise<unknown> = Promise.resolve();
    script.answers.push((body) => {
      meanwhile = replica.patch("t", "a", { n: 2 });
      return lowered(NOW)(body);
    });
    await replica.push();
    await meanwhile;
    clock.now = NOW;
    await replica.patch("t", "a", { n: 3 });
    expect(await fieldsOf(replica)).toEqual({ n: 3 });
    script.answers.push(lowered(NOW + 10));
    await replica.push();
    expect(await fieldsOf(replica)).toEqual({ n: 3 });
    expect(await replica.pending()).toEqual([]);
  });

  it("leaves a refused write below a later one that was taken, also when it is sent again", async () => {
    const { replica, script, clock } = await device();
    const changeId = await replica.put("t", "a", { n: "refused", m: "refused" });
    script.answers.push(refused());
    await replica.push();
    await replica.patch("t", "a", { n: "later" });
    script.answers.push(lowered(NOW));
    await replica.push();
    expect(await fieldsOf(replica)).toEqual({ n: "later", m: "refused" });
    clock.now = NOW + 1000;
    await replica.requeue(changeId);
    expect(await fieldsOf(replica)).toEqual({ n: "later", m: "refused" });
  });

  it("leaves a refused write above an earlier one of the same push that was taken", async () => {
    const { replica, script } = await device();
    await replica.put("t", "a", { n: "earlier" });
    await replica.patch("t", "a", { n: "refused" });
    script.answers.push((body) => {
      const [one, other] = body?.changes ?? [];
      const taken = { changeId: one?.changeId ?? "", status: "applied", at: { n: formatInstant(NOW) } };
      const not = { changeId: other?.changeId ?? "", status: "rejected", code: "rule_refused" };
      return page([], { results: [taken, not], conflicts: [] });
    });
    await replica.push();
    expect(await fieldsOf(replica)).toEqual({ n: "refused" });
  });
});

it("a refused write of a clock that is behind stays on top", async () => {
  const { replica, script } = await device(NOW - YEARS);
  script.answers.push(page([wire("a", { n: [0, formatInstant(NOW)] })]));
  await replica.pull();
  await replica.patch("t", "a", { n: 1 });
  script.answers.push(refused());
  await replica.sync();
  await replica.patch("t", "a", { m: 1 });
  expect(await fieldsOf(replica)).toEqual({ n: 1, m: 1 });
});

it("the edit of a refused write is later than what others wrote meanwhile", async () => {
  const { replica, script, clock } = await device(NOW);
  const changeId = await replica.put("t", "a", { n: 1 });
  script.answers.push((body) => ({
    ...refused()(body),
    serverChanges: [wire("a", { n: [7, formatInstant(NOW + 30_000)] })],
  }));
  clock.now = NOW - YEARS;
  await replica.push();
  await replica.fix(changeId, { n: 2 });
  expect(await fieldsOf(replica)).toEqual({ n: 2 });
});

it.each(["requeued", "edited"])(
  "a refused write still says what it is written over when it is %s",
  async (how) => {
    const { replica, script } = await device();
    const seen = formatInstant(NOW + 30_000);
    script.answers.push(page([wire("a", { n: [1, seen] })]));
    await replica.pull();
    const changeId = await replica.patch("t", "a", { n: 2 });
    script.answers.push(refused());
    await replica.push();
    await (how === "edited" ? replica.fix(changeId, { n: 3 }) : replica.requeue(changeId));
    const [sent] = await replica.pending();
    expect(sent?.change.fields).toMatchObject({ n: { base: seen } });
  },
);
