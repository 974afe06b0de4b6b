/** @syncd/client/testing: servers of the Python program, for tests like these. */

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startServer, type TestServer } from "../src/testing.js";
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
