/** @vitest-environment happy-dom */
/** The bindings, in Vue. */

import { afterEach, expect, it } from "vitest";
import { type App, createApp, defineComponent, h, ref, shallowRef, vModelText, withDirectives } from "vue";
import type { Replica } from "../src/index.js";
import { or } from "../src/queries/index.js";
import { useField, useQuery, useRecord, useStatus } from "../src/vue.js";
import { open, until } from "./devices.js";

let app: App | undefined;
afterEach(() => app?.unmount());

it("work with a replica in a plain ref, and say what is typed before there is one", async () => {
  const replica = ref();
  const lost: unknown[] = [];
  const onUnwritten = (value: unknown, error: unknown) => lost.push([value, error]);
  let title: ReturnType<typeof useField> | undefined;
  const Board = defineComponent(() => {
    const record = useRecord(replica, "t", "a");
    title = useField(replica, "t", "a", "title", { pause: 2 ** 30, onUnwritten });
    return () => h("p", `${record.value?.id}|${title?.value.value}|${title?.field.value.loading}`);
  });
  const page = document.createElement("div");
  app = createApp(Board);
  app.mount(page);
  expect(title?.field.value.loading).toBe(true);
  (title as NonNullable<typeof title>).value.value = "too early";
  expect(lost).toEqual([["too early", null]]);
  const opened = await open();
  await opened.put("t", "a", { title: "old" });
  replica.value = opened;
  await until("read", () => page.textContent === "a|old|false");
});

it("show what a replica has, and write what is typed", async () => {
  const replica = shallowRef<Replica | null>(null);
  const id = ref("a");
  const Board = defineComponent(() => {
    const rows = useQuery(replica, "t", or({ n: 1 }, { n: 7 }));
    const record = useRecord(replica, "t", id);
    const status = useStatus(replica);
    const title = useField(replica, "t", id, "title", { pause: 2 ** 30 });
    return () => [
      withDirectives(
        h("input", {
          "onUpdate:modelValue": (text: string) => {
            title.value.value = text;
          },
          onBlur: title.onBlur,
        }),
        [[vModelText, title.value.value]],
      ),
      h("p", `${rows.value?.length}|${record.value?.id}|${status.value?.pending}|${title.field.value.dirty}`),
    ];
  });
  const page = document.createElement("div");
  app = createApp(Board);
  app.mount(page);
  const input = page.querySelector("input") as HTMLInputElement;
  const said = (text: string) => until(text, () => page.querySelector("p")?.textContent === text);
  const type = (text: string): void => {
    input.value = text;
    input.dispatchEvent(new Event("input"));
  };
  await said("undefined|undefined|undefined|false");
  const opened = await open();
  await opened.put("t", "a", { title: "old", n: 1 });
  await opened.put("t", "b", { title: "another", n: 2 });
  replica.value = opened;
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
  id.value = "b";
  await until("the other one", () => input.value === "another");
  await until("written", async () => (await opened.get("t", "a"))?.fields.title === "gone in the pause");
  type("unmounted");
  app.unmount();
  app = undefined;
  await until("written", async () => (await opened.get("t", "b"))?.fields.title === "unmounted");
});
