/** Two stores of one client id that write different values at one instant: whatever comes first, all end equal. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Json, JsonObject } from "../src/data/values.js";
import type { Replica } from "../src/index.js";
import type { OutboxRow } from "../src/store/store.js";
import { applyPage } from "../src/sync/apply.js";
import { buildPage } from "../src/sync/reply.js";
import { verify } from "../src/verify.js";
import { expectSame, open, QUICK } from "./devices.js";
import { RealServer } from "./server.js";

const CLIENT = { clientId: "given", wall: () => Date.parse("2026-01-01T10:05:00Z") };

let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start();
});
afterAll(() => server.remove());

interface Pair {
  readonly space: string;
  readonly tokens: readonly [string, string];
}

/** Two users in one space. */
async function pair(name: string): Promise<Pair> {
  const tokens = [await server.token(`${name}-1`), await server.token(`${name}-2`)] as const;
  const space = `space-${name}`;
  await server.request(tokens[0], "POST", "/spaces", { id: space, name: space });
  await server.request(tokens[0], "PUT", `/spaces/${space}/members/${name}-2`, { role: "writer" });
  return { space, tokens };
}

interface Frame {
  readonly wire: JsonObject;
  readonly pushed: readonly OutboxRow[];
}

/** What a live connection does with a frame. */
async function take(replica: Replica, { wire, pushed }: Frame): Promise<void> {
  const page = buildPage(wire, pushed, null, pushed.length > 0);
  await replica["exchange"].parts.device.store.write((tx) => applyPage(tx, page, pushed));
}

async function queued(replica: Replica): Promise<OutboxRow[]> {
  return replica["exchange"].parts.device.store.read((tx) => tx.all("outbox"));
}

async function push(token: string, row: OutboxRow): Promise<Frame> {
  const response = await fetch(`${server.url}/sync/app`, {
    method: "POST",
    headers: {
      Authorization: `Bearer ${token}`,
      "Content-Type": "application/json",
      "X-Sync-Protocol": "1",
    },
    body: `{"clientId": "given", "pull": false, "changes": [${row.body}]}`,
  });
  const { results } = (await response.json()) as { results: Json };
  return { wire: { results, conflicts: [] }, pushed: [row] };
}

/** All orders of both in which each keeps its own. */
function* merged<T>(one: readonly T[], other: readonly T[]): Generator<T[]> {
  if (one.length === 0 || other.length === 0) yield [...one, ...other];
  else {
    for (const rest of merged(one.slice(1), other)) yield [one[0] as T, ...rest];
    for (const rest of merged(one, other.slice(1))) yield [other[0] as T, ...rest];
  }
}

describe("two stores of one client id", () => {
  const orders = [...merged([0, 0], [1, 1])];
  it.each(orders.map((order) => [order.join("-"), order] as const))(
    "end equal where they push in the order %s",
    async (name, order) => {
      const { space, tokens } = await pair(name);
      // One replica for each order in which a device may hear of it all: they write the same, at the same instants.
      const [first, second] = await Promise.all(
        tokens.map(async (token, place) => {
          const replica = await open({ ...CLIENT, url: server.url, token });
          await replica.patch("t", "r", { title: `${place}` }, { space, upsert: true });
          await replica.patch("t", "r", { title: `${place} again`, body: `${place}` }, { space });
          return { replica, token, sent: await queued(replica), answers: [] as Frame[] };
        }),
      );
      if (!first || !second) throw new Error("there are two");
      for (const place of order) {
        const device = [first, second][place] as typeof first;
        device.answers.push(await push(device.token, device.sent[device.answers.length] as OutboxRow));
      }
      const fresh = await open({ url: server.url, token: tokens[0] });
      await fresh.sync();
      const stands = (await fresh.get("t", "r", { space }))?.fields;
      const log = await server.request(tokens[0], "GET", "/sync/app/pull?since=&history=1");
      const changes = (log as { serverChanges: JsonObject[] }).serverChanges;
      for (const { sent, answers, token } of [first, second]) {
        const others = changes
          .filter(({ changeId }) => sent.every((row) => row.changeId !== changeId))
          .map((change) => ({ wire: { changes: [change], results: [], conflicts: [] }, pushed: [] }));
        for (const frames of merged<Frame>(answers, others)) {
          const replica = await open({ ...CLIENT, url: server.url, token });
          await replica["exchange"].parts.device.store.write(async (tx) => {
            tx.put("spaces", { id: space });
            for (const row of sent) tx.put("outbox", row);
          });
          for (const frame of frames) await take(replica, frame);
          expect((await replica.get("t", "r", { space }))?.fields).toEqual(stands);
        }
      }
    },
  );

  it("end equal and verified, live and by sync", async () => {
    const { space, tokens } = await pair("live");
    const [one, two] = await Promise.all(tokens.map((token) => open({ ...CLIENT, url: server.url, token })));
    if (!one || !two) throw new Error("there are two");
    await one.put("t", "r", { n: 0 }, { space });
    await one.sync();
    await two.sync();
    const lives = [one, two].map((each) => each.live({ policy: QUICK }));
    for (let n = 0; n < 20; n++) {
      for (const each of [one, two]) await each.patch("t", "r", { n: `${n} ${each === one}` }, { space });
    }
    for (const live of lives) expect(await live.waitUntilSynced(30_000)).toBe(true);
    for (const live of lives) await live.close();
    for (const each of [one, two, one]) await each.sync();
    await expectSame(one, two, space);
    for (const each of [one, two]) expect((await verify(each)).differences).toBe(0);
  });
});
