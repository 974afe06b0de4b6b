/** A field for an input: what is typed, what is stored, and what others write meanwhile. */

import { afterEach, describe, expect, it, vi } from "vitest";
import { Field, type FieldOptions, type FieldState, fieldOf } from "../src/field.js";
import { InvalidWrite, NoSuchRecord, type Replica, StoreFailed } from "../src/index.js";
import { until } from "./devices.js";
import { page, type Script, scripted, wire } from "./script.js";

const QUICK: FieldOptions = { pause: 30 };
/** A pause that nobody waits for. */
const NEVER: FieldOptions = { pause: 2 ** 30 };

interface Desk {
  readonly replica: Replica;
  readonly script: Script;
  readonly field: Field<unknown>;
  readonly states: FieldState<unknown>[];
}

const fields: Field<unknown>[] = [];
afterEach(() => {
  vi.restoreAllMocks();
  return Promise.all(fields.splice(0).map((field) => field.close()));
});

/** A record with a title, and its field, listened to. */
async function desk(options: FieldOptions = QUICK, stored: string | null = "old"): Promise<Desk> {
  const { replica, script } = await scripted();
  if (stored !== null) await replica.put("t", "a", { title: stored, n: 1 });
  const field = fieldOf(replica, "t", "a", "title", options) as Field<unknown>;
  const states: FieldState<unknown>[] = [];
  field.subscribe((state) => states.push(state));
  fields.push(field);
  await until("read", () => !field.current.loading);
  return { replica, script, field, states };
}

let later = 0;
/** Another device writes, and this one hears of it. */
async function others({ replica, script }: Desk, title: string, other: object = {}): Promise<void> {
  await replica.push();
  later += 1000;
  const at = new Date(Date.now() + later).toISOString();
  script.answers.push(page([{ ...wire("a", { title: [title, at] }), changeId: `other-${later}`, ...other }]));
  await replica.pull();
}

async function stored(replica: Replica, deleted = false): Promise<unknown> {
  return (await replica.get("t", "a", { deleted }))?.fields.title;
}

/** What was written to the title, in order. */
async function written(replica: Replica): Promise<unknown[]> {
  const changes = (await replica.pending()).map(
    ({ change }) => change.fields as { title?: { value: unknown } },
  );
  return changes.flatMap(({ title }) => (title === undefined ? [] : [title.value]));
}

describe("what is typed", () => {
  it("shows in the same tick, and is written after the pause, once", async () => {
    const { replica, field, states } = await desk();
    expect(states.map(({ value, loading }) => [value, loading])).toEqual([
      [undefined, true],
      ["old", false],
    ]);
    for (const text of ["t", "th", "the"]) {
      field.set(text);
      expect(field.current).toMatchObject({ value: text, dirty: true, error: null });
      expect(states.at(-1)).toBe(field.current);
    }
    expect(await stored(replica)).toBe("old");
    await until("written", () => !field.current.dirty);
    expect(field.current.value).toBe("the");
    expect(await written(replica)).toEqual(["old", "the"]);
  });

  it("comes out whole however the keys and the writes fall", async () => {
    const { replica, field, states } = await desk({ pause: 3 });
    const text = "the quick brown fox jumps over the lazy dog";
    for (let end = 1; end <= text.length; end++) {
      field.set(text.slice(0, end));
      expect(field.current.value).toBe(text.slice(0, end));
      if (end % 3 > 0) await new Promise((resolve) => setTimeout(resolve, end % 7));
    }
    expect(await field.flush()).toBe(true);
    expect(await stored(replica)).toBe(text);
    // What was shown only ever grew: no answer of the store took a letter back.
    const lengths = states.slice(2).map(({ value }) => (value as string).length);
    expect(lengths).toEqual([...lengths].sort((one, other) => one - other));
    const order = (await written(replica)).slice(1).map((value) => (value as string).length);
    expect(order).toEqual([...order].sort((one, other) => one - other));
  });

  it("is written when the input is left, one write after the other", async () => {
    const { replica, field } = await desk(NEVER);
    field.set("one");
    const first = field.flush();
    field.set("two");
    expect(field.current).toMatchObject({ value: "two", dirty: true });
    const second = field.flush();
    field.set("three");
    expect(await Promise.all([first, second])).toEqual([true, true]);
    expect(field.current).toMatchObject({ value: "three", dirty: false });
    expect(await written(replica)).toEqual(["old", "one", "three"]);
  });

  it("is written though it went back to what the store has, where something else is on its way there", async () => {
    const { replica, field } = await desk(NEVER);
    field.set("new");
    const flushed = field.flush();
    field.set("old");
    await flushed;
    await field.flush();
    expect(field.current).toMatchObject({ value: "old", dirty: false });
    expect(await stored(replica)).toBe("old");
  });

  it("is no write where it went back to what is there", async () => {
    const { replica, field } = await desk(NEVER);
    field.set("new");
    field.set("old");
    expect(field.current.dirty).toBe(false);
    expect(await field.flush()).toBe(true);
    expect(await written(replica)).toEqual(["old"]);
  });

  it("is written when the last listener leaves, and can be listened to again", async () => {
    const { replica } = await scripted();
    await replica.put("t", "a", { title: "old" });
    const field = fieldOf(replica, "t", "a", "title", NEVER);
    const stop = field.subscribe(() => {});
    field.set("typed");
    stop();
    await until("written", async () => (await stored(replica)) === "typed");
    await replica.patch("t", "a", { title: "since" });
    const heard: unknown[] = [];
    const again = field.subscribe(({ value }) => heard.push(value));
    await until("heard", () => heard.includes("since"));
    again();
  });

  it("is written without a listener", async () => {
    const { replica } = await scripted();
    await replica.put("t", "a", { title: "old" });
    const field = fieldOf(replica, "t", "a", "title", QUICK);
    field.set("typed");
    await until("written", async () => (await stored(replica)) === "typed");
    await replica.patch("t", "a", { title: "since" });
    field.set("typed");
    expect(await field.close()).toBe(true);
    expect(await stored(replica)).toBe("typed");
  });

  it("may be any JSON, of which nothing is frozen", async () => {
    const { replica, field } = await desk();
    const labels = ["a"];
    field.set(labels);
    labels.push("b");
    await field.flush();
    expect(await stored(replica)).toEqual(["a", "b"]);
  });
});

