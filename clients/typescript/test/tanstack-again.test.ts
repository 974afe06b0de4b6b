/** Items of TanStack DB's collections that take the place of others: what was there does not shine through, and nothing goes in silence. */

import { createCollection, createTransaction } from "@tanstack/db";
import { describe, expect, it } from "vitest";
import { EVERY_SPACE } from "../src/index.js";
import { DuplicateKey, keyIn, syncdCollectionOptions, writeTransaction } from "../src/tanstack/index.js";
import { open, until } from "./devices.js";
import { drawn, plain, seen, tasksOf } from "./tanstack-items.js";

function together(work: () => void): Promise<unknown> {
  return createTransaction({ mutationFn: writeTransaction }).mutate(work).isPersisted.promise;
}

describe("an item that is deleted and inserted in one transaction", () => {
  it("has nothing of the one whose insertion is under way", async () => {
    const { replica, tasks } = await tasksOf();
    await tasks.preload();
    const first = tasks.insert({ id: "a", title: "t0", note: "secret" });
    const second = together(() => {
      tasks.delete("a");
      tasks.insert({ id: "a", title: "x" });
    });
    await Promise.all([first.isPersisted.promise, second]);
    expect(plain(tasks.get("a"))).toEqual({ id: "a", title: "x", note: null });
    expect((await replica.get("tasks", "a"))?.fields).toEqual({ title: "x", note: null });
  });

  it("has its own values and none of an update that is under way", async () => {
    const { replica, tasks } = await tasksOf();
    await replica.put("tasks", "a", { title: "t0", note: "n0" });
    await tasks.preload();
    const first = tasks.update("a", (draft) => {
      draft.note = "n1";
      draft.n = 1;
    });
    const second = together(() => {
      tasks.delete("a");
      tasks.insert({ id: "a", title: "x", note: "n0" });
    });
    expect(plain(tasks.get("a"))).toEqual({ id: "a", title: "x", note: "n0" });
    await Promise.all([first.isPersisted.promise, second]);
    expect(plain(tasks.get("a"))).toEqual({ id: "a", title: "x", note: "n0", n: null });
    expect((await replica.get("tasks", "a"))?.fields).toEqual({ title: "x", note: "n0", n: null });
  });

  it("is edited in there as well, and sends only what is different", async () => {
    const { replica, tasks } = await tasksOf();
    await replica.put("tasks", "a", { title: "A", note: "n", list: "home" });
    await tasks.preload();
    await together(() => {
      tasks.delete("a");
      tasks.insert({ id: "a", title: "x", list: "home" });
      tasks.update("a", (draft) => {
        draft.n = 1;
      });
    });
    expect(plain(tasks.get("a"))).toEqual({ id: "a", title: "x", note: null, list: "home", n: 1 });
    const changed = (await replica.pending()).at(-1)?.change.fields as object;
    expect(Object.keys(changed).sort()).toEqual(["deletedAt", "n", "note", "title"]);
  });

  it("is there where somebody deletes it meanwhile", async () => {
    const { replica, tasks } = await tasksOf();
    await replica.put("tasks", "a", { title: "A", note: "n" });
    await tasks.preload();
    await replica.delete("tasks", "a");
    expect(tasks.has("a")).toBe(true); // nobody has told it yet
    await together(() => {
      tasks.delete("a");
      tasks.insert({ id: "a", title: "A", note: "m" });
    });
    expect(plain(tasks.get("a"))).toEqual({ id: "a", title: "A", note: "m" });
  });

  it("goes from one collection to another of the same table", async () => {
    const replica = await open();
    const of = (done: boolean) =>
      createCollection(syncdCollectionOptions({ replica, table: "tasks", where: { done } }));
    const [undone, done] = [of(false), of(true)];
    await replica.put("tasks", "a", { title: "A", done: false, note: "n" });
    await Promise.all([undone.preload(), done.preload()]);
    await together(() => {
      undone.delete("a");
      done.insert({ id: "a", title: "A", done: true });
    });
    expect([undone.size, seen(done)]).toEqual([0, [{ id: "a", title: "A", done: true, note: null }]]);
  });
});

