/** The names and roles of spaces on the device, and what a reader is told at once. */

import { describe, expect, it } from "vitest";
import { type Json, type JsonObject, NotAllowed, type Replica } from "../src/index.js";
import { spacesOf } from "../src/observe.js";
import { until } from "./devices.js";
import { AT, page, problem, results, type Script, scripted, wire } from "./script.js";

type Told = readonly [id: string, name: string, role: string];

/** What a page says of spaces. */
function told(spaces: readonly Told[], rolesUntil: string, more: JsonObject = {}): JsonObject {
  const roles = spaces.map(([id, name, role]) => ({ id, name, role }));
  return { joined: [], left: [], roles, rolesUntil, ...more } as JsonObject;
}

const READING = { id: "r", name: "Reading", role: "reader" };
const WRITING = { id: "w", name: "Writing", role: "writer" };
const UNKNOWN = { id: "x", name: null, role: null };

async function inSpace(replica: Replica, id: string, space: string): Promise<object | undefined> {
  return (await replica.get("t", id, { space }))?.fields;
}

/** A replica in a space that its user may read, in one that they may write, and in one of which nothing was told. */
async function member(): Promise<{ replica: Replica; script: Script }> {
  const { replica, script } = await scripted();
  const of: Told[] = [
    ["r", "Reading", "reader"],
    ["w", "Writing", "writer"],
  ];
  const spaces = told(of, "1.1", { joined: ["_personal:u", "r", "w", "x"] });
  script.answers.push(page([wire("a", { n: [1, AT] }, { spaceId: "r" })], { spaces }));
  await replica.sync();
  return { replica, script };
}

describe("names and roles", () => {
  it("are there without the server, and asked for from where they were told", async () => {
    const { replica, script } = await member();
    expect(await replica.spaces()).toEqual([READING, WRITING, UNKNOWN]);
    script.answers.push(page([], { spaces: told([["r", "Harbour", "owner"]], "2.1") }));
    await replica.pull();
    expect((await replica.spaces())[0]).toEqual({ id: "r", name: "Harbour", role: "owner" });
    await replica.pull();
    const asked = script.asked.map(({ url }) => url.searchParams.get("roles"));
    expect(asked).toEqual(["", "1.1", "2.1"]);
  });

  it("go with a space that is left, and come with one that is joined again", async () => {
    const { replica, script } = await member();
    script.answers.push(page([], { spaces: { joined: [], left: ["r"] } }));
    await replica.pull();
    expect((await replica.spaces()).map(({ id }) => id)).toEqual(["w", "x"]);
    await replica.put("t", "b", { n: 1 }, { space: "r" });
    const again = told([["r", "Reading", "writer"]], "2.1", { joined: ["r"], left: ["r"] });
    script.answers.push(page([], { spaces: again }));
    await replica.pull();
    expect((await replica.spaces())[0]).toEqual({ ...READING, role: "writer" });
  });

  it("of a space that cannot be read yet are there when it is named", async () => {
    const { replica, script } = await member();
    const both: Told[] = [
      ["bad", "Bad", "reader"],
      ["r", "Reading", "reader"],
    ];
    const events: unknown[] = [];
    replica.on((event) => event.kind === "spaces" && events.push(event));
    script.answers.push(page([], { spaces: told(both, "2.1", { unreadable: ["bad"] }) }));
    await replica.pull();
    expect(await replica.spaces()).toEqual([READING, WRITING, UNKNOWN]);
    expect(events).toEqual([]); // nothing that is listed is otherwise than it was
    script.answers.push(page(), page([], { spaces: { joined: ["bad"], left: [] } }));
    await replica.pull();
    await replica.pull();
    expect((await replica.spaces())[0]).toEqual({ id: "bad", name: "Bad", role: "reader" });
    await expect(replica.put("t", "b", { n: 1 }, { space: "bad" })).rejects.toBeInstanceOf(NotAllowed);
  });

  it("stay where a page names the space again", async () => {
    const { replica, script } = await member();
    script.answers.push(page([], { spaces: { joined: ["r"], left: [] } }));
    await replica.pull();
    expect((await replica.spaces())[0]).toEqual(READING);
  });

  it("of a space that no page has named are not kept", async () => {
    const { replica, script } = await member();
    script.answers.push(page([], { spaces: told([["elsewhere", "E", "reader"]], "2.1") }));
    await replica.pull();
    expect(await replica.spaces()).toEqual([READING, WRITING, UNKNOWN]);
  });

  it("are told again to a replica that begins again", async () => {
    const { replica, script } = await member();
    const spaces = told([["w", "Writing", "reader"]], "5.1", { joined: ["w"] });
    script.answers.push(problem(410, "cursor_lost"), page([], { spaces }));
    await replica.pull();
    expect(script.asked.at(-1)?.url.searchParams.get("roles")).toBe("");
    expect(await replica.spaces()).toEqual([{ ...WRITING, role: "reader" }]);
  });

  it.each<Json>([[{ id: 1, name: "n", role: "reader" }], 1, [1]])(
    "that cannot be read apply nothing: %j",
    async (roles) => {
      const { replica, script } = await member();
      const spaces = { joined: ["z"], left: [], roles, rolesUntil: "9.1" };
      script.answers.push(page([], { spaces, syncedUntil: "c9" }));
      await expect(replica.pull()).rejects.toMatchObject({ code: "bad_reply" });
      script.answers.push(page([], { conflicts: [1] }));
      await expect(replica.pull()).rejects.toMatchObject({ code: "bad_reply" });
      expect(await replica.spaces()).toEqual([READING, WRITING, UNKNOWN]);
    },
  );

  it("are observed, and an event of their own", async () => {
    const { replica, script } = await member();
    const seen: unknown[] = [];
    const events: unknown[] = [];
    const stop = spacesOf(replica).subscribe((spaces) => seen.push(spaces.map(({ role }) => role)));
    replica.on((event) => event.kind === "spaces" && events.push(event));
    await until("first", () => seen.length === 1);
    script.answers.push(page([], { spaces: told([["r", "Reading", "owner"]], "2.1") }));
    await replica.pull();
    await until("second", () => seen.length === 2);
    script.answers.push(page([], { spaces: { joined: ["_personal:u", "y"], left: ["r"] } }));
    await replica.pull();
    await until("third", () => seen.length === 3);
    stop();
    expect(seen).toEqual([
      ["reader", "writer", null],
      ["owner", "writer", null],
      ["writer", null, null],
    ]);
    expect(events).toEqual([
      { kind: "spaces", joined: [], left: [], role: [{ ...READING, role: "owner" }] },
      { kind: "spaces", joined: ["y"], left: ["r"], role: [] },
    ]);
  });
});

