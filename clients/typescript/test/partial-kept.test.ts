/** What a replica that keeps some spaces and tables has in its store, of whatever kind. */

import { IDBFactory } from "fake-indexeddb";
import { describe, expect, it } from "vitest";
import type { Replica, ReplicaOptions } from "../src/index.js";
import { explain, indexes } from "../src/indexes/index.js";
import { partial } from "../src/partial.js";
import { search } from "../src/search/index.js";
import { signOut } from "../src/sign-out.js";
import { open, until } from "./devices.js";
import { ALONE } from "./files.js";
import { AT, page, problem, Script, wire } from "./script.js";

const JOINED = { joined: ["_personal:u", "r", "w"], left: [], partial: true };

function change(id: string, space: string, table = "t"): ReturnType<typeof wire> {
  return wire(id, { n: [`red ${id}`, AT] }, { spaceId: space, table });
}

/** Opens one store again and again, with a script for a server. */
function stored(options: Partial<ReplicaOptions> = {}): {
  script: Script;
  again: (more?: Partial<ReplicaOptions>) => Promise<Replica>;
} {
  const script = new Script();
  const indexedDB = new IDBFactory();
  const server = { url: "http://server/", token: "t", fetch: script.fetch, retry: { attempts: 1 } };
  return { script, again: (more) => open({ ...server, name: "kept", indexedDB, ...options, ...more }) };
}

/** A store with records of two spaces and two tables. */
async function full(options: Partial<ReplicaOptions> = {}): Promise<ReturnType<typeof stored>> {
  const made = stored(options);
  const replica = await made.again();
  const changes = [change("a", "r"), change("a", "w"), change("b", "w", "u"), change("c", "_personal:u")];
  made.script.answers.push(page(changes, { spaces: JOINED }));
  await replica.sync();
  await replica.close();
  return made;
}

async function ids(replica: Replica, table: string, space: string | null = null): Promise<string[]> {
  return (await replica.query(table, [], { space })).map(({ id }) => id);
}

describe("what is not chosen any more", () => {
  it("is in no query, index or search, and its space in no list", async () => {
    const { again } = await full({ indexes: indexes({ t: ["n"] }), search: { t: ["n"] } });
    const part = await again({ partial: partial({ spaces: ["r"], tables: ["t"] }) });
    expect(await ids(part, "t", "r")).toEqual(["a"]);
    expect([await ids(part, "t", "w"), await ids(part, "u", "w"), await ids(part, "t")]).toEqual([
      [],
      [],
      [],
    ]);
    const found = part.query("t", { n: "red a" }, { space: "w" });
    expect([await found, explain(found).index]).toEqual([[], ["n"]]);
    expect(await search(part, "t", "red", { space: "w" })).toEqual([]);
    expect((await search(part, "t", "red", { space: "r" })).map(({ id }) => id)).toEqual(["a"]);
    expect((await part.spaces()).map(({ id }) => id)).toEqual(["r"]);
  });

  it.skipIf(ALONE)("is in no index of another tab", async () => {
    const { again } = await full({ indexes: indexes({ t: ["n"] }), search: { t: ["n"] } });
    const tab = await again();
    const query = tab.query("t", { n: "red a" }, { space: "w" });
    expect([(await query).length, (await search(tab, "t", "red", { space: "w" })).length]).toEqual([1, 1]);
    await (await again({ partial: partial({ spaces: ["r"] }) })).close();
    await until("the index", async () => (await query).length === 0);
    await until("the search", async () => (await search(tab, "t", "red", { space: "w" })).length === 0);
  });

  it("goes with its conflicts, but for those of what is unsent", async () => {
    const { again, script } = await full();
    const before = await again();
    const conflict = (id: string): object => ({
      table: "t",
      id,
      spaceId: "w",
      field: "n",
      clientValue: 1,
      serverValue: 2,
      clientTimestamp: AT,
      serverTimestamp: AT,
    });
    script.answers.push(page([], { conflicts: [conflict("a"), conflict("b")] as never }));
    await before.pull();
    await before.put("t", "b", { n: 3 }, { space: "w" });
    await before.close();
    const part = await again({ partial: partial({ spaces: ["r"] }) });
    expect((await part.conflicts()).map(({ id }) => id)).toEqual(["b"]);
  });

  it("is still handed over when the user signs out", async () => {
    const { again } = await full();
    const before = await again();
    await before.put("t", "a", { n: 9 }, { space: "w" });
    await before.close();
    const part = await again({ partial: partial({ spaces: ["r"] }) });
    expect((await signOut(part)).map(({ space, id }) => [space, id])).toEqual([["w", "a"]]);
  });

  it("is left out of what a migration writes", async () => {
    const { again } = await full({ schemaVersion: 1 });
    const onMigrate: ReplicaOptions["onMigrate"] = (_, batch) => {
      batch.patch("t", "a", { m: 1 }, { space: "r" });
      batch.put("u", "b", { m: 1 }, { space: "w" });
    };
    const part = await again({ partial: partial({ tables: ["t"] }), schemaVersion: 2, onMigrate });
    expect((await part.pending()).map(({ id }) => id)).toEqual(["a"]);
  });

  it("may be the space that a set-aside write is moved to, which is refused", async () => {
    const { again, script } = await full();
    const before = await again();
    const changeId = await before.put("t", "z", { n: 1 }, { space: "w" });
    script.answers.push(page([], { spaces: { joined: [], left: ["w"] } }));
    await before.pull();
    await before.close();
    const part = await again({ partial: partial({ spaces: ["r"] }) });
    expect((await part.keptAside()).map(({ id }) => id)).toEqual(["z"]);
    await expect(part.move(changeId, "w")).rejects.toMatchObject({ code: "not_replicated" });
    await part.move(changeId, "r");
    expect((await part.pending()).map(({ space }) => space)).toEqual(["r"]);
  });
});