describe("what others write", () => {
  it("is told where it was there unread when something was typed", async () => {
    const { replica } = await scripted();
    await replica.put("t", "a", { title: "a whole text" });
    const field = fieldOf(replica, "t", "a", "title", NEVER);
    fields.push(field as Field<unknown>);
    const told: unknown[] = [];
    field.subscribe(({ value, dirty, theirs }) => told.push([value, dirty, theirs]));
    field.set("x");
    await field.flush();
    // Before it was written over, and still.
    expect(told).toContainEqual(["x", true, "a whole text"]);
    expect(field.current).toMatchObject({ value: "x", dirty: false, theirs: "a whole text" });
    field.set("a whole text");
    await field.flush();
    expect(field.current).toMatchObject({ value: "a whole text", theirs: undefined });
    expect(await stored(replica)).toBe("a whole text");
  });

  it("is no news where it is what was typed before it was read", async () => {
    const { replica } = await scripted();
    await replica.put("t", "a", { title: "same" });
    const field = fieldOf(replica, "t", "a", "title", NEVER);
    fields.push(field as Field<unknown>);
    field.subscribe(() => {});
    field.set("same");
    await field.flush();
    expect(field.current).toMatchObject({ value: "same", dirty: false, theirs: undefined });
    expect(await written(replica)).toEqual(["same"]);
  });

  it("shows at once where nothing is typed", async () => {
    const it = await desk();
    await others(it, "theirs");
    await until("shown", () => it.field.current.value === "theirs");
    expect(it.field.current).toMatchObject({ dirty: false, theirs: undefined });
  });

  it("stands beside what is typed, which is written over it", async () => {
    const it = await desk(NEVER);
    it.field.set("mine");
    await others(it, "theirs");
    await until("told", () => it.field.current.theirs === "theirs");
    expect(it.field.current).toMatchObject({ value: "mine", dirty: true });
    await it.field.flush();
    expect(it.field.current).toMatchObject({ value: "mine", dirty: false, theirs: "theirs" });
    expect(await stored(it.replica)).toBe("mine");
    it.field.set("mine, more"); // after it was left, which begins anew
    expect(it.field.current.theirs).toBeUndefined();
  });

  it("is told on while one types on, until it is taken or seen", async () => {
    const it = await desk({ pause: 1000 });
    it.field.set("m");
    await others(it, "theirs");
    await until("told", () => it.field.current.theirs === "theirs");
    await until("written", () => !it.field.current.dirty);
    it.field.set("mine");
    expect(it.field.current.theirs).toBe("theirs");
    it.field.dismiss();
    expect(it.field.current).toMatchObject({ value: "mine", theirs: undefined });
    await others(it, "theirs again");
    await until("told again", () => it.field.current.theirs === "theirs again");
    it.field.set("theirs again");
    expect(it.field.current).toMatchObject({ value: "theirs again", theirs: undefined });
  });

  it("and take back is told no more", async () => {
    const it = await desk(NEVER);
    it.field.set("mine");
    await others(it, "theirs");
    await until("told", () => it.field.current.theirs === "theirs");
    await others(it, "old");
    await until("taken back", () => it.field.current.theirs === undefined);
    expect(it.field.current.value).toBe("mine");
  });

  it("stays where what was typed was taken back", async () => {
    const it = await desk(NEVER);
    it.field.set("mine");
    await others(it, "theirs");
    await until("told", () => it.field.current.theirs === "theirs");
    it.field.set("old");
    expect(it.field.current).toMatchObject({ value: "old", theirs: "theirs" }); // nothing jumps while one types
    await it.field.flush();
    expect(it.field.current).toMatchObject({ value: "theirs", dirty: false, theirs: undefined });
    expect(await stored(it.replica)).toBe("theirs");
  });

  it("to other fields is no news", async () => {
    const { replica, states } = await desk();
    const before = states.length;
    await replica.patch("t", "a", { n: 2 });
    await replica.patch("t", "a", { title: "new" });
    await until("read", () => states.at(-1)?.value === "new");
    expect(states.length).toBe(before + 1);
  });
});

