/** Whatever is done to collections of TanStack DB, and beside them, they end with what is in the store. */

import { createCollection, createTransaction } from "@tanstack/db";
import { IDBFactory } from "fake-indexeddb";
import { expect, it } from "vitest";
import { EVERY_SPACE, type Replica } from "../src/index.js";
import { syncdCollectionOptions, writeTransaction } from "../src/tanstack/index.js";
import { open, until } from "./devices.js";
import { drawn, seen } from "./tanstack-items.js";

interface Tables {
  tasks: { n: number; step: number };
}
type Tasks = ReturnType<typeof tasksOf>;
type Draw = (below: number) => number;

function tasksOf(replica: Replica<Tables>, where?: { n: { ">=": number } }) {
  return createCollection(syncdCollectionOptions({ replica, table: "tasks", where, gcTime: 0 }));
}

/** One to three items inserted, updated or deleted as one transaction, of which some are refused. */
function mutate(tasks: Tasks, draw: Draw, step: number) {
  const transaction = createTransaction({ mutationFn: writeTransaction });
  transaction.mutate(() => {
    for (let left = draw(3); left >= 0; left -= 1) {
      const id = `t${draw(8)}`;
      const n = draw(12) === 0 ? Number.NaN : draw(100);
      if (!tasks.has(id)) tasks.insert({ id, n, step });
      else if (draw(4) === 0) tasks.delete(id);
      else
        tasks.update(id, (draft) => {
          draft.n = n;
          if (draw(5) === 0) delete draft.step;
        });
    }
  });
  return transaction.isPersisted.promise;
}

/** The rest of what happens: others write, and a collection is left and begins again. */
async function beside(all: readonly Tasks[], replica: Replica<Tables>, draw: Draw): Promise<void> {
  if (draw(4) === 0) await replica.put("tasks", `t${draw(8)}`, { n: draw(100) });
  if (draw(6) === 0)
    await replica.batch((batch) => {
      batch.put("tasks", "t1", { n: draw(100) });
      batch.delete("tasks", "t2", { upsert: true });
    });
  if (draw(20) > 0) return;
  const left = all[draw(all.length)];
  await left?.cleanup();
  await left?.preload();
}

it.each([1, 2, 3, 4])("after refusals, others' writes and new beginnings (seed %i)", async (seed) => {
  const draw = drawn(seed);
  const [indexedDB, name] = [new IDBFactory(), `random-${seed}`];
  const tabs = [await open({ indexedDB, name }), await open({ indexedDB, name })];
  const [one, two] = tabs as unknown as [Replica<Tables>, Replica<Tables>];
  const [whole, part, other] = [tasksOf(one), tasksOf(one, { n: { ">=": 50 } }), tasksOf(two)];
  const every = createCollection(
    syncdCollectionOptions({ replica: two, table: "tasks", space: EVERY_SPACE }),
  );
  await Promise.all([whole, part, other, every].map((tasks) => tasks.preload()));
  const done: Promise<unknown>[] = [];
  for (let step = 0; step < 150; step += 1) {
    done.push(mutate([whole, part, other][draw(3)] ?? whole, draw, step));
    const aside = beside([whole, part, other], two, draw);
    if (draw(3) === 0) await aside;
    done.push(aside);
  }
  const refused = (await Promise.allSettled(done)).filter(({ status }) => status === "rejected");
  expect(refused.length).toBeGreaterThan(5);
  const store = (await one.query("tasks")).map(({ id, fields }) => ({ id, ...fields }));
  const told = (): unknown[] => [seen(whole), seen(other), seen(part), seen(every)];
  const expected = [
    store,
    store,
    store.filter(({ n = 0 }) => n >= 50),
    store.map((item) => ({ ...item, space: null })),
  ];
  await until("the store", () => equal(told(), expected));
});

function equal(told: unknown, expected: unknown): boolean {
  try {
    expect(told).toEqual(expected);
    return true;
  } catch {
    return false;
  }
}