describe("a sync", () => {
  it("tells of no space that was never chosen", async () => {
    const { script, again } = stored();
    const part = await again({ user: "u", partial: partial({ spaces: [null] }) });
    script.answers.push(page([], { spaces: { joined: ["blue"], left: ["red"], partial: true } }));
    expect(await part.pull()).toMatchObject({ joined: [], left: [] });
  });

  it("sets aside what is unsent of a space that is not kept any more, when it is left", async () => {
    const { script, again } = stored();
    const before = await again();
    script.answers.push(page([], { spaces: { joined: ["red"], left: [] } }));
    await before.pull();
    await before.put("t", "a", { n: 1 }, { space: "red" });
    await before.close();
    const part = await again({ user: "u", partial: partial({ spaces: [null] }) });
    script.answers.push(page([], { spaces: { joined: [], left: ["red"], partial: true } }));
    expect((await part.pull()).left).toEqual(["red"]);
    expect((await part.keptAside()).map(({ id }) => id)).toEqual(["a"]);
  });
});

describe("a choice", () => {
  it("stays where the replica is opened without one, and in parts", async () => {
    const { again, script } = stored();
    await (await again({ partial: partial({ spaces: ["r"], tables: ["t"] }) })).close();
    await (await again({ partial: partial({ tables: ["t", "u"] }) })).close();
    await (await again()).pull();
    const said = script.asked.at(-1)?.url.searchParams;
    expect([said?.getAll("spaces"), said?.getAll("collection")]).toEqual([["r"], ["t", "u"]]);
  });

  it("that is given up whole asks for nothing any more once it was answered", async () => {
    const { again, script } = await full();
    await (await again({ partial: partial({ spaces: ["r"] }) })).close();
    const part = await again({ partial: partial({ spaces: "all" }) });
    script.answers.push(page([change("a", "w")], { spaces: { ...JOINED, joined: ["w"] } }));
    await part.pull();
    await part.put("t", "z", { n: 1 });
    await part.sync();
    const said = script.asked
      .slice(-2)
      .map(({ url, body }) => [url.searchParams.get("knownSpaces"), body?.since]);
    expect(said).toEqual([
      ["r", undefined],
      [null, "c1"],
    ]);
  });

  it("is told with all that a cursor is lost for", async () => {
    const { again, script } = await full();
    const part = await again({ partial: partial({ spaces: ["r"] }) });
    script.answers.push(
      problem(410, "cursor_lost"),
      page([change("a", "r"), change("a", "w")], { spaces: { joined: ["r", "w"], left: [] } }),
    );
    expect((await part.pull()).restarted).toBe(true);
    expect(script.asked.at(-1)?.url.searchParams.get("since")).toBe("");
    expect([await ids(part, "t", "r"), await ids(part, "t", "w")]).toEqual([["a"], []]);
    await part.pull();
    expect(script.asked.at(-1)?.url.searchParams.get("knownSpaces")).toBeNull();
  });

  it.skipIf(ALONE)("is made again for a store that the browser evicted", async () => {
    const indexedDB = new IDBFactory();
    const part = await open({ name: "evicted", indexedDB, partial: partial({ tables: ["t"] }) });
    await part.put("t", "a", { n: 1 });
    await new Promise((resolve) => {
      indexedDB.deleteDatabase("syncd:evicted").onsuccess = resolve;
    });
    await expect(part.put("u", "a", { n: 1 })).rejects.toMatchObject({ code: "not_replicated" });
    expect(await part.pending()).toEqual([]);
  });

  it.skipIf(ALONE).each([undefined, partial({ tables: ["t"] })])(
    "or none, a store that the browser evicts while a page is on its way asks from the beginning: %#",
    async (choice) => {
      const indexedDB = new IDBFactory();
      const { script, again } = stored({ indexedDB, ...(choice && { partial: choice }) });
      const replica = await again();
      script.answers.push(
        async () => {
          await new Promise((resolve) => {
            indexedDB.deleteDatabase("syncd:kept").onsuccess = resolve;
          });
          return page([change("late", "r")], { syncedUntil: "c9", spaces: JOINED });
        },
        page([change("early", "r"), change("late", "r")], { syncedUntil: "c9", spaces: JOINED }),
      );
      await replica.pull();
      expect(script.asked.map(({ url }) => url.searchParams.get("since"))).toEqual(["", ""]);
      expect(await ids(replica, "t", "r")).toEqual(["early", "late"]);
    },
  );

  it("holds in memory, too", async () => {
    const part = await open({ indexedDB: null, partial: partial({ tables: ["t"] }) });
    await part.put("t", "a", { n: 1 });
    await expect(part.put("u", "a", { n: 1 })).rejects.toMatchObject({ code: "not_replicated" });
  });
});