/** An item whose title no other has, and maybe other fields. */
function itemOf(id: string, step: number, draw: (below: number) => number) {
  const note = draw(2) ? { note: `N${draw(3)}` } : {};
  const n = draw(2) ? { n: draw(3) } : {};
  return { id, title: `T${step}`, ...note, ...n };
}

it.each([1, 2, 3])("are what was written last, whatever is under way (seed %i)", async (seed) => {
  const draw = drawn(seed);
  const { replica, tasks } = await tasksOf();
  await tasks.preload();
  const done: Promise<unknown>[] = [];
  const model = new Map<string, object>();
  for (let step = 0; step < 150; step += 1) {
    const id = `t${draw(3)}`;
    const item = itemOf(id, step, draw);
    const old = model.get(id);
    const what = draw(4);
    if (!old) done.push(tasks.insert(item).isPersisted.promise);
    else if (what === 0) done.push(tasks.delete(id).isPersisted.promise);
    else if (what === 1)
      done.push(tasks.update(id, (draft) => void Object.assign(draft, item)).isPersisted.promise);
    else
      done.push(
        together(() => {
          tasks.delete(id);
          tasks.insert(item);
        }),
      );
    if (old && what === 0) model.delete(id);
    else model.set(id, old && what === 1 ? { ...old, ...item } : item);
    if (draw(4) === 0) await done.at(draw(done.length));
    if (draw(6) === 0) await new Promise((resolve) => setTimeout(resolve, draw(4)));
  }
  await Promise.all(done);
  const [shown, held] = [
    seen(tasks),
    (await replica.query("tasks")).map(({ id, fields }) => ({ id, ...fields })),
  ];
  const some = (item: object) =>
    Object.fromEntries(Object.entries(item).filter(([, value]) => value !== null));
  const expected = [...model].sort(([one], [other]) => (one < other ? -1 : 1)).map(([, item]) => item);
  expect([shown.map(some), held.map(some)]).toEqual([expected, expected]);
});

describe("what TanStack DB leaves out of a transaction while a write is under way", () => {
  it("is a deletion with an insert of what was there before the write, which stays and is shown", async () => {
    const { replica, tasks } = await tasksOf();
    await replica.put("tasks", "a", { title: "A", note: "n0" });
    await tasks.preload();
    const first = tasks.update("a", (draft) => {
      draft.note = "n1";
    });
    const second = together(() => {
      tasks.delete("a");
      tasks.insert({ id: "a", title: "A", note: "n0" });
    });
    await Promise.all([first.isPersisted.promise, second]);
    expect(plain(tasks.get("a"))).toEqual({ id: "a", title: "A", note: "n1" });
    expect((await replica.get("tasks", "a"))?.fields).toEqual({ title: "A", note: "n1" });
  });

  it("is a deletion, an insert and a deletion of what the write inserts, which stays and is shown", async () => {
    const { replica, tasks } = await tasksOf();
    await tasks.preload();
    const first = tasks.insert({ id: "a", title: "A" });
    const second = together(() => {
      tasks.delete("a");
      tasks.insert({ id: "a", title: "B" });
      tasks.delete("a");
    });
    await Promise.all([first.isPersisted.promise, second]);
    expect(plain(tasks.get("a"))).toEqual({ id: "a", title: "A" });
    expect((await replica.get("tasks", "a"))?.fields).toEqual({ title: "A" });
  });
});

