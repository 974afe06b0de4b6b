/** Replicas that keep some spaces and tables, with a real server: each has what the whole one has of its choice. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { InvalidQuery, NotReplicated, Offline, type Replica } from "../src/index.js";
import { partial } from "../src/partial.js";
import { verify } from "../src/verify.js";
import { open } from "./devices.js";
import { type Choice, Devices, shown, TABLES } from "./partials.js";
import { RealServer } from "./server.js";

let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start();
});
afterAll(() => server.remove());

async function ids(replica: Replica, table: string, space: string | null = null): Promise<string[]> {
  return (await replica.query(table, [], { space })).map(({ id }) => id);
}

describe("a choice", () => {
  it("is all that is there, and may be changed", async () => {
    const devices = new Devices(server);
    const [red, blue] = [await devices.space(), await devices.space()];
    const whole = await devices.open();
    await whole.batch((batch) => {
      for (const space of [null, red, blue])
        for (const table of TABLES) batch.put(table, "r", { n: `${space}/${table}` }, { space });
    });
    await whole.sync();
    let part = await devices.open("part", { spaces: [red], tables: ["cards"] });
    devices.line.came.length = 0;
    await part.sync();
    expect(Object.keys(await shown(part))).toEqual([`${red}/cards/r`]);
    expect(devices.line.came.join("")).not.toContain("lists");
    const steps: Choice[] = [
      { tables: ["cards", "notes"] },
      { spaces: [red, null] },
      { tables: ["notes"] },
      { spaces: "all" },
      { spaces: [blue], tables: "all" },
      { spaces: "all" },
    ];
    let choice: Choice = { spaces: [red], tables: ["cards"] };
    for (const step of steps) {
      choice = { ...choice, ...step };
      await part.close();
      part = await devices.open("part", step);
      expect(await shown(whole, choice)).toMatchObject(await shown(part));
      expect((await part.sync()).restarted).toBe(false);
      expect(await shown(part)).toEqual(await shown(whole, choice));
      expect(await verify(part)).toMatchObject({ differences: 0, skipped: [] });
    }
    await part.close();
    expect((await (await devices.open("part")).sync()).pulled).toBe(0);
  });

  it("that is wider downloads what is new alone", async () => {
    const devices = new Devices(server);
    const [red, blue] = [await devices.space(), await devices.space()];
    const whole = await devices.open();
    for (let n = 0; n < 20; n++)
      await whole.put(TABLES[n % 2] as string, `r${n}`, { n }, { space: n < 10 ? red : blue });
    await whole.sync();
    const steps: [Choice, number][] = [
      [{ spaces: [red], tables: ["cards"] }, 5],
      [{ tables: ["cards", "lists"] }, 5],
      [{ spaces: [red, blue] }, 10],
      [{ spaces: [blue] }, 0],
      [{ spaces: "all", tables: "all" }, 10],
    ];
    for (const [choice, count] of steps) {
      const part = await devices.open("part", choice);
      expect((await part.sync()).pulled).toBe(count);
      await part.close();
    }
  });

  it("that is made back before a sync downloads what was removed alone", async () => {
    const devices = new Devices(server);
    const red = await devices.space();
    const whole = await devices.open();
    for (const space of [null, red]) await whole.put("cards", "a", { n: 1 }, { space });
    await whole.sync();
    await (await devices.open("part")).sync();
    await devices.choose("part", { spaces: [null] });
    const part = await devices.open("part", { spaces: "all" });
    expect((await part.sync()).pulled).toBe(1);
    expect(await shown(part)).toEqual(await shown(whole));
  });

  it.each<Choice>([
    { spaces: [] },
    { tables: [] },
    { spaces: "red" as never },
    { tables: "cards" as never },
    { tables: ["a,b"] },
    { tables: [1 as never] },
    { spaces: Array.from({ length: 101 }, (_, n) => `s${n}`) },
    { tables: ["\x00"] },
    { spaces: [1 as never] },
    { spaces: 1 as never },
    { spaces: ["x".repeat(256)] },
    { spaces: ["_personal:zoe"] },
    { spaces: Array.from({ length: 20 }, (_, n) => `${"x".repeat(200)}${n}`) },
  ])("that cannot be is refused: %#", async (choice) => {
    const made = async (): Promise<Replica> => open({ user: "ada", partial: partial(choice) });
    await expect(made()).rejects.toBeInstanceOf(InvalidQuery);
  });
});

describe("what is unsent", () => {
  it("stays where it is not chosen any more, is sent, and then goes", async () => {
    const devices = new Devices(server);
    const red = await devices.space();
    const before = await devices.open("part");
    for (const id of ["a", "b"]) await before.put("cards", id, { n: 1 }, { space: red });
    await before.sync();
    await before.patch("cards", "a", { m: 2 }, { space: red });
    await before.close();
    const part = await devices.open("part", { spaces: [null] });
    expect(await ids(part, "cards", red)).toEqual(["a"]);
    expect((await part.get("cards", "a", { space: red }))?.fields).toEqual({ m: 2 });
    expect((await part.why("cards", "a", { space: red })).state).toBe("waiting");
    expect((await part.why("cards", "b", { space: red })).state).toBe("not_replicated");
    devices.line.loses = 1;
    await expect(part.sync()).rejects.toBeInstanceOf(Offline);
    expect((await part.pending()).map(({ id }) => id)).toEqual(["a"]);
    await part.sync();
    expect(await ids(part, "cards", red)).toEqual([]);
    expect(await part.pending()).toEqual([]);
    expect((await part.why("cards", "a", { space: red })).state).toBe("not_replicated");
    const whole = await devices.open();
    await whole.sync();
    expect((await whole.get("cards", "a", { space: red }))?.fields).toEqual({ n: 1, m: 2 });
  });

  it("is refused and stays until it is dropped or taken", async () => {
    const [zoe, ada] = [new Devices(server), new Devices(server)];
    const red = await zoe.space();
    const role = async (role: string): Promise<unknown> =>
      server.request(await zoe.token(), "PUT", `/spaces/${red}/members/${ada.user}`, { role });
    await role("writer");
    const before = await ada.open("part");
    await before.sync();
    const change = await before.put("cards", "a", { n: 1 }, { space: red });
    await role("reader");
    expect((await before.push()).rejected).toEqual([change]);
    await before.close();
    const part = await ada.open("part", { tables: ["lists"] });
    await part.sync();
    expect((await part.why("cards", "a", { space: red })).state).toBe("no_permission");
    await role("writer");
    await part.requeue(change);
    await part.sync();
    expect(await part.rejected()).toEqual([]);
    expect(await shown(part)).toEqual({});
  });
});

describe("a write elsewhere", () => {
  it.each<[string, (part: Replica) => Promise<unknown>]>([
    ["put", (part) => part.put("lists", "a", { n: 1 })],
    ["space", (part) => part.put("cards", "a", { n: 1 }, { space: "red" })],
    ["delete", (part) => part.delete("lists", "a", { upsert: true })],
    ["patch", (part) => part.patch("lists", "a", { n: 1 })],
    [
      "batch",
      (part) =>
        part.batch((batch) => {
          batch.put("cards", "a", { n: 1 });
          batch.put("lists", "a", { n: 1 });
        }),
    ],
  ])("is refused at once: %s", async (_, write) => {
    const part = await open({ partial: partial({ spaces: [null], tables: ["cards"] }) });
    const error = await write(part).catch((why: unknown) => why);
    expect(error).toBeInstanceOf(NotReplicated);
    expect(error).toMatchObject({ code: "not_replicated" });
    expect(await part.pending()).toEqual([]);
    expect(await part.why("lists", "a")).toMatchObject({ state: "not_replicated", code: "not_replicated" });
    expect((await part.why("cards", "a")).state).toBe("unknown");
  });
});

describe("another tab", () => {
  it("that chooses otherwise and back while a page is on its way loses nothing", async () => {
    const devices = new Devices(server);
    const [whole, part] = [await devices.open(), await devices.open("part", { tables: ["cards"] })];
    await whole.put("cards", "early", { n: 1 });
    await whole.sync();
    await part.sync();
    await whole.put("cards", "late", { n: 2 });
    await whole.sync();
    const others = [["lists"], ["cards"]];
    devices.line.meanwhile = async () => {
      for (const tables of others.splice(0)) await devices.choose("part", { tables });
    };
    await part.sync();
    expect(await ids(part, "cards")).toEqual(["early", "late"]);
  });
});

describe("a first sync", () => {
  it("that stops between two pages, and is widened then, goes on and has all in the end", async () => {
    const devices = new Devices(server);
    const spaces = await Promise.all(Array.from({ length: 9 }, () => devices.space()));
    const whole = await devices.open();
    await whole.batch((batch) => {
      for (const space of spaces)
        for (const table of ["cards", "lists"])
          for (const id of ["a", "b", "c"]) batch.put(table, id, { n: 1 }, { space });
    });
    await whole.sync();
    const small = { limits: { pullLimit: 2 } };
    const first = await devices.open("part", { spaces: spaces.slice(1), tables: ["cards"] }, small);
    devices.line.loses = 2;
    await expect(first.sync()).rejects.toBeInstanceOf(Offline);
    expect(Object.keys(await shown(first)).length).toBeLessThan(24);
    await first.close();
    const wider = await devices.open("part", { spaces, tables: ["cards"] }, small);
    devices.line.loses = 2;
    await expect(wider.sync()).rejects.toBeInstanceOf(Offline);
    await wider.sync();
    expect(await shown(wider)).toEqual(await shown(whole, { tables: ["cards"] }));
    await wider.close();
    const all = await devices.open("part", { tables: ["cards", "lists"] }, small);
    await all.sync();
    expect(await shown(all)).toEqual(await shown(whole));
  });
});

describe("a verification", () => {
  it("brings nothing back of what is given up meanwhile", async () => {
    const devices = new Devices(server);
    const part = await devices.open("part");
    for (const table of ["cards", "lists"]) await part.put(table, "a", { n: 1 });
    await part.sync();
    const { store } = part["exchange"].parts.device;
    await store.write(async (tx) => tx.delete("records", ["", "lists", "a"]));
    devices.line.meanwhile = async () => {
      if (devices.line.came.at(-1)?.includes('"buckets"'))
        await devices.choose("part", { tables: ["cards"] });
    };
    expect((await verify(part)).skipped).toEqual([]);
    expect(Object.keys(await shown(part))).toEqual(["/cards/a"]);
  });
});

describe("the longest choice that is taken", () => {
  it("is synced, though all names stand twice in its address", async () => {
    const devices = new Devices(server);
    const tables = Array.from({ length: 100 }, (_, n) => `table ${n}`.padEnd(9, "x"));
    const spaces = Array.from({ length: 100 }, (_, n) => `spaceid${n}`.padEnd(10, "x"));
    let most = 99;
    const taken = async (count: number): Promise<boolean> =>
      open({ partial: partial({ tables, spaces: [null, ...spaces.slice(0, count)] }) }).then(
        () => true,
        (error) => !(error instanceof InvalidQuery),
      );
    while (!(await taken(most))) most -= 1;
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThan(99);
    const before: Choice = { tables: tables.slice(1), spaces: [null, ...spaces.slice(0, most - 1)] };
    const first = await devices.open("part", before);
    await first.sync();
    for (let n = 0; n < 16; n++) {
      await first.put(tables[1] as string, `r${n}`, { n });
      await first.push();
    }
    await first.close();
    const part = await devices.open("part", { tables, spaces: [null, ...spaces.slice(0, most)] });
    await part.sync();
    expect(devices.line.came.at(-1)).toContain('"partial"');
    expect(Object.keys(await shown(part))).toHaveLength(16);
  });
});

describe("a server of before", () => {
  it.each([false, true])("sends again what was given up, upgraded: %s", async (upgraded) => {
    const devices = new Devices(server);
    const whole = await devices.open();
    for (const table of ["cards", "lists"]) await whole.put(table, "a", { n: 1 });
    await whole.sync();
    devices.line.old = true;
    await (await devices.open("part")).sync();
    await devices.choose("part", { tables: ["cards"] });
    const part = await devices.open("part", { tables: "all" });
    await part.sync();
    devices.line.old = !upgraded;
    await part.sync();
    expect(await shown(part)).toEqual(await shown(whole));
  });

  it("that the server has become sends a space again that was given up", async () => {
    const devices = new Devices(server);
    const red = await devices.space();
    const whole = await devices.open();
    for (const space of [null, red]) await whole.put("cards", "a", { n: 1 }, { space });
    await whole.sync();
    await (await devices.open("part", { spaces: [null, red] })).sync();
    await devices.choose("part", { spaces: [null] });
    const part = await devices.open("part", { spaces: [null, red] });
    devices.line.old = true;
    await part.sync();
    expect(await shown(part)).toEqual(await shown(whole));
  });
});
