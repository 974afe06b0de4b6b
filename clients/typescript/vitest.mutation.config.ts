/**
 * For Stryker: the tests that need no server and no socket, or those of them whose names are in TESTS. Most files of `data`
 * are reached by all of them, and have tests of their own that take much less time.
 */

import { readdirSync, readFileSync } from "node:fs";
import { defineConfig } from "vitest/config";
import whole from "./vitest.config.js";

const NEEDS = /\/(server|socket-script|locks)\.js"|node:child_process|happy-dom|rxdb/;
const TESTS = new URL("test/", import.meta.url);

const asked = process.env.TESTS?.split(" ").map((name) => `${name}.test.ts`);
const quick = readdirSync(TESTS, { recursive: true, encoding: "utf8" }).filter(
  (name) =>
    name.endsWith(".test.ts") &&
    (asked?.includes(name) ?? true) &&
    !NEEDS.test(readFileSync(new URL(name, TESTS), "utf8")),
);

// Files are loaded once for all mutants: they are behind a switch.
export default defineConfig({
  test: { ...whole.test, include: quick.map((name) => `test/${name}`), isolate: false },
});
