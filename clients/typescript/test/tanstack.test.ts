/** Collections of TanStack DB over a replica: what they show, what they write, and what nobody ever sees. */

import {
  createCollection,
  createOptimisticAction,
  createTransaction,
  localOnlyCollectionOptions,
} from "@tanstack/db";
import { IDBFactory } from "fake-indexeddb";
import { describe, expect, it } from "vitest";
import type { Replica } from "../src/index.js";
import {
  BatchTooLarge,
  EVERY_SPACE,
  InvalidQuery,
  InvalidWrite,
  NoSuchRecord,
  StoreFailed,
} from "../src/index.js";
import { keyIn, syncdCollectionOptions, writeTransaction } from "../src/tanstack/index.js";
import { open, until } from "./devices.js";
import { plain, seen, tasksOf } from "./tanstack-items.js";

describe("what a collection shows", () => {
  it("is ready when the records on the device are read, without a server", async () => {
    const { replica, tasks } = await tasksOf();
    await replica.put("tasks", "a", { title: "A", done: false });
    await replica.put("tasks", "b", { title: "B" });
    await replica.delete("tasks", "b");
    await replica.put("lists", "a", { name: "other" });
    await replica.put("tasks", "c", { title: "C" }, { space: "north" });
    expect(tasks.status).toBe("idle");
    await tasks.preload();
    expect(tasks.status).toBe("ready");
    expect(seen(tasks)).toEqual([{ id: "a", title: "A", done: false }]);
  });

  it("is ready where there is nothing", async () => {
    const { tasks } = await tasksOf();
    await tasks.preload();
    expect([tasks.status, tasks.size]).toEqual(["ready", 0]);
  });

  it("has what was written while it was read first, once", async () => {
    const { replica, tasks } = await tasksOf();
    await replica.put("tasks", "a", { title: "A" });
    const reading = tasks.preload();
    const writing = replica.put("tasks", "b", { title: "B" });
    await Promise.all([reading, writing]);
    await until("b", () => tasks.has("b"));
    expect(seen(tasks).map(({ id }) => id)).toEqual(["a", "b"]);
  });

  it("takes over what is written beside it: new, changed, deleted, brought back", async () => {
    const { replica, tasks } = await tasksOf();
    await tasks.preload();
    await replica.put("tasks", "a", { title: "A" });
    await until("new", () => tasks.get("a")?.title === "A");
    await replica.patch("tasks", "a", { done: true });
    await until("changed", () => tasks.get("a")?.done === true);
    expect(plain(tasks.get("a"))).toEqual({ id: "a", title: "A", done: true });
    await replica.delete("tasks", "a");
    await until("deleted", () => !tasks.has("a"));
    await replica.undelete("tasks", "a");
    await until("back", () => tasks.has("a"));
  });

  it("begins by itself with `startSync`, and is told what another tab writes", async () => {
    const [indexedDB, name] = [new IDBFactory(), "tabs"];
    const [one, other] = [await open({ indexedDB, name }), await open({ indexedDB, name })];
    const [here, there] = [one, other].map((replica) =>
      createCollection(syncdCollectionOptions({ replica, table: "tasks", startSync: true, id: "tasks" })),
    );
    expect(await here?.toArrayWhenReady()).toEqual([]);
    await there?.stateWhenReady();
    await here?.insert({ id: "a", title: "A" }).isPersisted.promise;
    await until("the other tab", () => there?.get("a")?.title === "A");
    await there?.delete("a").isPersisted.promise;
    await until("this tab", () => here?.size === 0);
  });

  it("is of one space, or of every one with the space in key and item", async () => {
    const replica = await open();
    const [north, all] = [
      createCollection(syncdCollectionOptions({ replica, table: "tasks", space: "north" })),
      createCollection(syncdCollectionOptions({ replica, table: "tasks", space: EVERY_SPACE })),
    ];
    await replica.put("tasks", "a", { title: "mine" });
    await replica.put("tasks", "a", { title: "ours", space: "a field" }, { space: "north" });
    await Promise.all([north.preload(), all.preload()]);
    expect(seen(north)).toEqual([{ id: "a", title: "ours", space: "a field" }]);
    expect(seen(all)).toEqual([
      { id: "a", space: "north", title: "ours" },
      { id: "a", space: null, title: "mine" },
    ]);
    all.insert({ id: "b", space: "north", title: "new" });
    all.update(keyIn("north", "a"), (draft) => {
      draft.title = "all's";
    });
    await all.delete(keyIn(null, "a")).isPersisted.promise;
    await until("north", () => north.size === 2);
    expect(seen(north)).toEqual([
      { id: "a", title: "all's", space: "a field" },
      { id: "b", title: "new" },
    ]);
    expect(await replica.get("tasks", "a")).toBeNull();
  });

  it("is what fulfils a condition: what does no more goes, what does again comes", async () => {
    const { replica, tasks } = await tasksOf({ done: false });
    await replica.put("tasks", "a", { title: "A", done: false });
    await replica.put("tasks", "b", { title: "B", done: true });
    await tasks.preload();
    expect(seen(tasks).map(({ id }) => id)).toEqual(["a"]);
    await tasks.update("a", (draft) => {
      draft.done = true;
    }).isPersisted.promise;
    expect(tasks.size).toBe(0);
    await replica.patch("tasks", "b", { done: false });
    await until("b", () => tasks.has("b"));
  });

  it("refuses what can be no query", async () => {
    const replica = await open();
    const strange = { n: { "=>": 1 } } as never;
    expect(() => syncdCollectionOptions({ replica, table: "t", where: strange })).toThrow(InvalidQuery);
    expect(() => syncdCollectionOptions({ replica, table: "" })).toThrow(InvalidQuery);
  });

  it("has failed where the store cannot be read", async () => {
    const { replica, tasks } = await tasksOf();
    await replica.close();
    await expect(tasks.preload()).rejects.toThrow(StoreFailed);
    expect(tasks.status).toBe("error");
  });
});

