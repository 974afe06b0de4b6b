/** @vitest-environment happy-dom */
/** A live query of TanStack DB over a replica, in React. */

import { createCollection, eq, useLiveQuery } from "@tanstack/react-db";
import { createElement, StrictMode } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { Replica } from "../src/index.js";
import { syncdCollectionOptions } from "../src/tanstack/index.js";
import { open, until } from "./devices.js";

let root: Root;
let page: HTMLElement;
beforeEach(() => {
  page = document.createElement("div");
  root = createRoot(page);
});
afterEach(() => root.unmount());

function collectionsOf(replica: Replica) {
  return {
    tasks: createCollection(syncdCollectionOptions({ replica, table: "tasks" })),
    lists: createCollection(syncdCollectionOptions({ replica, table: "lists" })),
  };
}

/** What each rendering showed, without what is the same as before. */
const rendered: string[] = [];

function Open({ tasks, lists }: ReturnType<typeof collectionsOf>) {
  const { data, isReady } = useLiveQuery((q) =>
    q
      .from({ task: tasks })
      .leftJoin({ list: lists }, ({ task, list }) => eq(task.list, list.id))
      .where(({ task }) => eq(task.done, false))
      .orderBy(({ task }) => task.id)
      .select(({ task, list }) => ({ id: task.id, title: task.title, list: list?.name })),
  );
  const text = isReady ? data.map(({ title, list }) => `${title} (${list})`).join() : "reading";
  if (rendered.at(-1) !== text) rendered.push(text);
  return createElement("p", null, text);
}

it("renders what the replica has, and each mutation once, without a way back between", async () => {
  rendered.length = 0;
  const replica = await open();
  const { tasks, lists } = collectionsOf(replica);
  await replica.put("lists", "home", { name: "Home" });
  await replica.put("tasks", "a", { title: "A", list: "home", done: false });
  root.render(createElement(StrictMode, null, createElement(Open, { tasks, lists })));
  await until("read", () => page.textContent === "A (Home)");
  const transaction = tasks.update("a", (draft) => {
    draft.title = "AA";
  });
  await until("at once", () => page.textContent === "AA (Home)");
  await transaction.isPersisted.promise;
  await replica.put("tasks", "b", { title: "B", done: false });
  await until("beside it", () => page.textContent === "AA (Home),B (undefined)");
  const bad = tasks.update("b", (draft) => {
    draft.title = Number.NaN as never;
  });
  await expect(bad.isPersisted.promise).rejects.toThrow("title");
  await until("back", () => page.textContent === "AA (Home),B (undefined)");
  await tasks.update("a", (draft) => {
    draft.done = true;
  }).isPersisted.promise;
  await until("done", () => page.textContent === "B (undefined)");
  // Whether the refused one was drawn before it went back is React's affair.
  const kept = rendered.filter((text) => !text.includes("NaN"));
  expect(kept.filter((text, n) => text !== kept[n - 1])).toEqual([
    "reading",
    "A (Home)",
    "AA (Home)",
    "AA (Home),B (undefined)",
    "B (undefined)",
  ]);
});
