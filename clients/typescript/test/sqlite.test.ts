/** The stores in files of SQLite, in a Node that has it: what is tested is in test/sqlite/vitest.config.ts. */

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { nodeWithSqlite } from "./node-sqlite.js";

const HERE = fileURLToPath(new URL("..", import.meta.url));

it.each([
  ["a file of SQLite is as other stores are, has one owner, and outlives any death of its process", "files"],
  ["replicas in files of node:sqlite are as others are", "node-sqlite"],
  ["replicas in files of expo-sqlite are as others are", "expo-sqlite"],
])(
  "%s",
  async (_name, project) => {
    const {
      VITEST: _in,
      VITEST_WORKER_ID: _id,
      VITEST_POOL_ID: _pool,
      FORCE_COLOR: _color,
      ...env
    } = process.env;
    const vitest = ["node_modules/vitest/vitest.mjs", "run", "--config", "test/sqlite/vitest.config.ts"];
    const how = { cwd: HERE, env: { ...env, NO_COLOR: "1" }, maxBuffer: 1e8 };
    const run = promisify(execFile)(nodeWithSqlite(), [...vitest, "--project", project], how);
    const { stdout } = await run.catch(({ stdout, stderr }) => {
      throw new Error(`${stdout}\n${stderr}`);
    });
    expect(stdout).toMatch(/Tests +\d+ passed/);
  },
  900_000,
);
