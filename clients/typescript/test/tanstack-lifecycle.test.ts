/** Collections of TanStack DB that are left, begin again, or cannot be read. */

import { createCollection, createLiveQueryCollection } from "@tanstack/db";
import { describe, expect, it, vi } from "vitest";
import type { MakeStore, RowStore } from "../src/index.js";
import { MemoryStore } from "../src/store/memory.js";
import { LAYOUT } from "../src/store/store.js";
import { syncdCollectionOptions } from "../src/tanstack/index.js";
import { open, until } from "./devices.js";
import { seen, tasksOf } from "./tanstack-items.js";

describe("a collection that nobody looks at", () => {
  it("hears nothing more, and begins again", async () => {
    const { replica, tasks } = await tasksOf();
    const { on } = replica;
    let listeners = 0;
    replica.on = (listener) => {
      const stop = on.call(replica, listener);
      listeners += 1;
      return () => {
        listeners -= 1;
        stop();
      };
    };
    const lists = createCollection(syncdCollectionOptions({ replica, table: "lists" }));
    await Promise.all([tasks.preload(), lists.preload()]);
    expect(listeners).toBe(1);
    await tasks.cleanup();
    expect(listeners).toBe(1);
    await replica.put("tasks", "a", { title: "A" });
    await lists.insert({ id: "l", name: "L" }).isPersisted.promise;
    expect([tasks.status, tasks.size]).toEqual(["cleaned-up", 0]);
    await lists.cleanup();
    expect(listeners).toBe(0);
    await tasks.preload();
    expect([tasks.status, seen(tasks), listeners]).toEqual(["ready", [{ id: "a", title: "A" }], 1]);
    await replica.put("tasks", "b", { title: "B" });
    await until("b", () => tasks.has("b"));
    expect(lists.size).toBe(0);
    await tasks.cleanup();
  });

  it("is cleaned up while it is read first", async () => {
    const { replica, tasks } = await tasksOf();
    await replica.put("tasks", "a", { title: "A" });
    const reading = tasks.preload();
    await tasks.cleanup();
    await expect(reading).rejects.toThrow();
    await tasks.preload();
    expect(tasks.size).toBe(1);
  });

  it("is left by its last query, and goes after `gcTime`", async () => {
    const replica = await open();
    const tasks = createCollection(syncdCollectionOptions({ replica, table: "tasks", gcTime: 20 }));
    const live = createLiveQueryCollection({ query: (q) => q.from({ task: tasks }), gcTime: 20 });
    live.subscribeChanges(() => {}).unsubscribe();
    await until("cleaned up", () => tasks.status === "cleaned-up");
  });
});

describe("a store that fails", () => {
  it("is asked again, and what was written meanwhile is shown", async () => {
    const failing = { times: 0 };
    const replica = await open({ store: failingStore(failing) });
    const tasks = createCollection(syncdCollectionOptions({ replica, table: "tasks" }));
    await tasks.preload();
    failing.times = 1;
    await tasks.insert({ id: "a", title: "A" }).isPersisted.promise;
    expect([failing.times, seen(tasks)]).toEqual([0, [{ id: "a", title: "A" }]]);
  });

  it("again and again has failed a collection that is new, which comes back with the next write", async () => {
    const failing = { times: 0 };
    const replica = await open({ store: failingStore(failing) });
    const tasks = createCollection(syncdCollectionOptions({ replica, table: "tasks" }));
    failing.times = 3;
    await expect(tasks.preload()).rejects.toThrow("out of order");
    expect(tasks.status).toBe("error");
    await replica.put("tasks", "a", { title: "A" });
    await until("ready", () => tasks.status === "ready");
    expect(seen(tasks)).toEqual([{ id: "a", title: "A" }]);
  });
});

describe("a listener that raises", () => {
  it("at the first load keeps no collection from being ready, nor what comes after", async () => {
    const failed = vi.spyOn(console, "error").mockImplementation(() => {});
    const { replica, tasks } = await tasksOf();
    const lists = createCollection(syncdCollectionOptions({ replica, table: "lists" }));
    await replica.put("tasks", "a", { title: "A" });
    await replica.put("lists", "l", { name: "L" });
    let times = 0;
    tasks.subscribeChanges(() => {
      times += 1;
      if (times === 1) throw new Error("of the page");
    });
    const [first, other] = await Promise.all([tasks.toArrayWhenReady(), lists.toArrayWhenReady()]);
    expect([first.length, other.length, tasks.status]).toEqual([1, 1, "ready"]);
    await tasks.insert({ id: "b", title: "B" }).isPersisted.promise;
    await replica.patch("tasks", "a", { title: "AA" });
    await until("what comes after", () => tasks.get("a")?.title === "AA");
    expect(seen(tasks)).toEqual([
      { id: "a", title: "AA" },
      { id: "b", title: "B" },
    ]);
    expect(failed).toHaveBeenCalledOnce();
    failed.mockRestore();
  }, 30_000);
});

/** In memory, and so many reads fail. */
function failingStore(failing: { times: number }): MakeStore {
  return async (_name, prepare) => {
    const store = new MemoryStore(LAYOUT);
    await store.write(prepare);
    const read: RowStore["read"] = async (work) => {
      if (failing.times > 0) {
        failing.times -= 1;
        throw new Error("out of order");
      }
      return store.read(work);
    };
    return { durable: false, read, write: (work) => store.write(work), close: () => store.close() };
  };
}
