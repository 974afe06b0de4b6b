/** @vitest-environment happy-dom */
/** The bindings, in Svelte. */

import { flushSync, mount, unmount } from "svelte";
import { writable } from "svelte/store";
import { expect, it } from "vitest";
import Board from "./board.svelte";
import { open, until } from "./devices.js";

it("show what a replica has, and write what is typed", async () => {
  const replica = await open();
  await replica.put("t", "a", { title: "old", n: 1 });
  await replica.put("t", "b", { title: "another", n: 2 });
  const at = writable("a");
  const page = document.createElement("div");
  document.body.append(page);
  const board = mount(Board, { target: page, props: { replica, at } });
  flushSync();
  const input = page.querySelector("input") as HTMLInputElement;
  const said = (text: string) => until(text, () => page.querySelector("p")?.textContent === text);
  const type = (text: string): void => {
    input.value = text;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  };
  expect([input.value, input.readOnly]).toEqual(["", true]);
  await said("1|a|2|false");
  expect(input.value).toBe("old");
  type("typed");
  await said("1|a|2|true");
  input.dispatchEvent(new FocusEvent("blur"));
  await said("1|a|3|false");
  expect((await replica.get("t", "a"))?.fields.title).toBe("typed");
  await replica.patch("t", "a", { title: "theirs" });
  await until("shown", () => input.value === "theirs");
  type("left in the pause");
  at.set("b");
  await until("the other one", () => input.value === "another");
  await until("written", async () => (await replica.get("t", "a"))?.fields.title === "left in the pause");
  type("gone in the pause");
  await unmount(board);
  await until("written", async () => (await replica.get("t", "b"))?.fields.title === "gone in the pause");
});
