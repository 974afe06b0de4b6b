/** Every state that somebody who looks at a collection of TanStack DB is shown, one after the other. */

import { createCollection, createLiveQueryCollection, createTransaction, eq } from "@tanstack/db";
import { expect, it } from "vitest";
import { syncdCollectionOptions, writeTransaction } from "../src/tanstack/index.js";
import { open, until } from "./devices.js";
import { drawn, plain, seen } from "./tanstack-items.js";

interface Shown {
  entries(): Iterable<[string | number, object]>;
  subscribeChanges(listener: () => void): { unsubscribe(): void };
}

/** What is shown from now on, without what is the same as before. */
function recorded(shown: Shown): string[] {
  const states = [textOf(seen(shown))];
  shown.subscribeChanges(() => {
    const state = textOf(seen(shown));
    if (state !== states.at(-1)) states.push(state);
  });
  return states;
}

interface Task {
  id: string;
  title?: string;
  n?: number;
  tags?: string[];
}

it.each([1, 2, 3])("are those that were made here, each once and in order (seed %i)", async (seed) => {
  const draw = drawn(seed);
  const replica = await open();
  const tasks = createCollection(syncdCollectionOptions({ replica, table: "tasks" }));
  const live = createLiveQueryCollection((q) => q.from({ task: tasks }).orderBy(({ task }) => task.id));
  await live.preload();
  const states = recorded(live);
  const model = new Map<string, Task>();
  const expected = ["[]"];
  const done: Promise<unknown>[] = [];
  for (let step = 0; step < 120; step += 1) {
    const id = `t${draw(6)}`;
    const old = model.get(id);
    if (!old) {
      const item = { id, title: `T${step}`, tags: [] as string[] };
      // What a deleted record had comes back as null, if the new one has it not.
      model.set(id, { ...item, n: step });
      done.push(tasks.insert({ ...item, n: step }).isPersisted.promise);
    } else if (draw(4) === 0) {
      model.delete(id);
      done.push(tasks.delete(id).isPersisted.promise);
    } else {
      model.set(id, { ...old, n: step, tags: [...(old.tags ?? []), `${step}`] });
      done.push(
        tasks.update(id, (draft) => {
          draft.n = step;
          (draft.tags as string[]).push(`${step}`);
        }).isPersisted.promise,
      );
    }
    expected.push(textOf(sorted(model)));
    if (draw(3) === 0) await done.at(draw(done.length));
    if (draw(5) === 0) await new Promise((resolve) => setTimeout(resolve, draw(4)));
  }
  await Promise.all(done);
  expect(states).toEqual(expected);
  expect((await replica.query("tasks")).map(({ id, fields }) => ({ id, ...fields }))).toEqual(sorted(model));
});

it("has nothing of a write that another hand makes meanwhile but that write", async () => {
  const replica = await open();
  const tasks = createCollection(syncdCollectionOptions({ replica, table: "tasks" }));
  await replica.put("tasks", "a", { n: 0 });
  await tasks.preload();
  const mine: number[] = [];
  const theirs: number[] = [];
  const note = (all: number[], value: unknown): void => {
    if (typeof value === "number" && value !== all.at(-1)) all.push(value);
  };
  tasks.subscribeChanges(() => {
    note(mine, tasks.get("a")?.n);
    note(theirs, tasks.get("b")?.n);
  });
  const done: Promise<unknown>[] = [];
  for (let n = 1; n <= 40; n += 1) {
    done.push(
      tasks.update("a", (draft) => {
        draft.n = n;
      }).isPersisted.promise,
      replica.put("tasks", "b", { n }),
    );
    if (n % 7 === 0) await Promise.all(done);
  }
  await Promise.all(done);
  await until("theirs", () => tasks.get("b")?.n === 40);
  expect(mine).toEqual(Array.from({ length: 40 }, (_, index) => index + 1));
  expect(theirs).toEqual([...theirs].sort((one, other) => one - other));
});

