/** Collections of TanStack DB on two devices with a real server: what others write, and what comes of what was written here. */

import { randomUUID } from "node:crypto";
import { createCollection, createLiveQueryCollection, createTransaction } from "@tanstack/db";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { NoSuchRecord, NotAllowed, type Replica } from "../src/index.js";
import { syncdCollectionOptions, writeTransaction } from "../src/tanstack/index.js";
import { open, QUICK, until } from "./devices.js";
import { RealServer } from "./server.js";
import { plain, seen } from "./tanstack-items.js";

let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start();
});
afterAll(() => server.remove());

function user(): Promise<string> {
  return server.token(`tanstack-${randomUUID()}`);
}

/** A device of a user, with a collection of its tasks. */
async function device(token: string, space: string | null = null, url = server.url) {
  const replica = await open({ url, token });
  const tasks = createCollection(syncdCollectionOptions({ replica, table: "tasks", space }));
  await tasks.preload();
  return { replica, tasks };
}

async function settled(...all: { readonly replica: Replica }[]): Promise<void> {
  for (const { replica } of [...all, ...all]) await replica.sync();
}

describe("two devices", () => {
  it("edit different fields of an item while apart, and both edits stay", async () => {
    const token = await user();
    const [one, two] = [await device(token), await device(token)];
    await one.tasks.insert({ id: "a", title: "Buy milk", done: false, tags: ["x"] }).isPersisted.promise;
    await settled(one, two);
    expect(seen(two.tasks)).toEqual([{ id: "a", title: "Buy milk", done: false, tags: ["x"] }]);
    await one.tasks.update("a", (draft) => {
      draft.title = "Buy oat milk";
    }).isPersisted.promise;
    await two.tasks.update("a", (draft) => {
      draft.done = true;
    }).isPersisted.promise;
    await two.tasks.update("a", (draft) => {
      (draft.tags as string[]).push("y");
    }).isPersisted.promise;
    await settled(two, one);
    const both = [{ id: "a", title: "Buy oat milk", done: true, tags: ["x", "y"] }];
    expect([seen(one.tasks), seen(two.tasks)]).toEqual([both, both]);
  });

  it("see what the other writes, changes and deletes, live", async () => {
    const token = await user();
    const [one, two] = [await device(token), await device(token)];
    for (const { replica } of [one, two]) replica.live({ policy: QUICK });
    const titles = createLiveQueryCollection((q) =>
      q.from({ task: two.tasks }).orderBy(({ task }) => task.title, "desc"),
    );
    await titles.preload();
    const shown = (): unknown[] => titles.toArray.map(({ title }) => title);
    one.tasks.insert([
      { id: "a", title: "A" },
      { id: "b", title: "B" },
    ]);
    await until("both", () => shown().join() === "B,A");
    one.tasks.update("a", (draft) => {
      draft.title = "C";
    });
    await until("changed", () => shown().join() === "C,B");
    one.tasks.delete("b");
    await until("deleted", () => shown().join() === "C");
  });

  it("see their own writes go on without a way back, while both are live", async () => {
    const token = await user();
    const all = [await device(token), await device(token)];
    const names = ["a", "b"];
    await all[0]?.tasks.insert(names.map((id) => ({ id, n: 0 }))).isPersisted.promise;
    await settled(...all);
    for (const { replica } of all) replica.live({ policy: QUICK });
    const seenBy = all.map(({ tasks }) => {
      const told = names.map((): unknown[] => [0]);
      tasks.subscribeChanges(() => {
        for (const [index, id] of names.entries())
          if (tasks.get(id)?.n !== told[index]?.at(-1)) told[index]?.push(tasks.get(id)?.n);
      });
      return told;
    });
    for (let n = 1; n <= 30; n += 1)
      for (const [index, { tasks }] of all.entries()) {
        const { isPersisted } = tasks.update(names[index] ?? "", (draft) => {
          draft.n = n;
        });
        if (n % 4 === index) await isPersisted.promise;
      }
    await until("all", () => all.every(({ tasks }) => names.every((id) => tasks.get(id)?.n === 30)));
    const upTo = Array.from({ length: 31 }, (_, n) => n);
    expect([seenBy[0]?.[0], seenBy[1]?.[1]]).toEqual([upTo, upTo]);
    for (const told of [seenBy[0]?.[1], seenBy[1]?.[0]])
      expect(told).toEqual(upTo.filter((n) => told?.includes(n)));
  });

  it("never see half a batch, nor half a page", async () => {
    const token = await user();
    const [one, two] = [await device(token), await device(token)];
    for (const { replica } of [one, two]) replica.live({ policy: QUICK });
    const halves: string[] = [];
    two.tasks.subscribeChanges(() => {
      const rounds = new Set([...two.tasks.values()].map(({ round }) => round));
      if (rounds.size !== 1 || two.tasks.size !== 4) halves.push(JSON.stringify(seen(two.tasks)));
    });
    const ids = ["a", "b", "c", "d"];
    await one.tasks.insert(ids.map((id) => ({ id, round: 0 }))).isPersisted.promise;
    for (let round = 1; round <= 15; round += 1)
      await one.tasks.update(ids, (drafts) => {
        for (const draft of drafts) draft.round = round;
      }).isPersisted.promise;
    await until("the last", () => two.tasks.get("a")?.round === 15);
    expect(halves).toEqual([]);
  });

  it("have what comes in more records than an event names", async () => {
    const token = await user();
    const [one, two] = [await device(token), await device(token)];
    for (let from = 0; from < 2400; from += 800)
      await one.tasks.insert(Array.from({ length: 800 }, (_, n) => ({ id: `t${from + n}`, n }))).isPersisted
        .promise;
    await settled(one, two);
    await until("all", () => two.tasks.size === 2400);
    await one.tasks.delete(Array.from({ length: 800 }, (_, n) => `t${n}`)).isPersisted.promise;
    await settled(one, two);
    await until("fewer", () => two.tasks.size === 1600);
    expect(seen(two.tasks)).toEqual(seen(one.tasks));
  });
});

