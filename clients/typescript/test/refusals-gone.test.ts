/** A page whose application was deployed anew, where a push is refused whole: what reads which changes are at fault is gone. */

import { describe, expect, it, vi } from "vitest";
import { Refused } from "../src/index.js";
import { problem, results, scripted } from "./script.js";

vi.mock("../src/sync/refusals.js", () => {
  throw new Error("the chunk is gone");
});

describe("where it cannot be read which change is at fault", () => {
  it.each([400, 413, 422])(
    "a push of which one change is refused, with %i, is cut until that one is told",
    async (status) => {
      const { replica, script } = await scripted();
      for (const id of ["a", "b", "bad", "c", "d"]) await replica.put("t", id, { n: 1 });
      for (let n = 0; n < 12; n++)
        script.answers.push((body) => {
          const place = body?.changes.findIndex(({ id }) => id === "bad") ?? -1;
          return place < 0 ? results(body) : problem(status, "malformed", [`/changes/${place}/id`]);
        });
      const report = await replica.push();
      expect(await replica.pending()).toEqual([]);
      expect(await replica.rejected()).toMatchObject([{ id: "bad", code: "malformed" }]);
      expect(report).toMatchObject({ pushed: 4, rejected: [expect.any(String)] });
      expect((await replica.why("t", "bad")).state).toBe("rejected");
    },
  );

  it("a batch is refused whole, and what stands behind it is sent", async () => {
    const { replica, script } = await scripted();
    await replica.batch(async (batch) => {
      for (const id of ["a", "b", "c"]) batch.put("t", id, { n: 1 });
    });
    await replica.put("t", "d", { n: 1 });
    for (let n = 0; n < 6; n++)
      script.answers.push((body) =>
        body?.changes.some(({ id }) => id === "b") ? problem(413, "push_too_large") : results(body),
      );
    await replica.push();
    expect(await replica.pending()).toEqual([]);
    expect((await replica.rejected()).map(({ id }) => id)).toEqual(["a", "b", "c"]);
  });

  it("nothing is set aside where no change is at fault", async () => {
    const { replica, script } = await scripted();
    await replica.put("t", "a", { n: 1 });
    script.answers.push(problem(400, "malformed", ["/schemaVersion"]));
    await expect(replica.push()).rejects.toBeInstanceOf(Refused);
    expect(await replica.rejected()).toEqual([]);
  });
});
