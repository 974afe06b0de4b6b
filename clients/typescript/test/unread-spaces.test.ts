/** A write to a space that the device has still to read, and that another device deletes before it does: it is gone. */

import { IDBFactory } from "fake-indexeddb";
import { afterAll, beforeAll, expect, it } from "vitest";
import WebSocket from "ws";
import type { Replica, SocketConstructor } from "../src/index.js";
import { createSpace, putMember, removeMember } from "../src/spaces.js";
import { expectSame, open, QUICK, until } from "./devices.js";
import { RealServer } from "./server.js";

let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start();
});
afterAll(() => server.remove());

let users = 0;

function unique(name: string): string {
  users += 1;
  return `${name}-${users}`;
}

interface Socket {
  readonly webSocket: SocketConstructor;
  /** What was sent, by its type. */
  readonly sent: string[];
}

/** A socket for which something happens after a push was answered, and before the space of it is asked for. */
function beforeReading(work: () => Promise<void>, nth = 1): Socket {
  const sent: string[] = [];
  class Late extends WebSocket {
    override send(text: string): void {
      const { type } = JSON.parse(text) as { type: string };
      sent.push(type);
      if (type !== "subscribe" || sent.filter((one) => one === type).length !== nth) super.send(text);
      else void work().then(() => super.send(text));
    }
  }
  return { webSocket: Late as unknown as SocketConstructor, sent };
}

async function device(user: string, more: object = {}): Promise<Replica> {
  return open({ url: server.url, token: await server.token(user), ...more });
}

async function remove(by: Replica, space: string | null = null): Promise<void> {
  await by.sync();
  await by.delete("t", "r", { space });
  await by.sync();
}

async function liveUntilSynced(replica: Replica): Promise<void> {
  const live = replica.live({ policy: QUICK });
  expect(await live.waitUntilSynced(30_000)).toBe(true);
  await live.close();
}

it("a new device that is live keeps nothing of it", async () => {
  const user = unique("user");
  const other = await device(user);
  const replica = await device(
    user,
    beforeReading(() => remove(other)),
  );
  await replica.put("t", "r", { n: 1 });
  await liveUntilSynced(replica);
  expect(await replica.get("t", "r")).toBeNull();
  expect(await replica.pending()).toEqual([]);
  await expectSame(replica, await device(user));
});

/** A member's device that wrote while it was out of a space and is in again, and the owner's. */
async function putBack(how: (hers: Replica, space: string) => Socket): Promise<[Replica, Replica, string]> {
  const [ann, bob] = [unique("ann"), unique("bob")];
  const hers = await device(ann);
  const { id: space } = await createSpace(hers, "Garden");
  const his = await device(bob, how(hers, space));
  await putMember(hers, space, bob);
  await hers.put("t", "other", { n: 0 }, { space });
  await hers.sync();
  await his.sync();
  await removeMember(hers, space, bob);
  expect((await his.sync()).left).toEqual([space]);
  await his.put("t", "r", { n: 1 }, { space });
  await putMember(hers, space, bob);
  return [his, hers, space];
}

it("who is put back into a space keeps nothing of it", async () => {
  const [his, hers, space] = await putBack((by, id) => beforeReading(() => remove(by, id)));
  await liveUntilSynced(his);
  expect(await his.get("t", "r", { space })).toBeNull();
  expect((await his.query("t", [], { space })).map(({ id }) => id)).toEqual(["other"]);
  expect(await hers.get("t", "r", { space })).toBeNull();
});

it("killed before it has read it keeps nothing of it", async () => {
  const user = unique("user");
  const other = await device(user);
  const kept = { indexedDB: new IDBFactory(), name: unique("killed") };
  const replica = await device(user, { ...kept, ...beforeReading(() => new Promise(() => {})) });
  await replica.put("t", "r", { n: 1 });
  replica.live({ policy: QUICK });
  await until("acknowledged", async () => (await replica.pending()).length === 0);
  await replica.close();
  const again = await device(user, kept);
  expect((await again.get("t", "r"))?.fields).toEqual({ n: 1 });
  await remove(other);
  await again.sync();
  expect(await again.get("t", "r")).toBeNull();
});

it("what nobody deletes is seen all the time", async () => {
  let socket: Socket | undefined;
  const [his, hers, space] = await putBack(() => {
    socket = beforeReading(async () => {});
    return socket;
  });
  const seen: unknown[] = [];
  const stop = his.on(async () => seen.push((await his.get("t", "r", { space }))?.fields));
  const live = his.live({ policy: QUICK });
  expect(await live.waitUntilSynced(30_000)).toBe(true);
  await his.patch("t", "r", { n: 2 }, { space });
  expect(await live.waitUntilSynced(30_000)).toBe(true);
  stop();
  await live.close();
  const sent = socket?.sent.filter((type) => type !== "ping"); // a slow machine has time for some
  expect(sent).toEqual(["auth", "push", "subscribe", "push"]);
  expect(seen.length).toBeGreaterThan(0);
  expect(seen.filter((fields) => (fields as { n?: number } | undefined)?.n === undefined)).toEqual([]);
  await hers.sync();
  await expectSame(his, hers, space);
  expect((await his.query("t", [], { space })).map(({ id }) => id)).toEqual(["other", "r"]);
});

it("a space that is made and used at once has all of it", async () => {
  const [ann, bob] = [unique("ann"), unique("bob")];
  const [hers, his] = [await device(ann), await device(bob)];
  const live = hers.live({ policy: QUICK });
  await until("live", () => live.state.name === "live");
  const { id: space } = await createSpace(hers, "Garden");
  await putMember(hers, space, bob);
  await hers.put("t", "r", { n: 1 }, { space });
  expect(await live.waitUntilSynced(30_000)).toBe(true);
  expect((await hers.get("t", "r", { space }))?.fields).toEqual({ n: 1 });
  await remove(his, space);
  await until("deleted there", async () => (await hers.get("t", "r", { space })) === null);
});
