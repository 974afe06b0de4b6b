/** RxDB itself, replicated through a real server: any edits of many devices end alike. */

import { describe, expect, it } from "vitest";
import type { Replica } from "../src/index.js";
import { open } from "./devices.js";
import {
  type Device,
  device,
  type Line,
  line,
  onServer,
  pair,
  seen,
  server,
  settled,
  user,
} from "./rxdb-devices.js";

/** Numbers that are the same each time. */
function dice(seed: number): (limit: number) => number {
  let state = seed * 7919;
  return (limit) => {
    state = (state * 48_271) % 2_147_483_647;
    return state % limit;
  };
}

/** Some edit of a task, as the dice fall. */
async function edit({ tasks }: Device, id: string, step: number, what: number): Promise<void> {
  const found = await tasks.findOne(id).exec();
  // what is pulled meanwhile makes no conflict of it
  if (found === null) await tasks.insertIfNotExists({ id, title: `new ${step}`, done: false });
  else if (what === 0) await found.incrementalRemove();
  else if (what < 3) await found.incrementalPatch({ title: `t${step}` });
  else if (what < 5)
    await found.incrementalPatch({ done: step % 2 === 0, note: step % 3 === 0 ? null : `n${step}` });
  else await found.incrementalPatch({ tags: [`g${step}`] });
}

async function all({ tasks }: Device): Promise<object> {
  const found = await tasks.find().exec();
  return Object.fromEntries(found.map((task) => [task.id, { ...task.toJSON(), id: undefined }]));
}

/** The server's fields as a document: a field that was taken away is null there, and none here but the note may be. */
function asDocument(fields: object): object {
  return Object.fromEntries(
    Object.entries(fields).filter(([field, value]) => value !== null || field === "note"),
  );
}

/** What failed, in short: RxDB's own messages say only where to read more. */
function wordsOf(error: Error): string {
  const { code, parameters } = error as {
    code?: string;
    parameters?: { errors?: object; writeError?: object };
  };
  return `${code} ${JSON.stringify(parameters?.errors ?? parameters?.writeError ?? error.message).slice(0, 300)}`;
}

/** All that says where a device stands: what it shows, RxDB's state of the server, the adapter's, and what failed. */
async function told({ tasks, replication, errors }: Device): Promise<object> {
  const ids = Array.from({ length: 5 }, (_, n) => `t${n}`);
  const keys = ids.map((id) => `${id}|0`);
  const metas = await replication.state.metaInstance?.findDocumentsById(keys, true);
  const kept = await tasks.database.collections.syncd?.find({ selector: { kind: "record" } }).exec();
  return {
    documents: await tasks.storageInstance.findDocumentsById(ids, true),
    noted: metas?.map(({ docData }) => docData),
    server: kept?.map(({ body }) => body),
    errors: [...new Set(errors.map(wordsOf))],
  };
}

/** Each device has what the server has. */
async function expectServers(token: string, devices: readonly Device[], of = ""): Promise<void> {
  const found = Object.entries(await onServer(token));
  const expected = Object.fromEntries(found.map(([id, fields]) => [id, asDocument(fields)]));
  for (const [place, rx] of devices.entries()) {
    const has = await all(rx);
    const differ = JSON.stringify({ has, expected, told: await told(rx) });
    expect(has, `device ${place}${of}: ${differ}`).toEqual(expected);
  }
}

/** Sixty edits of five tasks, by two databases whose lines are cut now and then, and by a replica of our own. */
async function play(
  devices: readonly Device[],
  lines: readonly Line[],
  replica: Replica,
  seed: number,
): Promise<void> {
  const random = dice(seed);
  for (let step = 0; step < 60; step++) {
    const [id, place] = [`t${random(5)}`, random(3)];
    const [own, rx] = [lines[place], devices[place]];
    if (own === undefined || rx === undefined) {
      await (random(5) === 0
        ? replica.delete("tasks", id, { upsert: true })
        : replica.put("tasks", id, { title: `r${step}` }));
      if (random(2) === 0) await replica.sync();
      continue;
    }
    if (random(4) === 0) own.cut = !own.cut;
    await edit(rx, id, step, random(6));
    if (random(3) === 0) await new Promise((resolve) => setTimeout(resolve, random(80)));
  }
}

describe("many devices", () => {
  it.each([1, 2, 3])("hold the same after any edits, on and off line (seed %d)", async (seed) => {
    const token = await user();
    const lines = [line(), line()];
    const devices = await Promise.all(lines.map((own) => device(token, { fetch: own.fetch })));
    const replica = await open({ url: server.url, token });
    await play(devices, lines, replica, seed);
    for (const own of lines) own.cut = false;
    for (let turn = 0; turn < 2; turn++) {
      await replica.sync();
      await settled(...devices);
    }
    await expectServers(token, devices, ` of seed ${seed}`);
    expect(Object.keys(await onServer(token)).length).toBeGreaterThan(1);
    for (const rx of devices) expect(await rx.replication.rejected()).toEqual([]);
  });

  it("hold the same where one makes anew, without its fields, what another deleted", async () => {
    const { token, one, two } = await pair();
    await one.tasks.findOne("milk").patch({ note: "old", tags: ["old"] });
    await settled(one, two);
    await two.tasks.findOne("milk").remove();
    await settled(two, one);
    await one.tasks.insert({ id: "milk", title: "Made anew", done: false });
    await settled(one, two);
    expect(await onServer(token)).toEqual({
      milk: { title: "Made anew", done: false, note: null, tags: null },
    });
    expect(await seen(two)).toEqual({ id: "milk", title: "Made anew", done: false, note: null });
    await expectServers(token, [one, two]);
  });
});
