/** @vitest-environment happy-dom */
/** The hooks, in React. */

import { createElement, StrictMode } from "react";
import { createRoot, type Root } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { Replica } from "../src/index.js";
import { usePresence, useQuery, useRecord, useStatus } from "../src/react.js";
import { open, until } from "./devices.js";

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

it("render on a server", () => {
  expect(renderToString(createElement(Board, { replica: null, least: 0 }))).toBe("<p>reading|none|?|0</p>");
});