describe("what a collection writes", () => {
  it("is in the replica when it is persisted, and an update has only the fields that changed", async () => {
    const { replica, tasks } = await tasksOf();
    await tasks.preload();
    await tasks.insert({ id: "a", title: "A", done: false, tags: ["x"] }).isPersisted.promise;
    expect((await replica.get("tasks", "a"))?.fields).toEqual({ title: "A", done: false, tags: ["x"] });
    await tasks.update("a", (draft) => {
      draft.tags?.push("y");
    }).isPersisted.promise;
    expect(await written(replica)).toEqual([["title", "done", "tags", "deletedAt"], ["tags"]]);
    expect(plain(tasks.get("a"))).toEqual({ id: "a", title: "A", done: false, tags: ["x", "y"] });
    await tasks.delete("a").isPersisted.promise;
    expect(await replica.get("tasks", "a")).toBeNull();
    expect(tasks.size).toBe(0);
  });

  it("is null for a field that is taken away or undefined, and nothing for one that never was", async () => {
    const { replica, tasks } = await tasksOf();
    await tasks.preload();
    await tasks.insert({ id: "a", title: "A", note: "x", n: 1, done: undefined as never }).isPersisted
      .promise;
    await tasks.update("a", (draft) => {
      draft.note = undefined as never;
      delete draft.n;
    }).isPersisted.promise;
    expect((await replica.get("tasks", "a"))?.fields).toEqual({ title: "A", note: null, n: null });
    expect(plain(tasks.get("a"))).toEqual({ id: "a", title: "A", note: null, n: null });
    expect(await written(replica)).toEqual([
      ["title", "note", "n", "deletedAt"],
      ["note", "n"],
    ]);
  });

  it("of several at once is one batch, and so is a transaction over collections of a replica", async () => {
    const { replica, tasks } = await tasksOf();
    const lists = createCollection(syncdCollectionOptions({ replica, table: "lists" }));
    await Promise.all([tasks.preload(), lists.preload()]);
    await tasks.insert([
      { id: "a", title: "A" },
      { id: "b", title: "B" },
    ]).isPersisted.promise;
    const transaction = createTransaction({ mutationFn: writeTransaction, autoCommit: false });
    transaction.mutate(() => {
      lists.insert({ id: "home", name: "Home" });
      tasks.update(["a", "b"], (drafts) => {
        for (const draft of drafts) draft.list = "home";
      });
    });
    transaction.mutate(() => {
      tasks.update("a", (draft) => {
        draft.title = "AA";
      });
      tasks.delete("b");
    });
    expect(await replica.get("lists", "home")).toBeNull();
    await transaction.commit();
    const batches = (await replica.pending()).map(({ batch, table, id, change }) => [
      batch,
      table,
      id,
      change.op,
    ]);
    const [one, other] = [batches[0]?.[0], batches[2]?.[0]];
    expect(one).not.toBe(other);
    expect(batches).toEqual([
      [one, "tasks", "a", "insert"],
      [one, "tasks", "b", "insert"],
      [other, "lists", "home", "insert"],
      [other, "tasks", "a", "update"],
      [other, "tasks", "b", "delete"],
    ]);
    expect(seen(tasks)).toEqual([{ id: "a", title: "AA", list: "home" }]);
  });

  it("of a transaction leaves other collections alone, and is of one replica", async () => {
    const [{ replica, tasks }, other] = [await tasksOf(), await tasksOf()];
    const local = createCollection(localOnlyCollectionOptions({ getKey: ({ id }: { id: string }) => id }));
    await Promise.all([tasks.preload(), other.tasks.preload()]);
    const mixed = createTransaction({
      mutationFn: async (given) => {
        await writeTransaction(given);
        local.utils.acceptMutations(given.transaction);
      },
    });
    mixed.mutate(() => {
      tasks.insert({ id: "a", title: "A" });
      local.insert({ id: "x" });
    });
    await mixed.isPersisted.promise;
    expect([tasks.has("a"), local.has("x"), (await replica.pending()).length]).toEqual([true, true, 1]);
    const two = createTransaction({ mutationFn: writeTransaction });
    two.mutate(() => {
      tasks.insert({ id: "b", title: "B" });
      other.tasks.insert({ id: "b", title: "B" });
    });
    await expect(two.isPersisted.promise).rejects.toThrow(InvalidWrite);
    expect([tasks.has("b"), other.tasks.has("b"), await replica.get("tasks", "b")]).toEqual([
      false,
      false,
      null,
    ]);
  });

  it("of an action shows what it is about, and writes that", async () => {
    const { replica, tasks } = await tasksOf();
    await tasks.insert({ id: "a", title: "A", n: 1 }).isPersisted.promise;
    const raise = createOptimisticAction<{ id: string; by: number }>({
      onMutate: ({ id, by }) => {
        tasks.update(id, (draft) => {
          draft.n = (draft.n ?? 0) + by;
        });
      },
      mutationFn: (_raised, given) => writeTransaction(given),
    });
    const all = [1, 2, 3].map((by) => raise({ id: "a", by }));
    expect(tasks.get("a")?.n).toBe(7);
    await Promise.all(all.map(({ isPersisted }) => isPersisted.promise));
    expect([tasks.get("a")?.n, (await replica.get("tasks", "a"))?.fields.n]).toEqual([7, 7]);
  });

  it("is nothing where nothing changed, also after a way there and back", async () => {
    const { replica, tasks } = await tasksOf();
    await replica.put("tasks", "a", { title: "A", done: false });
    await tasks.preload();
    await tasks.update("a", (draft) => {
      draft.title = "A";
    }).isPersisted.promise;
    const transaction = createTransaction({ mutationFn: writeTransaction, autoCommit: false });
    for (const title of ["B", "A"])
      transaction.mutate(() => {
        tasks.update("a", (draft) => {
          draft.title = title;
        });
      });
    await transaction.commit();
    expect(await written(replica)).toHaveLength(1);
  });

  it("in the place of a deleted record has nothing of that one", async () => {
    const { replica, tasks } = await tasksOf();
    await replica.put("tasks", "a", { title: "A", note: "old", done: true });
    await replica.delete("tasks", "a");
    await tasks.preload();
    await tasks.insert({ id: "a", title: "new" }).isPersisted.promise;
    expect(plain(tasks.get("a"))).toEqual({ id: "a", title: "new", note: null, done: null });
  });

  it("has none of the names that TanStack DB adds to an item", async () => {
    const { replica, tasks } = await tasksOf();
    await tasks.preload();
    await tasks.insert({ id: "a", title: "A" }).isPersisted.promise;
    const copy = { ...(tasks.get("a") as object), id: "b" } as { id: string; title: string };
    expect(copy).toHaveProperty("$synced");
    await tasks.insert(copy).isPersisted.promise;
    expect((await replica.get("tasks", "b"))?.fields).toEqual({ title: "A" });
  });

  const REFUSED: [string, () => object, string][] = [
    ["a number that is none", () => ({ id: "b", n: Number.NaN }), "n"],
    ["a date", () => ({ id: "b", title: new Date() }), "title"],
    ["a value that is undefined in a list", () => ({ id: "b", tags: [undefined] }), "tags"],
    ["a name that the server keeps", () => ({ id: "b", deletedAt: "x" }), "deletedAt"],
    ["an id that can be none", () => ({ id: "..", title: "x" }), "the record id"],
    ["an id that is a number", () => ({ id: 7, title: "x" }), "the record id"],
  ];
  it.each(REFUSED)("goes back where it is %s, and the promise says so", async (_what, item, field) => {
    const { replica, tasks } = await tasksOf();
    await tasks.insert({ id: "a", title: "A" }).isPersisted.promise;
    const transaction = tasks.insert(item() as { id: string });
    expect(tasks.size).toBe(2);
    await expect(transaction.isPersisted.promise).rejects.toMatchObject({ code: "invalid_write", field });
    expect(seen(tasks)).toEqual([{ id: "a", title: "A" }]);
    expect(await replica.pending()).toHaveLength(1);
  });

  it("goes back where its space is no text, in a collection of every space", async () => {
    const replica = await open();
    const all = createCollection(syncdCollectionOptions({ replica, table: "tasks", space: EVERY_SPACE }));
    await all.preload();
    for (const space of [3, 3n, true, {}, ["north"]]) {
      const { isPersisted } = all.insert({ id: "a", space: space as never, title: "A" });
      await expect(isPersisted.promise).rejects.toMatchObject({ code: "invalid_write", field: "the space" });
    }
    expect([all.size, await replica.pending()]).toEqual([0, []]);
  });

  it("of a batch that is too large goes back whole", async () => {
    const { replica, tasks } = await tasksOf();
    await tasks.preload();
    const many = Array.from({ length: 1001 }, (_, n) => ({ id: `t${n}`, n }));
    await expect(tasks.insert(many).isPersisted.promise).rejects.toThrow(BatchTooLarge);
    expect([tasks.size, (await replica.query("tasks")).length]).toEqual([0, 0]);
    await tasks.insert(many.slice(1)).isPersisted.promise;
    expect(tasks.size).toBe(1000);
  });

  it("of a record that is not on the device any more goes back", async () => {
    const { replica, tasks } = await tasksOf();
    await replica.put("tasks", "a", { title: "A" });
    await tasks.preload();
    const transaction = createTransaction({ mutationFn: writeTransaction, autoCommit: false });
    transaction.mutate(() => {
      tasks.update("a", (draft) => {
        draft.title = "B";
      });
    });
    // As when a space is left meanwhile.
    await replica["commit"](async (tx) => {
      tx.delete("records", ["", "tasks", "a"]);
      return [];
    });
    await expect(transaction.commit()).rejects.toThrow(NoSuchRecord);
    await expect(transaction.isPersisted.promise).rejects.toThrow(NoSuchRecord);
    expect(tasks.get("a")?.title).toBe("A"); // nobody has told it yet
  });

  it("of a schema is what it lets through", async () => {
    const replica = await open();
    type Item = { id: string; title: string };
    const validate = (value: unknown) => {
      const { title } = value as Item;
      return typeof title === "string"
        ? { value: value as Item }
        : { issues: [{ message: "a title is a text" }] };
    };
    const schema = {
      "~standard": {
        version: 1,
        vendor: "test",
        validate,
        types: undefined as { input: Item; output: Item } | undefined,
      },
    } as const;
    const tasks = createCollection(syncdCollectionOptions({ replica, table: "tasks", schema }));
    expect(() => tasks.insert({ id: "a", title: 1 as never })).toThrow("a title is a text");
    await tasks.insert({ id: "a", title: "A" }).isPersisted.promise;
    expect((await replica.get("tasks", "a"))?.fields).toEqual({ title: "A" });
  });
});

/** The fields of each change that waits. */
async function written(replica: Pick<Replica, "pending">): Promise<string[][]> {
  return (await replica.pending()).map(({ change }) => Object.keys((change.fields ?? {}) as object));
}
