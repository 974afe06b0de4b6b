/** Replicas that keep some spaces and tables, live and in several tabs, with a real server. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Replica } from "../src/index.js";
import { spacesOf } from "../src/observe.js";
import { verify } from "../src/verify.js";
import { QUICK, until } from "./devices.js";
import { ProcessLocks } from "./locks.js";
import { type Choice, Devices, shown } from "./partials.js";
import { RealServer } from "./server.js";

let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start();
});
afterAll(() => server.remove());

async function has(
  replica: Replica,
  table: string,
  id: string,
  space: string | null = null,
): Promise<boolean> {
  return (await replica.get(table, id, { space })) !== null;
}

describe("a live replica", () => {
  it("is sent what it has chosen, in more spaces than the server reads in one way", async () => {
    const devices = new Devices(server);
    const spaces = [null, ...(await Promise.all(Array.from({ length: 9 }, () => devices.space())))];
    const [red, blue] = [spaces[1] as string, spaces[2] as string];
    const choice: Choice = { spaces: spaces.filter((space) => space !== blue), tables: ["cards"] };
    const [whole, part] = [await devices.open(), await devices.open("part", choice)];
    for (const space of spaces) await whole.put("cards", "before", { n: 1 }, { space });
    await whole.put("lists", "before", { n: 1 }, { space: red });
    await whole.sync();
    const live = part.live({ policy: QUICK, verify: false });
    await until("it is live", () => live.state.name === "live");
    await whole.put("cards", "after", { n: 2 }, { space: blue });
    await whole.put("lists", "after", { n: 2 }, { space: red });
    await whole.put("cards", "after", { n: 2 }, { space: red });
    await whole.sync();
    await until("what is chosen", () => has(part, "cards", "after", red));
    await part.put("cards", "own", { n: 3 }, { space: red });
    expect(await live.waitUntilSynced(60_000)).toBe(true);
    await whole.sync();
    expect(await shown(part)).toEqual(await shown(whole, choice));
    expect(await verify(part)).toMatchObject({ differences: 0, skipped: [] });
    await part.close();
    const wider = await devices.open("part", { spaces: [red, blue], tables: "all" });
    const again = wider.live({ policy: QUICK, verify: false });
    await until("it is live", () => again.state.name === "live");
    await whole.put("lists", "late", { n: 4 }, { space: blue });
    await whole.sync();
    await until("what is chosen now", () => has(wider, "lists", "late", blue));
    expect(await shown(wider)).toEqual(await shown(whole, { spaces: [red, blue] }));
  });

  it("sends what is unsent of what it does not keep any more, which goes", async () => {
    const devices = new Devices(server);
    const red = await devices.space();
    const before = await devices.open("part", { spaces: [null, red], tables: "all" });
    await before.sync();
    await before.put("cards", "a", { n: 1 }, { space: red });
    await before.put("lists", "b", { n: 1 });
    await before.close();
    const part = await devices.open("part", { spaces: [null], tables: ["cards"] });
    expect(await has(part, "cards", "a", red)).toBe(true);
    const live = part.live({ policy: QUICK, verify: false });
    await until("it is live", () => live.state.name === "live");
    expect(await live.waitUntilSynced(60_000)).toBe(true);
    await until("it is gone", async () => Object.keys(await shown(part)).length === 0);
    expect(await part.conflicts()).toEqual([]);
    const whole = await devices.open();
    await whole.sync();
    expect(Object.keys(await shown(whole))).toHaveLength(2);
  });

  it("is told of a space that is joined later where it is chosen, and of no other", async () => {
    const [zoe, ada] = [new Devices(server), new Devices(server)];
    const [red, blue] = [await zoe.space(), await zoe.space()];
    const part = await ada.open("part", { spaces: [null, red] });
    const told: unknown[] = [];
    part.on((event) => event.kind === "spaces" && told.push(event.joined));
    const live = part.live({ policy: QUICK, verify: false });
    await until("it is live", () => live.state.name === "live");
    const token = await zoe.token();
    for (const space of [blue, red])
      await server.request(token, "PUT", `/spaces/${space}/members/${ada.user}`, { role: "writer" });
    await until("it is joined", async () => (await part.spaces()).length > 0);
    expect((await part.spaces()).map(({ id }) => id)).toEqual([red]);
    await until("it is told", () => told.length > 0);
    expect(told).toEqual([[red]]);
  });
});

describe("tabs of one store", () => {
  it("keep what the one that was opened last has chosen", async () => {
    const devices = new Devices(server);
    const red = await devices.space();
    const locks = new ProcessLocks();
    const tab = (choice?: Choice): Promise<Replica> => devices.open("part", choice, { locks });
    const [whole, first] = [await devices.open(), await tab({ spaces: [null, red], tables: ["cards"] })];
    for (const space of [null, red])
      for (const table of ["cards", "lists"]) await whole.put(table, "a", { n: 1 }, { space });
    await whole.sync();
    const [cards, spaces]: [number[], number[]] = [[], []];
    first.query("cards", [], { space: red }).subscribe((rows) => cards.push(rows.length));
    spacesOf(first).subscribe((all) => spaces.push(all.length));
    const live = first.live({ policy: QUICK, verify: false });
    await until("it is live", () => live.state.name === "live" && cards.at(-1) === 1 && spaces.at(-1) === 1);
    const second = await tab({ spaces: [null] });
    await until("the first shows it", () => cards.at(-1) === 0 && spaces.at(-1) === 0);
    await expect(first.put("cards", "b", { n: 1 }, { space: red })).rejects.toMatchObject({
      code: "not_replicated",
    });
    await second.close();
    await (await tab({ spaces: [null, red], tables: ["cards", "lists"] })).close();
    await until("what was added is there", () => has(first, "lists", "a", red));
    await until("it is live again", () => live.state.name === "live");
    expect(await shown(first)).toEqual(await shown(whole));
    await first.close();
    expect((await (await tab()).sync()).pulled).toBe(0);
  });

  it("that choose otherwise and back while one is live lose nothing", async () => {
    const devices = new Devices(server);
    const [whole, part] = [await devices.open(), await devices.open("part", { tables: ["cards"] })];
    await whole.put("cards", "early", { n: 1 });
    await whole.sync();
    const live = part.live({ policy: QUICK, verify: false });
    await until("what is chosen", () => has(part, "cards", "early"));
    await devices.choose("part", { tables: ["lists"] });
    await devices.choose("part", { tables: ["cards"] });
    await whole.put("cards", "late", { n: 2 });
    await whole.sync();
    await until("what was written since", () => has(part, "cards", "late"));
    await until("what was removed in between", () => has(part, "cards", "early"));
    await until("it is live again", () => live.state.name === "live");
    expect(await verify(part)).toMatchObject({ differences: 0 });
  });
});
