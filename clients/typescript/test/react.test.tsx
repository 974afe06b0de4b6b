/** @vitest-environment happy-dom */
/** The hooks, in React. */

import { createElement, StrictMode, useMemo } from "react";
import { flushSync } from "react-dom";
import { createRoot, type Root } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Replica } from "../src/index.js";
import { groupBy, or } from "../src/queries/index.js";
import { useField, useObserved, usePresence, useQuery, useRecord, useStatus } from "../src/react.js";
import { open, until } from "./devices.js";
import { page as answer, scripted, wire } from "./script.js";

let root: Root;
let page: HTMLElement;
beforeEach(() => {
  page = document.createElement("div");
  root = createRoot(page);
});
afterEach(() => root.unmount());

function Board({ replica, least }: { replica: Replica | null; least: number }) {
  const rows = useQuery(replica, "t", { n: { ">=": least } }, { order: "-n" });
  const first = useRecord(replica, "t", "a");
  const status = useStatus(replica);
  const peers = usePresence(null, "s");
  const shown = rows === undefined ? "reading" : rows.map(({ id }) => id).join();
  return createElement(
    "p",
    null,
    `${shown}|${first?.fields.n ?? "none"}|${status?.pending ?? "?"}|${peers.length}`,
  );
}

function show(replica: Replica | null, least = 0): void {
  root.render(createElement(StrictMode, null, createElement(Board, { replica, least })));
}

function reads(text: string): Promise<void> {
  return until(text, () => page.textContent === text);
}

it("render what a replica has, and again when it changes", async () => {
  const replica = await open();
  show(null);
  await reads("reading|none|?|0");
  await replica.put("t", "a", { n: 1 });
  show(replica);
  await reads("a|1|1|0");
  await replica.put("t", "b", { n: 2 });
  await reads("b,a|1|2|0");
  show(replica, 2);
  await reads("b|1|2|0");
  await replica.delete("t", "b");
  await reads("|1|3|0");
});

it("take a condition that is written in place, and what is counted of it", async () => {
  let rendered = 0;
  function Counted({ replica, least }: { replica: Replica | null; least: number }) {
    rendered += 1;
    const rows = useQuery(replica, "t", or({ n: { ">=": least } }, { kept: true }));
    const groups = useObserved(
      useMemo(() => replica && groupBy(replica.query("t"), "kept", { all: "count" }), [replica]),
    );
    const said = groups?.map(({ by, all }) => `${by} ${all}`).join();
    return createElement("p", null, `${rows?.map(({ id }) => id).join()}|${said}`);
  }
  const replica = await open();
  const draw = (least: number): void => root.render(createElement(Counted, { replica, least }));
  await replica.put("t", "a", { n: 1 });
  await replica.put("t", "b", { n: 2 });
  draw(2);
  await reads("b|null 2");
  draw(1);
  await reads("a,b|null 2");
  draw(3);
  await replica.patch("t", "a", { kept: true });
  await reads("a|null 1,true 1");
  expect(rendered).toBeLessThan(15);
});

it("render on a server", () => {
  expect(renderToString(createElement(Board, { replica: null, least: 0 }))).toBe("<p>reading|none|?|0</p>");
});

