/** A page whose application was deployed anew: what is loaded on demand is gone from the server. */

import { describe, expect, it, vi } from "vitest";
import { NotAllowed } from "../src/index.js";
import { AT, LOST, page, problem, results, scripted, wire } from "./script.js";

vi.mock("../src/sync/unseen.js", () => {
  throw new Error("the chunk is gone");
});

describe("where what finds conflicts cannot be loaded", () => {
  it("a conflict that an answer tells of is kept", async () => {
    const { replica, script } = await scripted();
    await replica.put("t", "a", { n: 1 });
    script.answers.push((body) => ({ ...results(body, "superseded"), conflicts: [LOST] }));
    const { conflicts } = await replica.push();
    expect(await replica.pending()).toEqual([]);
    expect(await replica.conflicts()).toMatchObject([{ kind: "lost", mine: 1, theirs: 2, space: null }]);
    expect(conflicts).toEqual(await replica.conflicts());
  });

  it("the conflicts of a record that is erased are forgotten, and those of others kept", async () => {
    const { replica, script } = await scripted();
    const heard: string[] = [];
    replica.on((event) => event.kind === "conflict" && heard.push(event.conflict.id));
    const both = [LOST, { ...LOST, id: "b" }];
    await replica.put("t", "a", { n: 1 });
    script.answers.push((body) => ({ ...results(body, "superseded"), conflicts: both }));
    await replica.push();
    const erased = { n: { value: null, at: AT, erased: true } };
    script.answers.push(page([wire("a", {}, { fields: erased })]));
    await replica.pull();
    expect(await replica.conflicts()).toMatchObject([{ id: "b" }]);
    // An answer may tell of one that it erases.
    await replica.put("t", "a", { n: 1 });
    script.answers.push((body) => ({
      ...results(body, "superseded"),
      conflicts: both,
      serverChanges: [wire("a", {}, { fields: erased })],
    }));
    const { conflicts } = await replica.push();
    expect(conflicts).toMatchObject([{ id: "b" }]);
    expect(await replica.conflicts()).toMatchObject([{ id: "b" }, { id: "b" }]);
    expect(heard).toEqual(["a", "b", "b"]);
  });

  it("a sync ends, however many spaces there are, and asks again the next time", async () => {
    const { replica, script } = await scripted();
    const told = {
      joined: ["s"],
      left: [],
      roles: [{ id: "s", name: "S", role: "reader" }],
      rolesUntil: "1.1",
    };
    const answer = (): object => {
      const asks = script.asked.at(-1)?.url.searchParams.has("roles") ?? false;
      if (script.asked.length > 9) throw new Error("without end");
      return page([], asks ? { spaces: told, hasMore: true } : {});
    };
    for (let n = 0; n < 20; n++) script.answers.push(answer as never);
    await replica.sync();
    expect(script.asked.map(({ url }) => url.searchParams.get("roles"))).toEqual(["", null]);
    await replica.sync();
    expect(script.asked.at(2)?.url.searchParams.get("roles")).toBe("");
    expect(await replica.spaces()).toEqual([{ id: "s", name: null, role: null }]);
  });

  it("names and roles are kept while all is read again", async () => {
    const { replica, script } = await scripted();
    const space = { id: "s", name: "S", role: "reader" };
    const { store } = replica["exchange"].parts.device;
    await store.write(async (tx) => tx.put("spaces", space)); // as a page has kept it, before the chunk was gone
    script.answers.push(problem(410, "cursor_lost"), problem(403, "forbidden"));
    await expect(replica.pull()).rejects.toMatchObject({ code: "forbidden" });
    expect(await replica.spaces()).toEqual([]);
    await expect(replica.put("t", "a", { n: 1 }, { space: "s" })).rejects.toBeInstanceOf(NotAllowed);
    script.answers.push(page([], { spaces: { joined: ["s"], left: [] } }));
    await replica.pull();
    expect(await replica.spaces()).toEqual([space]);
  });
});
