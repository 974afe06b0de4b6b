/** @vitest-environment happy-dom */
/** The bindings, in Solid. */

import { createSignal } from "solid-js";
import h from "solid-js/h";
import { render } from "solid-js/web";
import { afterEach, expect, it } from "vitest";
import type { Replica } from "../src/index.js";
import { useField, useQuery, useRecord, useStatus } from "../src/solid.js";
import { open, until } from "./devices.js";

let dispose: (() => void) | undefined;
afterEach(() => dispose?.());

it("show what a replica has, and write what is typed", async () => {
  const [replica, setReplica] = createSignal<Replica | null>(null);
  const [id, setId] = createSignal("a");
  const lost: unknown[] = [];
  const onUnwritten = (value: unknown, error: unknown) => lost.push([value, error]);
  function Board() {
    const rows = useQuery(replica, "t", () => ({ n: 1 }));
    const record = useRecord(replica, "t", id);
    const status = useStatus(replica);
    const title = useField(replica, "t", id, "title", { pause: 2 ** 30, onUnwritten });
    const said = () => `${rows()?.length}|${record()?.id}|${status()?.pending}|${title.field().dirty}`;
    return [
      h("input", {
        value: () => title.value() ?? "",
        onInput: ({ currentTarget }: { currentTarget: HTMLInputElement }) => title.set(currentTarget.value),
        onBlur: title.onBlur,
      }),
      h("p", said),
    ];
  }
  const page = document.createElement("div");
  document.body.append(page);
  dispose = render(() => h(Board) as never, page);
  const input = page.querySelector("input") as HTMLInputElement;
  const said = (text: string) => until(text, () => page.querySelector("p")?.textContent === text);
  const type = (text: string): void => {
    input.value = text;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  };
  await said("undefined|undefined|undefined|false");
  type("too early");
  expect(lost).toEqual([["too early", null]]);
  const opened = await open();
  await opened.put("t", "a", { title: "old", n: 1 });
  await opened.put("t", "b", { title: "another", n: 2 });
  setReplica(opened);
  await said("1|a|2|false");
  expect(input.value).toBe("old");
  type("typed");
  await said("1|a|2|true");
  input.dispatchEvent(new FocusEvent("blur"));
  await said("1|a|3|false");
  expect((await opened.get("t", "a"))?.fields.title).toBe("typed");
  await opened.patch("t", "a", { title: "theirs" });
  await until("shown", () => input.value === "theirs");
  type("gone in the pause");
  setId("b");
  await until("the other one", () => input.value === "another");
  await until("written", async () => (await opened.get("t", "a"))?.fields.title === "gone in the pause");
  type("unmounted");
  dispose();
  dispose = undefined;
  await until("written", async () => (await opened.get("t", "b"))?.fields.title === "unmounted");
});