describe("a field", () => {
  function Title({
    replica,
    id = "a",
    pause = 30,
    ...more
  }: {
    replica: Replica | null;
    id?: string;
    pause?: number;
    onUnwritten?: () => void;
  }) {
    const { props, dirty, theirs, error } = useField(replica, "t", id, "title", { pause, ...more });
    const said = `${dirty ? "dirty" : "clean"}|${theirs ?? ""}|${error?.code ?? ""}`;
    return createElement("form", null, createElement("input", props), createElement("output", null, said));
  }

  function showTitle(given: Parameters<typeof Title>[0]): void {
    root.render(createElement(StrictMode, null, createElement(Title, given)));
  }

  const input = (): HTMLInputElement => page.querySelector("input") as HTMLInputElement;
  const said = (): string | null | undefined => page.querySelector("output")?.textContent;

  /** A key: what the browser does before it tells the page. React's own setter on the element would hide it from React. */
  function press(letter: string): void {
    const at = input().selectionStart ?? 0;
    const text = `${input().value.slice(0, at)}${letter}${input().value.slice(at)}`;
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value")?.set?.call(input(), text);
    input().setSelectionRange(at + 1, at + 1);
    input().dispatchEvent(new Event("input", { bubbles: true }));
  }

  async function shown(title = "old", given: object = {}): Promise<Replica> {
    const replica = await open();
    await replica.put("t", "a", { title });
    showTitle({ replica, ...given });
    await until("read", () => input()?.value === title && !input().readOnly);
    return replica;
  }

  const stored = async (replica: Replica, id = "a") => (await replica.get("t", id))?.fields.title;

  it.each([
    ["as fast as can be", 0],
    ["while answers of the store come between", 4],
  ])("takes what is typed in the middle of it whole, and leaves the caret, %s", async (_, pause) => {
    const replica = await shown("[]", { pause: pause === 0 ? 30 : 1 });
    input().setSelectionRange(1, 1);
    let at = 1;
    for (const letter of "the quick brown fox") {
      press(letter);
      at += 1;
      expect(input().value).toBe(`[${"the quick brown fox".slice(0, at - 1)}]`);
      if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
      expect([input().selectionStart, input().selectionEnd]).toEqual([at, at]);
    }
    await until("written", () => said() === "clean||");
    expect(input().value).toBe("[the quick brown fox]");
    expect(input().selectionStart).toBe(at);
    expect(await stored(replica)).toBe("[the quick brown fox]");
  });

  it("is written when it is left, shows what others write, and says what stands against it", async () => {
    const replica = await shown("old", { pause: 2 ** 30 });
    await replica.patch("t", "a", { title: "theirs" });
    await until("shown", () => input().value === "theirs");
    input().setSelectionRange(6, 6);
    press("!");
    expect(said()).toBe("dirty||");
    await replica.patch("t", "a", { title: "theirs again" });
    await until("told", () => said() === "dirty|theirs again|");
    expect(input().value).toBe("theirs!");
    input().dispatchEvent(new FocusEvent("focusout", { bubbles: true }));
    await until("written", () => said() === "clean|theirs again|");
    expect(await stored(replica)).toBe("theirs!");
    press("\u0000");
    input().dispatchEvent(new FocusEvent("focusout", { bubbles: true }));
    await until("refused", () => said() === "dirty||invalid_write");
    press("x");
    expect(said()).toBe("dirty||"); // and is told to the console when it goes
  });

  it("is written when it goes in the pause, to the record that it was of", async () => {
    const replica = await shown("old", { pause: 2 ** 30 });
    await replica.put("t", "b", { title: "another" });
    input().setSelectionRange(0, 0);
    press("1");
    showTitle({ replica, id: "b", pause: 2 ** 30 });
    await until("the other one", () => input().value === "another");
    input().setSelectionRange(0, 0);
    press("2");
    root.render(null);
    await until("written", async () => (await stored(replica, "b")) === "2another");
    expect(await stored(replica)).toBe("1old");
  });

  it("tells whom the last rendering named of what could not be written", async () => {
    const replica = await open();
    const told: string[] = [];
    await replica.put("t", "a", { title: "old" });
    const named = (name: string) => ({ replica, pause: 2 ** 30, onUnwritten: () => told.push(name) });
    showTitle(named("first"));
    await until("read", () => input() !== null && !input().readOnly);
    flushSync(() => showTitle(named("last")));
    press("\u0000");
    root.render(null);
    await until("told", () => told.length > 0);
    expect(told).toEqual(["last"]);
  });

  it("takes nothing before it is read", async () => {
    showTitle({ replica: null });
    await until("there", () => input() !== null);
    expect([input().value, input().readOnly]).toEqual(["", true]);
  });

  it("passes between two devices", async () => {
    const { replica, script } = await scripted();
    await replica.put("t", "a", { title: "" });
    showTitle({ replica, pause: 5 });
    await until("read", () => input() !== null && !input().readOnly);
    for (const [place, letter] of [..."the quick brown fox"].entries()) {
      press(letter);
      const at = new Date(Date.now() + place).toISOString();
      await replica.push();
      script.answers.push(answer([wire("a", { n: [place, at] })]));
      await replica.pull();
      expect(input().value).toBe("the quick brown fox".slice(0, place + 1));
    }
    await until("written", () => said() === "clean||");
    await replica.push();
    const at = new Date(Date.now() + 1000).toISOString();
    script.answers.push(answer([wire("a", { title: ["a lazy dog", at] })]));
    await replica.pull();
    await until("and back", () => input().value === "a lazy dog");
    expect((await replica.get("t", "a"))?.fields).toEqual({ title: "a lazy dog", n: 18 });
  });
});
