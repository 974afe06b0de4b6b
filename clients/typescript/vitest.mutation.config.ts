/** For Stryker: the tests that need no server and no socket, so that a mutant is tried in about a second. */

import { readdirSync, readFileSync } from "node:fs";
import { defineConfig } from "vitest/config";
import whole from "./vitest.config.js";

const NEEDS = /\/(server|socket-script|locks)\.js"|node:child_process|happy-dom|rxdb/;
const TESTS = new URL("test/", import.meta.url);

const quick = readdirSync(TESTS, { recursive: true, encoding: "utf8" }).filter(
  (name) => name.endsWith(".test.ts") && !NEEDS.test(readFileSync(new URL(name, TESTS), "utf8")),
);

export default defineConfig({ test: { ...whole.test, include: quick.map((name) => `test/${name}`) } });
