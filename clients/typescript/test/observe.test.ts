/** Conflicts, refusals, what waits, and histories, as reads that go on. */

import { randomUUID } from "node:crypto";
import { expect, it } from "vitest";
import { conflictsOf, type History, historyOf, pendingOf, rejectedOf } from "../src/observe.js";
import { open, until } from "./devices.js";
import { RealServer } from "./server.js";
import { byAnother, told } from "./told.js";

function seqs({ changes }: History): number[] {
  return changes.map(({ seq }) => seq);
}

it("tell what waits, what was refused and what stands against each other, and again when it changes", async () => {
  const { replica } = await told();
  const lists = {
    pending: [] as readonly object[],
    rejected: [] as readonly object[],
    conflicts: [] as readonly object[],
  };
  const stops = [
    pendingOf(replica).subscribe((now) => Object.assign(lists, { pending: now })),
    rejectedOf(replica).subscribe((now) => Object.assign(lists, { rejected: now })),
    conflictsOf(replica).subscribe((now) => Object.assign(lists, { conflicts: now })),
  ];
  const said = (...lengths: number[]) =>
    until(lengths.join(), () => `${Object.values(lists).map(({ length }) => length)}` === `${lengths}`);
  await said(0, 0, 0);
  await replica.put("t", "a", { n: 1 });
  const refused = await replica.put("refused", "b", { n: 1 });
  await said(2, 0, 0);
  await replica.sync();
  await said(0, 1, 1);
  expect(lists.rejected).toMatchObject([{ id: "b", code: "not_a_writer" }]);
  expect(lists.conflicts).toMatchObject([{ id: "a", mine: 1, theirs: 2 }]);
  await replica.requeue(refused);
  await said(1, 0, 1);
  await replica.sync();
  await said(0, 1, 1);
  const [again] = await rejectedOf(replica);
  await replica.drop(again?.changeId ?? "");
  await said(0, 0, 1);
  await replica.clearConflicts();
  await said(0, 0, 0);
  for (const stop of stops) stop();
});

it("tell the other tab of a conflict that is cleared", async () => {
  const indexedDB = new (await import("fake-indexeddb")).IDBFactory();
  const { replica } = await told({ indexedDB, name: "tabs" });
  const other = await open({ indexedDB, name: "tabs" });
  let conflicts: readonly object[] = [];
  const stop = conflictsOf(other).subscribe((now) => {
    conflicts = now;
  });
  await replica.put("t", "a", { n: 1 });
  await replica.sync();
  await until("there", () => conflicts.length === 1);
  await replica.clearConflicts();
  await until("gone", () => conflicts.length === 0);
  stop();
});

it("tell a history again where the record changes, where a write has arrived, and not for others", async () => {
  const { replica, history, news, line } = await told();
  let now: History | undefined;
  const stop = historyOf(replica, "t", "a").subscribe((read) => {
    now = read;
  });
  await until("read", () => now !== undefined);
  expect(now).toEqual({ changes: [], hasMore: false, error: null });
  await replica.put("t", "a", { n: 1 });
  await replica.sync();
  await until("our own", () => now?.changes.length === 1);
  history.push(2);
  news.push(byAnother(2));
  await replica.sync();
  await until("another's", () => now && `${seqs(now)}` === "2,1");
  const { asked } = line;
  await replica.put("t", "b", { n: 1 });
  await replica.sync();
  await replica.query("t");
  expect(line.asked).toBe(asked);
  stop();
});

it("keep what was read of a history where the server is away, and read it when it is there", async () => {
  const { replica, history, line } = await told();
  history.push(1, 2, 3);
  const view = historyOf(replica, "t", "a", { page: 2 });
  const answers: History[] = [];
  const stop = view.subscribe((read) => answers.push(read));
  const last = (): History | undefined => answers.at(-1);
  await until("the newest", () => last()?.hasMore);
  expect(seqs(last() as History)).toEqual([3, 2]);
  line.up = false;
  view.more();
  await until("away", () => last()?.error);
  expect([last()?.error?.code, seqs(last() as History)]).toEqual(["offline", [3, 2]]);
  line.up = true;
  view.more();
  await until("there", () => last()?.error === null);
  expect([last()?.hasMore, seqs(last() as History)]).toEqual([false, [3, 2, 1]]);
  line.up = false;
  view.more();
  await until("away again", () => last()?.error);
  line.up = true;
  await replica.put("t", "b", { n: 1 });
  await replica.sync();
  await until("there again", () => last()?.error === null);
  expect(await historyOf(replica, "t", "..")).toMatchObject({ error: { code: "invalid_query" } });
  expect(() => historyOf(replica, "t", "a", { space: ".." })).toThrow("space");
  stop();
});

it("read the history of a real server", async () => {
  const server = await RealServer.start();
  try {
    const token = await server.token(`u-${randomUUID()}`);
    const replica = await open({ url: server.url, token });
    await replica.put("t", "a", { n: 1 });
    expect(await historyOf(replica, "t", "a")).toEqual({ changes: [], hasMore: false, error: null });
    await replica.sync();
    await replica.patch("t", "a", { n: 2 });
    await replica.sync();
    const { changes, hasMore } = await historyOf(replica, "t", "a", { page: 1 });
    expect([changes.map(({ fields }) => fields.get("n")?.value), hasMore]).toEqual([[2], true]);
    expect((await historyOf(replica, "t", "a")).changes).toHaveLength(2);
  } finally {
    await server.remove();
  }
});
