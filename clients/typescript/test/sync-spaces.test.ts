/** Spaces that are joined and left, as a server that is a script says. */

import { describe, expect, it } from "vitest";
import { AT, fieldsOf, page, results, scripted, wire } from "./script.js";

describe("spaces", () => {
  it("are purged when they are left, and what was not sent is kept aside", async () => {
    const { replica, script } = await scripted();
    script.answers.push(
      page([wire("a", { n: [1, AT] }, { spaceId: "s" })], { spaces: { joined: ["s"], left: [] } }),
    );
    const report = await replica.sync();
    expect(report.joined).toEqual(["s"]);
    expect((await replica.spaces()).map(({ id }) => id)).toEqual(["s"]);
    const changeId = await replica.patch("t", "a", { n: 2 }, { space: "s" });
    const seen: object[] = [];
    replica.on((event) => seen.push(event));
    script.answers.push(page([], { spaces: { joined: [], left: ["s"] } }));
    await replica.pull();
    expect(await replica.get("t", "a", { space: "s" })).toBeNull();
    expect((await replica.spaces()).map(({ id }) => id)).toEqual([]);
    expect(await replica.keptAside()).toMatchObject([{ changeId, code: "space_left", space: "s" }]);
    expect((await replica.why("t", "a", { space: "s" })).state).toBe("set_aside");
    expect(seen).toContainEqual(
      expect.objectContaining({ records: [{ space: "s", table: "t", id: "a" }], source: "server" }),
    );
    await replica.move(changeId, null);
    await replica.sync();
    expect(script.pushes.at(-1)?.changes[0]).not.toHaveProperty("spaceId");
    expect(await fieldsOf(replica)).toEqual({ n: 2 });
  });

  it("that are left stop a batch over them whole", async () => {
    const { replica, script } = await scripted();
    await replica.batch((batch) => {
      batch.put("t", "a", { n: 1 }, { space: "s" });
      batch.put("t", "b", { n: 1 });
    });
    script.answers.push(page([], { spaces: { joined: [], left: ["s"] } }));
    await replica.pull();
    await replica.sync();
    expect(script.pushes).toEqual([]);
    expect((await replica.keptAside()).map(({ id }) => id)).toEqual(["a"]);
    expect((await replica.rejected()).map(({ id }) => id)).toEqual(["b"]);
  });

  it("take their conflicts along when they are left", async () => {
    const { replica, script } = await scripted();
    await replica.put("t", "a", { n: 1 }, { space: "s" });
    await replica.put("t", "b", { n: 1 });
    const conflict = {
      table: "t",
      field: "n",
      clientValue: 1,
      clientTimestamp: AT,
      serverValue: 2,
      serverTimestamp: AT,
    };
    script.answers.push((body) =>
      results(body, "superseded", {
        conflicts: [
          { id: "a", spaceId: "s", ...conflict },
          { id: "b", spaceId: "_personal:u", ...conflict },
        ],
        spaces: { joined: ["s"], left: [] },
      }),
    );
    await replica.sync();
    expect((await replica.conflicts()).map(({ space }) => space)).toEqual(["s", null]);
    script.answers.push(page([], { spaces: { joined: [], left: ["s"] } }));
    await replica.pull();
    expect((await replica.conflicts()).map(({ space }) => space)).toEqual([null]);
  });
});

describe("a space that was made again under its old name", () => {
  it("is left and joined at once, with what this device wrote to it since", async () => {
    const { replica, script } = await scripted();
    script.answers.push(
      page([wire("old", { n: [1, AT] }, { spaceId: "s" })], { spaces: { joined: ["s"], left: [] } }),
    );
    await replica.sync();
    await replica.patch("t", "mine", { n: 1 }, { space: "s", upsert: true });
    script.answers.push((body) =>
      results(body, "applied", {
        spaces: { joined: ["s"], left: ["s"] },
        serverChanges: [wire("new", { n: [2, AT] }, { spaceId: "s" })],
      }),
    );
    await replica.sync();
    const rows = await replica.query("t", [], { space: "s" });
    expect(rows.map(({ id }) => id)).toEqual(["mine", "new"]);
    expect((await replica.spaces()).map(({ id }) => id)).toEqual(["s"]);
    expect(await replica.keptAside()).toEqual([]);
  });
});
