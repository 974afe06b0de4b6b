/** Run by test/sqlite.test.ts, in a Node that has node:sqlite: the tests of files, and once more in files those of replicas. */

import { defineConfig } from "vitest/config";

/** What opens replicas by test/devices.ts, and needs no server, no page and no tabs. */
const AGAIN = [
  "answers",
  "deadlines",
  "field",
  "indexes",
  "late",
  "left-and-joined",
  "names",
  "partial-kept",
  "queries",
  "reading-writes",
  "replica",
  "scenarios",
  "search",
  "sync",
  "undo",
  "unknown-records",
  "wrong-clocks",
];
/** They step a clock of their own, which what comes from another thread does not follow. */
const STEPPED = ["comparing", "pace"];
const STORES: { [store: string]: string[] } = {
  "node:sqlite": [...AGAIN, ...STEPPED],
  "expo-sqlite": AGAIN,
};

const shared = {
  setupFiles: ["test/setup.ts", "test/sqlite/setup.ts"],
  testTimeout: 180_000,
  hookTimeout: 240_000,
  pool: "forks" as const,
};

export default defineConfig({
  test: {
    maxWorkers: 2,
    minWorkers: 1,
    projects: [
      { test: { ...shared, name: "files", include: ["test/rows.test.ts", "test/sqlite/*.test.ts"] } },
      ...Object.entries(STORES).map(([store, names]) => ({
        test: {
          ...shared,
          name: store.replace(":", "-"),
          include: names.map((name) => `test/${name}.test.ts`),
          env: { TEST_STORE: store },
          isolate: false,
          poolOptions: { forks: { singleFork: true } },
        },
      })),
    ],
  },
});
