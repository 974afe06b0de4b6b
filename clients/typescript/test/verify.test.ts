/** Replicas whose stores were damaged, compared with the real server and mended. */

import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Event, Registers, Replica, ReplicaOptions } from "../src/index.js";
import type { RecordRow, Transaction } from "../src/store/store.js";
import { keepVerified, verify } from "../src/verify.js";
import { contents, open, QUICK, until } from "./devices.js";
import { RealServer } from "./server.js";

const WHOLE = { kind: "verified", spaces: 1, differences: 0, repaired: 0, skipped: [], restarted: false };

let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start();
});
afterAll(() => server.remove());

/** A replica with twenty records, two of them deleted; and who can open another one. */
async function phone(options: Partial<ReplicaOptions> = {}): Promise<{ replica: Replica; token: string }> {
  const token = await server.token(`verify-${randomUUID()}`);
  const replica = await open({ url: server.url, token, ...options });
  for (let n = 0; n < 20; n++) await replica.put("t", `t${n}`, { title: `${n}`, done: false });
  await replica.patch("t", "t3", { done: true });
  for (const id of ["t4", "t5", "t6"]) await replica.delete("t", id);
  await replica.undelete("t", "t5");
  await replica.sync();
  return { replica, token };
}

/** Changes a store behind its replica's back. */
function damage(replica: Replica, how: (tx: Transaction) => Promise<void>): Promise<void> {
  return replica["exchange"].parts.device.store.write(how);
}

async function change(tx: Transaction, id: string, how: (row: RecordRow) => RecordRow): Promise<void> {
  const row = await tx.get("records", ["", "t", id]);
  if (row === undefined) throw new Error(`there is no ${id}`);
  tx.put("records", how(row));
}

function restamped(at: string): (row: RecordRow) => RecordRow {
  return (row) => ({ ...row, view: new Map([...row.view, ["title", { value: "x", at, client: "x" }]]) });
}

const DAMAGES: { [name: string]: [number, (tx: Transaction) => Promise<void>] } = {
  "a record is lost": [1, async (tx) => tx.delete("records", ["", "t", "t1"])],
  "a stamp is older": [1, (tx) => change(tx, "t1", restamped("2000-01-01T00:00:00.000000Z"))],
  "a stamp is newer": [1, (tx) => change(tx, "t1", restamped("2200-01-01T00:00:00.000000Z"))],
  "a field is lost": [
    1,
    (tx) =>
      change(tx, "t1", (row) => ({
        ...row,
        view: new Map([...row.view].filter(([field]) => field !== "done")),
      })),
  ],
  "a record is there that nobody wrote": [1, (tx) => change(tx, "t1", (row) => ({ ...row, id: "ghost" }))],
  "a deleted record is alive": [
    1,
    (tx) => {
      const view: Registers = new Map([
        ["title", { value: "4", at: "2000-01-01T00:00:00.000000Z", client: "x" }],
      ]);
      return change(tx, "t4", (row) => ({ ...row, deleted: false, view }));
    },
  ],
  "all records are lost": [
    18,
    async (tx) => {
      for (const { id } of await tx.all("records")) tx.delete("records", ["", "t", id]);
    },
  ],
};

/** The live ones. */
async function live(replica: Replica): Promise<object> {
  const all = Object.entries(await contents(replica));
  return Object.fromEntries(all.filter(([, { deletedAt }]) => (deletedAt?.value ?? null) === null));
}

