/** Processes that are killed: nothing that was done is lost, and nothing is there by half. */

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { Replica } from "../../src/index.js";
import { FILES, newFolder } from "../files.js";
import { executed } from "../node-sqlite.js";
import { DeviceProcess, deviceProgram } from "./processes.js";

let program: string;
beforeAll(async () => {
  program = await deviceProgram();
});

/** After each of the device's steps: its records, what waits, and how far it has read. */
const STATES: { [step: string]: object } = {
  opened: { records: {}, waits: [], cursor: "" },
  put: { records: { a: 1 }, waits: ["a"], cursor: "" },
  batch: { records: { a: 1, b: 1, c: 1 }, waits: ["a", "b", "c"], cursor: "" },
  synced: { records: { a: 1, b: 1, c: 1, x: 1, y: 1 }, waits: [], cursor: "c1" },
  patched: { records: { a: 2, b: 1, c: 1, x: 1, y: 1 }, waits: ["a"], cursor: "c1" },
  deleted: { records: { a: 2, c: 1, x: 1, y: 1 }, waits: ["a", "b"], cursor: "c1" },
};
const STEPS = Object.keys(STATES);

async function sound(path: string): Promise<void> {
  expect(await executed(path, "PRAGMA integrity_check")).toMatchObject([{ integrity_check: "ok" }]);
}

describe.each(FILES)("a process with a store of %s", (name, kind) => {
  async function found(folder: string): Promise<{ replica: Replica; state: object }> {
    const replica = await Replica.open("device", { app: "app", store: kind(folder) });
    const records = Object.fromEntries((await replica.query("t")).map(({ id, fields }) => [id, fields.n]));
    const waits = (await replica.pending()).map(({ id }) => id);
    const cursor = await replica["exchange"].parts.device.store.read(async ({ meta }) => meta.cursor);
    return { replica, state: { records, waits, cursor } };
  }

  it("that is killed in place of any statement of SQLite has all that it said, and at most the step that it was at", async () => {
    const ran = new DeviceProcess(program, "steps", name, newFolder());
    expect([await ran.ended(), ran.told]).toEqual([0, STEPS]);
    // Expo's statements are the same ones.
    const by = name === "node:sqlite" ? 1 : 3;
    let [kills, next] = [0, 1];
    const killed = async (): Promise<void> => {
      const last = next;
      next += by;
      const folder = newFolder();
      const device = new DeviceProcess(program, "steps", name, folder, String(last));
      const ended = await device.ended();
      if (ended === 0) return; // it has no statement of this number
      expect(ended).toBe("SIGKILL");
      kills += 1;
      const { replica, state } = await found(folder);
      const said = device.told.length;
      const possible = STEPS.slice(Math.max(0, said - 1), said + 1).map((step) => STATES[step]);
      expect(possible, `killed at ${last}, after ${device.told.at(-1)}`).toContainEqual(state);
      // It goes on as if nothing had been.
      await replica.put("t", "after", { n: 3 });
      expect((await replica.get("t", "after"))?.fields.n).toBe(3);
      await replica.close();
      await sound(join(folder, "device"));
      return killed();
    };
    await Promise.all([killed(), killed(), killed()]);
    expect(kills).toBeGreaterThan(30 / by);
  });

  it("that is killed from outside at any time has each batch that it said, and each whole", async () => {
    const folder = newFolder();
    mkdirSync(folder, { recursive: true });
    const said: string[] = [];
    for (let round = 0; round < 4; round++) {
      const device = new DeviceProcess(program, "ledger", name, folder);
      await device.says(5 + 7 * round);
      expect(await device.kill()).toBe("SIGKILL");
      said.push(...device.told);
      const { replica } = await found(folder);
      const ids = (await replica.query("t")).map(({ id }) => id);
      expect(ids).toEqual(expect.arrayContaining(said.flatMap((n) => [`${n}a`, `${n}b`, `${n}c`])));
      expect(ids.length % 3).toBe(0);
      expect(ids.length / 3 - said.length).toBeLessThanOrEqual(round + 1);
      expect((await replica.pending()).map(({ id }) => id).sort()).toEqual([...ids].sort());
      await replica.close();
      await sound(join(folder, "device"));
    }
  });

  it("is the only one with its file, which is free at once when it is killed", async () => {
    const folder = newFolder();
    const device = new DeviceProcess(program, "holds", name, folder);
    await device.says(1);
    const asked = Replica.open("device", { app: "app", store: kind(folder, { patience: 100 }) });
    await expect(asked).rejects.toMatchObject({
      code: "store_failed",
      message: expect.stringMatching(/device is open in another process, or in another replica/),
    });
    await expect(kind(folder, { patience: 0 }).destroy("device")).rejects.toMatchObject({
      code: "store_failed",
    });
    await device.kill();
    const { replica, state } = await found(folder);
    expect(state).toMatchObject({ records: { held: 1 }, waits: ["held"] });
    await replica.close();
  });

  it("waits for the one before it to end, as far as it has patience", async () => {
    const folder = newFolder();
    const device = new DeviceProcess(program, "holds", name, folder);
    await device.says(1);
    const asked = Replica.open("device", { app: "app", store: kind(folder, { patience: 60_000 }) });
    device.end();
    expect(await device.ended()).toBe(0);
    const replica = await asked;
    expect((await replica.get("t", "held"))?.fields.n).toBe(1);
    await replica.close();
  });
});