describe("what the server refuses", () => {
  it("stays until it is dropped; then the item has what the server has, and no field more", async () => {
    const token = await user();
    const one = await device(token, "nobody's");
    await one.tasks.insert({ id: "a", title: "A" }).isPersisted.promise;
    await one.replica.sync();
    const [refused] = await one.replica.rejected();
    expect(refused).toMatchObject({ id: "a", code: "space_not_found" });
    expect(one.tasks.size).toBe(1);
    await one.replica.drop(refused?.changeId ?? "");
    await until("gone", () => one.tasks.size === 0);
  });

  it("in a field takes that field away again", async () => {
    const { owner, member, space, setRole } = await shared("writer");
    const [one, two] = [await device(owner, space), await device(member, space)];
    await one.tasks.insert({ id: "a", title: "A" }).isPersisted.promise;
    await settled(one, two);
    await setRole("reader"); // which the device does not know yet
    await two.tasks.update("a", (draft) => {
      Object.assign(draft, { note: "mine" });
    }).isPersisted.promise;
    await two.replica.sync();
    const [refused] = await two.replica.rejected();
    expect(refused).toMatchObject({ id: "a", code: "not_a_writer" });
    expect(plain(two.tasks.get("a"))).toEqual({ id: "a", title: "A", note: "mine" });
    await two.replica.drop(refused?.changeId ?? "");
    await until("gone", () => !("note" in (two.tasks.get("a") ?? {})));
    expect(plain(two.tasks.get("a"))).toEqual({ id: "a", title: "A" });
  });

  it("is refused at once where the device knows it: a reader's write goes back", async () => {
    const { owner, member, space } = await shared("reader");
    const [one, two] = [await device(owner, space), await device(member, space)];
    await one.tasks.insert({ id: "a", title: "A" }).isPersisted.promise;
    await settled(one, two);
    const writes = [
      two.tasks.insert({ id: "b", title: "B" }),
      two.tasks.update("a", (draft) => {
        draft.title = "mine";
      }),
    ];
    for (const { isPersisted } of writes) await expect(isPersisted.promise).rejects.toThrow(NotAllowed);
    await expect(two.tasks.delete("a").isPersisted.promise).rejects.toMatchObject({ code: "not_a_writer" });
    expect(seen(two.tasks)).toEqual([{ id: "a", title: "A" }]);
    expect(await two.replica.pending()).toEqual([]);
  });
});

describe("a space", () => {
  it("comes when it is joined, and goes when it is left; a write to it then goes back", async () => {
    const { owner, member, space, remove, setRole } = await shared(null);
    const [one, two] = [await device(owner, space), await device(member, space)];
    await one.tasks.insert([
      { id: "a", title: "A" },
      { id: "b", title: "B" },
    ]).isPersisted.promise;
    await settled(one, two);
    expect(two.tasks.size).toBe(0);
    await setRole("writer");
    await two.replica.sync();
    await until("joined", () => two.tasks.size === 2);
    const transaction = createTransaction({ mutationFn: writeTransaction, autoCommit: false });
    transaction.mutate(() => {
      two.tasks.update("a", (draft) => {
        draft.title = "late";
      });
    });
    const sizes: number[] = [];
    two.tasks.subscribeChanges(() => sizes.push(two.tasks.size));
    await remove();
    await two.replica.sync();
    await until("b is gone", () => !two.tasks.has("b"));
    await expect(transaction.commit()).rejects.toThrow(NoSuchRecord);
    expect(seen(two.tasks)).toEqual([]);
    expect(sizes.every((size) => size <= 1)).toBe(true);
  });
});

describe("a server", () => {
  it("that is restored from a backup takes nothing from the collection that its replica has", async () => {
    const own = await RealServer.start();
    try {
      const token = await own.token("ann");
      const [one, two] = [await device(token, null, own.url), await device(token, null, own.url)];
      await one.tasks.insert({ id: "a", title: "before", n: 1 }).isPersisted.promise;
      await settled(one, two);
      await own.keep();
      await one.tasks.update("a", (draft) => {
        draft.title = "after";
      }).isPersisted.promise;
      await one.tasks.insert({ id: "b", title: "after" }).isPersisted.promise;
      await settled(one, two);
      expect(two.tasks.size).toBe(2);
      await own.restore();
      await settled(two, one, two);
      for (const { replica, tasks } of [one, two]) {
        const rows = await replica.query("tasks");
        expect(seen(tasks)).toEqual(rows.map(({ id, fields }) => ({ id, ...fields })));
      }
      expect(seen(one.tasks)).toEqual(seen(two.tasks));
    } finally {
      await own.remove();
    }
  });
});

/** A space of an owner, with a member of this role, or none yet. */
async function shared(role: string | null) {
  const [space, name] = [`s-${randomUUID()}`, `member-${randomUUID()}`];
  const owner = await user();
  await server.request(owner, "POST", "/spaces", { id: space, name: "S" });
  const path = `/spaces/${space}/members/${name}`;
  const setRole = (to: string): Promise<unknown> => server.request(owner, "PUT", path, { role: to });
  if (role) await setRole(role);
  const remove = (): Promise<unknown> => server.request(owner, "DELETE", path);
  return { space, owner, member: await server.token(name), setRole, remove };
}