describe("a reader's write", () => {
  it.each<[string, (replica: Replica) => Promise<unknown>]>([
    ["put", (replica) => replica.put("t", "b", { n: 2 }, { space: "r" })],
    ["patch", (replica) => replica.patch("t", "a", { n: 2 }, { space: "r" })],
    ["delete", (replica) => replica.delete("t", "a", { space: "r" })],
    ["undelete", (replica) => replica.undelete("t", "a", { space: "r", upsert: true })],
    [
      "batch",
      (replica) =>
        replica.batch((batch) => {
          batch.put("t", "b", { n: 1 }, { space: "w" });
          batch.put("t", "b", { n: 1 }, { space: "r" });
        }),
    ],
  ])("is refused at once: %s", async (_, write) => {
    const { replica } = await member();
    const error = await write(replica).catch((why: unknown) => why);
    expect(error).toBeInstanceOf(NotAllowed);
    expect(error).toMatchObject({ code: "not_a_writer" });
    expect(await replica.pending()).toEqual([]);
    expect(await replica.get("t", "b", { space: "w" })).toBeNull();
    expect(await inSpace(replica, "a", "r")).toEqual({ n: 1 });
  });

  it("is as ever where the role allows it or is not known", async () => {
    const { replica } = await member();
    for (const space of ["w", "x", null]) await replica.put("t", "b", { n: 1 }, { space });
    expect(await replica.pending()).toHaveLength(3);
  });

  it("that waited when the role fell is the server's to refuse, and stays", async () => {
    const { replica, script } = await member();
    const changeId = await replica.put("t", "b", { n: 1 }, { space: "w" });
    script.answers.push(page([], { spaces: told([["w", "Writing", "reader"]], "2.1") }));
    await replica.pull();
    expect(await replica.pending()).toMatchObject([{ changeId }]);
    await expect(replica.put("t", "c", { n: 1 }, { space: "w" })).rejects.toBeInstanceOf(NotAllowed);
    script.answers.push((body) => results(body, "rejected"));
    expect((await replica.push()).rejected).toEqual([changeId]);
    expect(await inSpace(replica, "b", "w")).toEqual({ n: 1 });
    script.answers.push(page([], { spaces: told([["w", "Writing", "writer"]], "3.1") }));
    await replica.pull();
    await replica.requeue(changeId);
    await replica.put("t", "c", { n: 1 }, { space: "w" });
    expect(await replica.pending()).toHaveLength(2);
  });
});
