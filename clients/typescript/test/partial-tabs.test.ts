/** Parts beside tabs that lost their connection, and beside those of a client that knows of no choice. */

import { forceCloseDatabase, IDBFactory } from "fake-indexeddb";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Replica } from "../src/index.js";
import { applyPage } from "../src/sync/apply.js";
import { readPage } from "../src/sync/reply.js";
import { until } from "./devices.js";
import { type Choice, Devices, shown, TABLES } from "./partials.js";
import { RealServer } from "./server.js";

let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start();
});
afterAll(() => server.remove());

/** A user's devices, of which the whole one has a record in each table. */
async function filled(): Promise<[Devices, Replica]> {
  const devices = new Devices(server);
  const whole = await devices.open();
  for (const table of TABLES) await whole.put(table, "a", { n: 1 });
  await whole.sync();
  return [devices, whole];
}

async function keysOf(replica: Replica): Promise<string[]> {
  return Object.keys(await shown(replica));
}

function storeOf(replica: Replica) {
  return replica["exchange"].parts.device.store;
}

/** What a client that knows of no choice does with a store: it takes all that comes, and leaves what it does not know as it is. */
async function takes(replica: Replica, choice: Choice, whole: Replica, restarts = false): Promise<void> {
  const [rows, cursor] = await storeOf(whole).read(
    async (tx) => [await tx.all("records"), tx.meta.cursor] as const,
  );
  await storeOf(replica).write(async (tx) => {
    // All is read again as far as before where it has compared itself with the server.
    if (restarts) tx.meta.round += 1;
    else tx.meta.cursor = cursor;
    for (const row of rows) if (!(choice.tables as string[]).includes(row.table)) tx.put("records", row);
  });
}

describe("a tab whose connection to the store was closed", () => {
  it("goes on with what another has chosen since", async () => {
    const [devices] = await filled();
    const factory = new IDBFactory();
    const connections: IDBDatabase[] = [];
    const opened = factory.open.bind(factory);
    factory.open = ((name: string, version: number) => {
      const request = opened(name, version);
      request.addEventListener("success", () => connections.push(request.result));
      return request;
    }) as typeof factory.open;
    const cards = await devices.open("x", { tables: ["cards"] }, { indexedDB: factory });
    await cards.sync();
    const closed = [...connections];
    const lists = await devices.open("x", { tables: ["lists"] }, { indexedDB: factory });
    await lists.sync();
    const before = connections.length;
    for (const connection of closed) forceCloseDatabase(connection as never);
    await until("it is open again", () => connections.length > before);
    await storeOf(cards).read(async () => {});
    expect(await keysOf(cards)).toEqual(["/lists/a"]);
    await lists.put("lists", "b", { n: 1 });
  });
});

describe("what a client that knows of no choice has brought back", () => {
  const choice = { tables: ["cards"] };

  it("goes as soon as the replica is opened again, and is told of", async () => {
    const [devices, whole] = await filled();
    const other = await devices.open("x", choice);
    await other.sync();
    await takes(other, choice, whole);
    const told: number[] = [];
    other.query("lists").subscribe((rows) => told.push(rows.length));
    await until("it is seen", () => told.at(-1) === 1);
    const opened = await devices.open("x", choice);
    expect(await keysOf(opened)).toEqual(["/cards/a"]);
    await until("it is gone", () => told.at(-1) === 0);
  });

  it("goes also where all was read again, as far as before", async () => {
    const [devices, whole] = await filled();
    const other = await devices.open("x", choice);
    await other.sync();
    await takes(other, choice, whole, true);
    expect(await keysOf(await devices.open("x", choice))).toEqual(["/cards/a"]);
  });

  it("is nothing that a wider choice goes on from", async () => {
    const [devices, whole] = await filled();
    const other = await devices.open("x", choice);
    await other.sync();
    await takes(other, choice, whole);
    await whole.delete("lists", "a");
    await whole.sync();
    const wider = await devices.open("x", { tables: ["cards", "lists"] });
    await wider.sync();
    expect(await keysOf(wider)).toEqual(["/cards/a"]);
  });
});

describe("a page of before a choice", () => {
  it("is not taken where what would narrow it cannot be loaded", async () => {
    const [devices] = await filled();
    const all = await devices.open("x");
    await all.sync();
    const asked = await storeOf(all).read(async (tx) => ({ ...tx.meta }));
    await devices.choose("x", { tables: ["cards"] });
    const page = readPage('{"serverChanges":[],"syncedUntil":"later","hasMore":false}', []);
    const taken = storeOf(all).write((tx) => applyPage(tx, page, [], null, [], asked));
    await expect(taken).rejects.toThrow("reload the page");
  });
});

it("a write elsewhere is refused with a sentence", async () => {
  const [devices] = await filled();
  const part = await devices.open("x", { tables: ["lists"] });
  await expect(part.put("cards", "q", { n: 1 })).rejects.toThrow("cards/q is not kept.");
});
