import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.{ts,tsx}"],
    setupFiles: ["test/setup.ts"],
    // For what hangs, not for what is slow: a busy machine needs minutes for what takes seconds.
    testTimeout: 180_000,
    hookTimeout: 240_000,
    // One of them mostly waits for a slow line.
    maxWorkers: 3,
    minWorkers: 1,
    pool: "forks",
  },
});
