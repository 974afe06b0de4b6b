/** @syncd/client/testing: servers of the Python program, for tests like these. */

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Clock, startServer, type TestServer } from "../src/testing.js";
import { open } from "./devices.js";

let server: TestServer;
beforeAll(async () => {
  server = await startServer({ max_changes: 100 });
});
afterAll(() => server.close());

const QUICK = { attempts: 2, first: 1 };

it("has users, spaces and a line that is cut and made whole again", async () => {
  await server.space("garden", { ada: "owner", bob: "reader" });
  const ada = await open({ url: server.url, token: await server.token("ada"), retry: QUICK });
  await ada.put("tasks", "beds", { title: "Dig" }, { space: "garden" });
  await server.network.cut();
  await expect(ada.sync()).rejects.toThrow();
  await server.network.mend();
  await ada.sync();
  const line = await server.newNetwork();
  await line.slow({ delay: 50 });
  const bob = await open({ url: line.url, token: await server.token("bob"), retry: QUICK });
  await bob.sync();
  expect((await bob.get("tasks", "beds", { space: "garden" }))?.fields.title).toBe("Dig");
});

it("starts again where it was, with what was acknowledged", async () => {
  const ada = await open({ url: server.url, token: await server.token("eve"), retry: QUICK });
  await ada.put("tasks", "milk", { title: "Buy milk" });
  await ada.sync();
  await server.kill();
  await expect(ada.sync()).rejects.toThrow();
  await server.start();
  await server.restart({ max_changes: 50 });
  const other = await open({ url: server.url, token: await server.token("eve"), retry: QUICK });
  await other.sync();
  expect((await other.get("tasks", "milk"))?.fields.title).toBe("Buy milk");
});

it("has a clock that is moved for all devices, or is wrong on one", async () => {
  const [clock, slow] = [new Clock(), new Clock(-3_600_000)];
  const [url, token] = [server.url, await server.token("clocks")];
  const opened = (wall: () => number) => open({ url, token, wall, retry: QUICK });
  const [phone, laptop, late] = await Promise.all([clock, clock, slow].map(({ wall }) => opened(wall)));
  if (!phone || !laptop || !late) throw new Error("not opened");
  await phone.put("pages", "p1", { title: "first" });
  await late.put("pages", "p1", { title: "an hour late" });
  await laptop.put("pages", "p1", { title: "second" });
  const titles = async (): Promise<unknown[]> => {
    for (const one of [laptop, phone, late, laptop, phone]) await one.sync();
    const records = await Promise.all([phone, laptop, late].map((one) => one.get("pages", "p1")));
    return [...new Set(records.map((record) => record?.fields.title))];
  };
  expect(await titles()).toEqual(["second"]);
  clock.forward(30_000);
  await phone.put("pages", "p1", { title: "after" });
  clock.back(15_000);
  await laptop.put("pages", "p1", { title: "between" });
  expect(await titles()).toEqual(["after"]);
});

it("a clock never stands still, and can be stopped, set and let run", () => {
  const clock = new Clock();
  const readings = Array.from({ length: 100 }, clock.wall);
  expect(new Set(readings).size).toBe(100);
  expect(readings).toEqual([...readings].sort((a, b) => a - b));
  clock.stop();
  const stopped = clock.wall();
  expect(clock.wall() - stopped).toBe(1);
  clock.set(new Date("2030-01-01T00:00:00Z"));
  expect(clock.wall()).toBe(Date.parse("2030-01-01T00:00:00Z"));
  clock.forward(1000);
  expect(clock.wall()).toBe(Date.parse("2030-01-01T00:00:01Z"));
  clock.run();
  expect(clock.wall() - Date.parse("2030-01-01T00:00:01Z")).toBeLessThan(60_000);
});

it("begins with nothing, and says what cannot be", async () => {
  const second = await startServer();
  expect(second.url).not.toBe(server.url);
  const ada = await open({ url: second.url, token: await second.token("eve"), retry: QUICK });
  await ada.sync();
  expect(await ada.get("tasks", "milk")).toBeNull();
  await expect(second.space("garden", { ada: "writer" })).rejects.toThrow("has an owner");
  await expect(startServer({ max_chnages: 1 })).rejects.toThrow("no setting called max_chnages");
  const expired = await second.token("eve", { ttl: -60 });
  const answer = await fetch(`${second.url}/spaces`, { headers: { Authorization: `Bearer ${expired}` } });
  expect(answer.status).toBe(401);
  await second.close();
});

it("keeps no process from its end, and says which Python lacks it", () => {
  const source = fileURLToPath(new URL("../dist/testing.js", import.meta.url));
  const program = `import { startServer } from ${JSON.stringify(source)}; await startServer(); console.log("on");`;
  const run = (env: object): ReturnType<typeof spawnSync> =>
    spawnSync(process.execPath, ["--input-type=module", "-e", program], {
      env: { ...process.env, ...env },
      encoding: "utf8",
      timeout: 120_000,
    });
  expect(run({})).toMatchObject({ status: 0, stdout: "on\n" });
  expect(run({ SYNCD_PYTHON: "/nowhere/python" }).stderr).toContain("Set SYNCD_PYTHON");
});
