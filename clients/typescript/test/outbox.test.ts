/** @vitest-environment happy-dom */
/** Conflicts, refusals, what waits and histories, in React, Vue, Svelte and Solid. */

import { createElement, StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { createSignal } from "solid-js";
import h from "solid-js/h";
import { render } from "solid-js/web";
import { flushSync, mount, unmount } from "svelte";
import { writable } from "svelte/store";
import { expect, it } from "vitest";
import { createApp, defineComponent, shallowRef, h as vueElement } from "vue";
import type { Replica } from "../src/index.js";
import type { History } from "../src/observe.js";
import * as react from "../src/react.js";
import * as solid from "../src/solid.js";
import * as vue from "../src/vue.js";
import { until } from "./devices.js";
import Outbox from "./outbox.svelte";
import { byAnother, told } from "./told.js";

type Lists = readonly (readonly object[] | undefined)[];

function text(lists: Lists, history: History | undefined): string {
  return [...lists.map((list) => list?.length), history?.changes.map(({ seq }) => seq).join()].join("|");
}

/** Shows a replica on a page in a button that reads more, and says how to show the record "b", and how to end it. */
type Show = (page: HTMLElement, replica: Replica) => { b: () => void; end: () => void };

const inReact: Show = (page, replica) => {
  function Shown({ id, from }: { id: string; from: Replica | null }) {
    const lists = [react.useConflicts(from), react.useRejected(from), react.usePending(from)];
    const { more, loading, ...history } = react.useHistory(from, "t", id, { page: 1 });
    return createElement(
      "button",
      { type: "button", onClick: more },
      text(lists, loading ? undefined : history),
    );
  }
  const root = createRoot(page);
  const draw = (id: string, from: Replica | null): void =>
    root.render(createElement(StrictMode, null, createElement(Shown, { id, from })));
  draw("a", null);
  draw("a", replica);
  return { b: () => draw("b", replica), end: () => root.unmount() };
};

const inVue: Show = (page, replica) => {
  const [from, id] = [shallowRef<Replica | null>(null), shallowRef("a")];
  const app = createApp(
    defineComponent(() => {
      const lists = [vue.useConflicts(from), vue.useRejected(from), vue.usePending(from)];
      const { history, more } = vue.useHistory(from, "t", id, { page: 1 });
      const said = () =>
        text(
          lists.map(({ value }) => value),
          history.value,
        );
      return () => vueElement("button", { onClick: more }, said());
    }),
  );
  app.mount(page);
  from.value = replica;
  const b = (): void => {
    id.value = "b";
  };
  return { b, end: () => app.unmount() };
};

const inSvelte: Show = (page, replica) => {
  const at = writable("a");
  const shown = mount(Outbox, { target: page, props: { replica, at } });
  flushSync();
  return { b: () => at.set("b"), end: () => void unmount(shown) };
};

const inSolid: Show = (page, replica) => {
  const [from, setFrom] = createSignal<Replica | null>(null);
  const [id, setId] = createSignal("a");
  function Shown() {
    const lists = [solid.useConflicts(from), solid.useRejected(from), solid.usePending(from)];
    const { history, more } = solid.useHistory(from, "t", id, { page: 1 });
    return h("button", { onClick: more }, () =>
      text(
        lists.map((list) => list()),
        history(),
      ),
    );
  }
  const end = render(() => h(Shown) as never, page);
  setFrom(replica);
  return { b: () => void setId("b"), end };
};

it.each([
  ["React", inReact],
  ["Vue", inVue],
  ["Svelte", inSvelte],
  ["Solid", inSolid],
])("are shown in %s, and again when they change", async (_, show) => {
  const { replica, history, news, line } = await told();
  const page = document.createElement("div");
  document.body.append(page);
  const { b, end } = show(page, replica);
  const said = (wanted: string) => until(wanted, () => page.textContent === wanted);
  await said("0|0|0|");
  await replica.put("t", "a", { n: 1 });
  await replica.put("refused", "r", { n: 1 });
  await said("0|0|2|");
  await replica.sync();
  await said("1|1|0|1");
  await replica.clearConflicts();
  await said("0|1|0|1");
  history.push(2);
  news.push(byAnother(2));
  await replica.sync();
  await said("0|1|0|2");
  page.querySelector("button")?.click();
  await said("0|1|0|2,1");
  b();
  await said("0|1|0|2");
  end();
  const { asked } = line;
  history.push(3);
  news.push(byAnother(3));
  await replica.sync();
  expect(line.asked).toBe(asked);
  page.remove();
});