describe("verifying", () => {
  it("leaves alone what is whole", async () => {
    const { replica, token } = await phone();
    expect(await verify(replica)).toEqual({ ...WHOLE, records: 18 });
    const laptop = await open({ url: server.url, token });
    expect(await verify(laptop)).toEqual({ ...WHOLE, records: 18 });
  });

  it.each(Object.entries(DAMAGES))("finds and mends what is wrong: %s", async (_name, [differences, how]) => {
    const { replica } = await phone();
    const whole = await live(replica);
    await damage(replica, how);
    const events: Event[] = [];
    replica.on((event) => events.push(event));
    expect(await verify(replica)).toEqual({ ...WHOLE, records: 18, differences, repaired: differences });
    expect(await live(replica)).toEqual(whole);
    expect(events.at(-1)).toMatchObject({ kind: "verified", repaired: differences });
    const changed = events.flatMap((event) => (event.kind === "changes" ? event.records : []));
    expect(changed).toHaveLength(differences);
    expect(await verify(replica)).toEqual({ ...WHOLE, records: 18 });
    expect(await replica.get("t", "t4")).toBeNull();
  });

  it("keeps what is unsent on top of what it mends", async () => {
    const { replica, token } = await phone();
    await replica.patch("t", "t1", { title: "mine" });
    await damage(replica, (tx) =>
      change(tx, "t1", (row) => {
        const base: Registers = new Map([
          ["title", { value: "x", at: "2000-01-01T00:00:00.000000Z", client: "x" }],
        ]);
        return { ...row, base };
      }),
    );
    expect(await verify(replica)).toMatchObject({ differences: 1, repaired: 1 });
    expect((await replica.get("t", "t1"))?.fields).toEqual({ title: "mine", done: false });
    expect(await replica.pending()).toHaveLength(1);
    await replica.sync();
    const laptop = await open({ url: server.url, token });
    await laptop.sync();
    expect((await laptop.get("t", "t1"))?.fields).toEqual({ title: "mine", done: false });
    expect(await verify(replica)).toEqual({ ...WHOLE, records: 18 });
  });

  it("compares each space by itself", async () => {
    const { replica, token } = await phone();
    const space = `s-${randomUUID()}`;
    await server.request(token, "POST", "/spaces", { id: space, name: "S" });
    await replica.put("t", "t1", { title: "theirs" }, { space });
    await replica.sync();
    await damage(replica, async (tx) => tx.delete("records", [space, "t", "t1"]));
    expect(await verify(replica)).toEqual({ ...WHOLE, spaces: 2, records: 19, differences: 1, repaired: 1 });
    expect((await replica.get("t", "t1", { space }))?.fields.title).toBe("theirs");
  });

  it.each([false, true])("begins anew where very much differs (live: %s)", async (isLive) => {
    const { replica } = await phone();
    await replica.batch((batch) => {
      for (let n = 0; n < 600; n++) batch.put("t", `m${n}`, { n });
    });
    await replica.sync();
    const whole = await live(replica);
    if (isLive) await replica.live({ policy: QUICK }).waitUntilSynced(10_000);
    else await replica.patch("t", "m1", { n: "mine" });
    await damage(replica, async (tx) => {
      for (const { id, base } of await tx.all("records"))
        if (base === null) tx.delete("records", ["", "t", id]);
    });
    const found = await verify(replica);
    expect(found).toMatchObject({ spaces: 1, records: 618, skipped: [], restarted: true });
    expect(found.differences).toBeGreaterThanOrEqual(64);
    if (isLive) expect(await live(replica)).toEqual(whole);
    else expect((await replica.get("t", "m1"))?.fields.n).toBe("mine");
    expect(Object.keys(await live(replica)).sort()).toEqual(Object.keys(whole).sort());
  });

  it("takes nothing for damage while others write", async () => {
    const { replica, token } = await phone();
    const laptop = await open({ url: server.url, token });
    await replica.live({ policy: QUICK }).waitUntilSynced(10_000);
    let writing = true;
    const writer = (async () => {
      for (let n = 0; writing; n++) {
        await laptop.put("t", `w${n % 7}`, { n });
        await laptop.sync();
      }
    })();
    for (let turn = 0; turn < 5; turn++) {
      const found = await verify(replica);
      expect([found.differences, found.restarted]).toEqual([0, false]);
    }
    writing = false;
    await writer;
    await until("it has everything", async () => (await verify(replica)).spaces === 1);
  });

  it("says so where the server is out of reach", async () => {
    const { replica } = await phone({ retry: { attempts: 1 } });
    const cut = await open({
      url: "http://127.0.0.1:9",
      token: await server.token("u"),
      retry: { attempts: 1 },
    });
    await expect(verify(cut)).rejects.toMatchObject({ code: "offline" });
    expect(await verify(replica)).toEqual({ ...WHOLE, records: 18 });
  });
});

describe("a replica that is kept verified", () => {
  it("is verified when it is time and its live sync is quiet, and not again before the next time", async () => {
    const { replica } = await phone();
    const found: Event[] = [];
    replica.on((event) => event.kind === "verified" && found.push(event));
    await replica.live({ policy: QUICK }).waitUntilSynced(10_000);
    await damage(replica, async (tx) => tx.delete("records", ["", "t", "t1"]));
    const stop = keepVerified(replica, { every: 300, quiet: 20 });
    await until("it was verified", () => found.length > 0);
    expect(found[0]).toMatchObject({ kind: "verified", repaired: 1 });
    stop();
    await new Promise((resolve) => setTimeout(resolve, 50)); // one that was under way
    const often = found.length;
    const late = keepVerified(replica, { every: 3_600_000, quiet: 20 });
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(found).toHaveLength(often);
    late();
  });

  it("is verified when the last time was noted by a clock that was ahead, and is mended since", async () => {
    const { replica } = await phone();
    const found: Event[] = [];
    replica.on((event) => event.kind === "verified" && found.push(event));
    await replica.live({ policy: QUICK, verify: false }).waitUntilSynced(10_000);
    await damage(replica, async (tx) => {
      tx.meta.verified = Date.now() + 3 * 365 * 86_400_000;
      tx.delete("records", ["", "t", "t1"]);
    });
    const stop = keepVerified(replica, { every: 3_600_000, quiet: 20 });
    await until("it was verified", () => found.length > 0);
    stop();
    expect(found).toMatchObject([{ kind: "verified", repaired: 1 }]);
    await damage(replica, async ({ meta }) => expect(meta.verified).toBeLessThanOrEqual(Date.now()));
  });

  it("a live sync verifies and mends by itself, as it was asked to, and not after it was closed", async () => {
    const { replica } = await phone();
    const found: Event[] = [];
    replica.on((event) => event.kind === "verified" && found.push(event));
    const live = replica.live({ policy: QUICK, verify: { every: 100, quiet: 20 } });
    await live.waitUntilSynced(10_000);
    await damage(replica, async (tx) => tx.delete("records", ["", "t", "t1"]));
    await until("it was verified", () => found.length > 0);
    expect(found[0]).toMatchObject({ kind: "verified", repaired: 1 });
    await live.close();
    await new Promise((resolve) => setTimeout(resolve, 50)); // one that was under way
    const often = found.length;
    await replica.live({ policy: QUICK, verify: false }).waitUntilSynced(10_000);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(found).toHaveLength(often);
  });

  it("a live sync that is asked not to verifies nothing, nor does one that ended before it was due", async () => {
    const { replica } = await phone();
    const found: Event[] = [];
    replica.on((event) => event.kind === "verified" && found.push(event));
    await replica.live({ policy: QUICK, verify: { every: 0, quiet: 100 } }).close();
    await replica.live({ policy: QUICK, verify: false }).waitUntilSynced(10_000);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(found).toEqual([]);
  });
});