describe("an insert of an id that is there", () => {
  const kept = { title: "old", note: "mine" };

  it("is refused before the collection is ready", async () => {
    const { replica, tasks } = await tasksOf();
    await replica.put("tasks", "a", kept);
    const { isPersisted } = tasks.insert({ id: "a", title: "new" });
    await expect(isPersisted.promise).rejects.toThrow(DuplicateKey);
    await expect(isPersisted.promise).rejects.toMatchObject({
      code: "duplicate_key",
      message: expect.stringContaining("Update it instead"),
    });
    await tasks.preload();
    expect(seen(tasks)).toEqual([{ id: "a", ...kept }]);
    expect(await replica.pending()).toHaveLength(1);
  });

  it("is refused where a condition hides it, also where it was inserted here", async () => {
    const { replica, tasks } = await tasksOf({ done: false });
    await replica.put("tasks", "a", { ...kept, done: true });
    await tasks.preload();
    await tasks.insert({ id: "b", ...kept, done: true }).isPersisted.promise;
    expect(tasks.size).toBe(0);
    for (const id of ["a", "b"]) {
      const { isPersisted } = tasks.insert({ id, title: "new", done: false });
      await expect(isPersisted.promise).rejects.toThrow(DuplicateKey);
      expect((await replica.get("tasks", id))?.fields).toEqual({ ...kept, done: true });
    }
    expect(tasks.size).toBe(0);
  });

  it("takes nothing of its transaction along, and is of its space alone", async () => {
    const replica = await open();
    const all = createCollection(syncdCollectionOptions({ replica, table: "tasks", space: EVERY_SPACE }));
    await replica.put("tasks", "a", kept, { space: "north" });
    const bad = all.insert([
      { id: "b", space: null, title: "B" },
      { id: "a", space: "north", title: "new" },
    ]);
    await expect(bad.isPersisted.promise).rejects.toThrow(DuplicateKey);
    await all.preload();
    await all.insert({ id: "a", space: null, title: "personal" }).isPersisted.promise;
    expect([...all.keys()].sort()).toEqual([keyIn("north", "a"), keyIn(null, "a")].sort());
    expect(plain(all.get(keyIn("north", "a")))).toEqual({ id: "a", space: "north", ...kept });
  });

  it("is none where it says what is there, as one that is tried again after a crash", async () => {
    const { replica, tasks } = await tasksOf();
    await replica.put("tasks", "a", { ...kept, tags: ["x"] });
    await tasks.insert({ id: "a", ...kept, tags: ["x"] }).isPersisted.promise;
    expect(seen(tasks)).toEqual([{ id: "a", ...kept, tags: ["x"] }]);
    expect(await replica.pending()).toHaveLength(1);
  });

  it("is none where one `mutationFn` writes it twice", async () => {
    const { replica, tasks } = await tasksOf();
    await tasks.preload();
    const twice = createTransaction({
      mutationFn: async (given) => {
        await writeTransaction(given);
        await writeTransaction(given);
      },
    });
    twice.mutate(() => tasks.insert({ id: "a", title: "A" }));
    await twice.isPersisted.promise;
    expect([seen(tasks), (await replica.pending()).length]).toEqual([[{ id: "a", title: "A" }], 1]);
  });

  it("is refused once, and the next is taken after the record was deleted", async () => {
    const { replica, tasks } = await tasksOf({ done: false });
    await replica.put("tasks", "a", { ...kept, done: true });
    await tasks.preload();
    const refused = tasks.insert({ id: "a", title: "new", done: false }).isPersisted.promise;
    await expect(refused).rejects.toThrow(DuplicateKey);
    await replica.delete("tasks", "a");
    await tasks.insert({ id: "a", title: "new", done: false }).isPersisted.promise;
    expect(seen(tasks)).toEqual([{ id: "a", title: "new", done: false, note: null }]);
  });
});

describe("an update of an item that this device deleted a moment before", () => {
  it("is written, and the item stays deleted", async () => {
    const { replica, tasks } = await tasksOf();
    await replica.put("tasks", "a", { title: "A" });
    await tasks.preload();
    await replica.delete("tasks", "a");
    expect(tasks.has("a")).toBe(true); // nobody has told it yet
    await tasks.update("a", (draft) => {
      draft.title = "B";
    }).isPersisted.promise;
    expect(tasks.size).toBe(0);
    await replica.undelete("tasks", "a");
    await until("back", () => tasks.get("a")?.title === "B");
  });
});