it("have a batch of others whole, also in two collections and their join once both are told", async () => {
  const replica = await open();
  const [tasks, lists] = [
    createCollection(syncdCollectionOptions({ replica, table: "tasks" })),
    createCollection(syncdCollectionOptions({ replica, table: "lists" })),
  ];
  const joined = createLiveQueryCollection((q) =>
    q
      .from({ task: tasks })
      .join({ list: lists }, ({ task, list }) => eq(task.list, list.id))
      .select(({ task, list }) => ({ id: task.id, round: task.round, of: list?.round })),
  );
  const write = (round: number): Promise<unknown> =>
    replica.batch((batch) => {
      batch.put("lists", "home", { round });
      for (const id of ["a", "b", "c"]) batch.put("tasks", id, { list: "home", round });
    });
  await write(0);
  await joined.preload();
  const rounds: unknown[] = [];
  tasks.subscribeChanges(() => rounds.push(new Set([...tasks.values()].map(({ round }) => round)).size));
  const turns: string[] = [];
  joined.subscribeChanges(() => {
    // What a page draws: not while the two are being told, but when that is over.
    queueMicrotask(() =>
      turns.push(JSON.stringify([...joined.values()].map(({ round, of }) => [round, of]))),
    );
  });
  for (let round = 1; round <= 10; round += 1) await write(round);
  await until("the last", () => turns.at(-1) === JSON.stringify(Array(3).fill([10, 10])));
  expect(new Set(rounds)).toEqual(new Set([1]));
  for (const turn of turns) {
    const all = new Set((JSON.parse(turn) as number[][]).flat());
    expect(all.size).toBe(1);
  }
});

it("have a transaction over two collections, which stays until both have it", async () => {
  const replica = await open();
  const [tasks, lists] = [
    createCollection(syncdCollectionOptions({ replica, table: "tasks" })),
    createCollection(syncdCollectionOptions({ replica, table: "lists" })),
  ];
  const joined = createLiveQueryCollection((q) =>
    q
      .from({ task: tasks })
      .innerJoin({ list: lists }, ({ task, list }) => eq(task.list, list.id))
      .select(({ task, list }) => ({ id: task.id, title: task.title, name: list.name })),
  );
  await joined.preload();
  const states = recorded(joined);
  const all: { isPersisted: { promise: Promise<unknown> } }[] = [];
  for (let n = 0; n < 20; n += 1) {
    const transaction = createTransaction({ mutationFn: writeTransaction });
    transaction.mutate(() => {
      lists.insert({ id: `l${n}`, name: `L${n}` });
      tasks.insert({ id: `t${n}`, title: `T${n}`, list: `l${n}` });
    });
    all.push(transaction);
    if (n % 3 === 0) await transaction.isPersisted.promise;
  }
  await Promise.all(all.map(({ isPersisted }) => isPersisted.promise));
  expect(states.map((state) => (JSON.parse(state) as object[]).length)).toEqual(
    Array.from({ length: 21 }, (_, n) => n),
  );
});

it("go back to what was before a write that was refused, and no further", async () => {
  const replica = await open();
  const tasks = createCollection(syncdCollectionOptions({ replica, table: "tasks" }));
  await tasks.insert({ id: "a", n: 1 }).isPersisted.promise;
  const states: unknown[] = [];
  tasks.subscribeChanges(() => states.push(plain(tasks.get("a"))));
  const good = tasks.update("a", (draft) => {
    draft.title = "good";
  });
  const bad = tasks.update("a", (draft) => {
    draft.n = Number.POSITIVE_INFINITY;
  });
  await good.isPersisted.promise;
  await expect(bad.isPersisted.promise).rejects.toMatchObject({ field: "n" });
  expect(states).toEqual(
    expect.arrayContaining([
      { id: "a", n: 1, title: "good" },
      { id: "a", n: Number.POSITIVE_INFINITY, title: "good" },
    ]),
  );
  expect(plain(tasks.get("a"))).toEqual({ id: "a", n: 1, title: "good" });
  expect(states).not.toContainEqual({ id: "a", n: 1 });
});

function sorted(model: ReadonlyMap<string, Task>): Task[] {
  return [...model.values()].sort((one, other) => (one.id < other.id ? -1 : 1));
}

/** One text for items that say the same, in whatever order their fields are. */
function textOf(items: readonly object[]): string {
  const fields = (item: object): [string, unknown][] =>
    Object.entries(item).sort(([one], [other]) => (one < other ? -1 : 1));
  return JSON.stringify(items.map((item) => Object.fromEntries(fields(item))));
}