describe("what cannot be written", () => {
  it("is kept, with what is wrong with it, until it can", async () => {
    const { replica, field } = await desk(NEVER);
    field.set(Number.NaN);
    expect(await field.flush()).toBe(false);
    expect(field.current.error).toBeInstanceOf(InvalidWrite);
    expect(field.current).toMatchObject({ value: Number.NaN, dirty: true, error: { field: "title" } });
    field.set("a text");
    expect(field.current.error).toBeNull();
    expect(await field.flush()).toBe(true);
    expect(await stored(replica)).toBe("a text");
  });

  it("because the record was deleted is kept in it, and comes back with it", async () => {
    const { replica, field } = await desk(NEVER);
    field.set("typed");
    await replica.delete("t", "a");
    await until("told", () => field.current.error !== null);
    expect(field.current.error).toBeInstanceOf(NoSuchRecord);
    expect(field.current).toMatchObject({ value: "typed", dirty: true });
    expect(await field.flush()).toBe(true);
    expect(field.current).toMatchObject({ value: "typed", dirty: false, error: { code: "no_such_record" } });
    expect([await stored(replica), await stored(replica, true)]).toEqual([undefined, "typed"]);
    await replica.undelete("t", "a");
    await until("there again", () => field.current.error === null);
    expect(await stored(replica)).toBe("typed");
  });

  it("because there is no such record makes none, and is written when it comes", async () => {
    const { replica, field } = await desk(NEVER, null);
    field.set("typed");
    expect(await field.flush()).toBe(false);
    expect(field.current).toMatchObject({ value: "typed", dirty: true, error: { code: "no_such_record" } });
    expect(await replica.get("t", "a", { deleted: true })).toBeNull();
    await replica.put("t", "a", { title: "theirs" });
    await until("written", () => !field.current.dirty);
    expect(field.current).toMatchObject({ value: "typed", theirs: "theirs", error: null });
    expect(await stored(replica)).toBe("typed");
  });

  it("because the replica was closed is kept and said, also to who left", async () => {
    const lost = vi.fn();
    const { replica, field } = await desk({ ...NEVER, onUnwritten: lost });
    field.set("typed");
    await replica.close();
    expect(await field.flush()).toBe(false);
    expect(field.current.error).toBeInstanceOf(StoreFailed);
    expect(field.current).toMatchObject({ value: "typed", dirty: true });
    expect(lost).not.toHaveBeenCalled();
    expect(await field.close()).toBe(false);
    expect(lost.mock.calls).toEqual([["typed", field.current.error]]);
  });

  it("is said where nobody listens, once", async () => {
    const lost = vi.fn();
    const { replica } = await scripted();
    const field = fieldOf(replica, "t", "none", "title", { ...QUICK, onUnwritten: lost });
    field.set("typed");
    await until("told", () => lost.mock.calls.length > 0);
    expect(await field.close()).toBe(false);
    expect(lost.mock.calls).toEqual([["typed", expect.objectContaining({ code: "no_such_record" })]]);
    field.set("more");
    expect(await field.close()).toBe(false);
    expect(lost).toHaveBeenCalledTimes(2);
  });

  it("does not count what was written and could not be read again", async () => {
    const { replica } = await scripted();
    await replica.put("t", "a", { title: "old" });
    const view = replica.get("t", "a", { deleted: true });
    let wrote = false;
    const read = () => (wrote ? Promise.reject(new StoreFailed("gone")) : view.then((row) => row));
    const lost = vi.fn();
    const end = {
      name: "t.title",
      field: "title",
      view: { subscribe: () => () => {}, then: (...how: never[]) => read().then(...how) },
      write: async (title: unknown) => {
        await replica.patch("t", "a", { title: title as string });
        wrote = true;
      },
    };
    const field = new Field<unknown>(end as never, { ...NEVER, onUnwritten: lost });
    field.set("typed");
    expect(await field.flush()).toBe(true);
    expect(field.current).toMatchObject({ value: "typed", dirty: false, error: null });
    expect(await stored(replica)).toBe("typed");
    expect(lost).not.toHaveBeenCalled();
  });

  it("is said to the console by default, without what it was", async () => {
    const said = vi.spyOn(console, "error").mockImplementation(() => {});
    const { replica, field } = await desk(NEVER);
    field.set("a secret");
    await replica.close();
    await field.close();
    expect(said).toHaveBeenCalledOnce();
    expect(JSON.stringify(said.mock.calls)).toContain("t.title");
    expect(JSON.stringify(said.mock.calls)).not.toContain("secret");
    fields.length = 0;
  });

  it("harms no listener but the one that fails", async () => {
    const said = vi.spyOn(console, "error").mockImplementation(() => {});
    const { field, states } = await desk(NEVER);
    field.subscribe(() => {
      throw new Error("mine");
    });
    field.set("typed");
    expect(states.at(-1)?.value).toBe("typed");
    expect(said).toHaveBeenCalledTimes(2);
    await field.flush();
  });
});
