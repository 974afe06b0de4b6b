import { defineConfig } from "vitest/config";
import { shared } from "../../vitest.config.js";

export default defineConfig({
  test: {
    ...shared,
    include: ["test/**/*.test.{ts,tsx}"],
    pool: "forks",
    runner: "./scripts/mutation/runner.js",
    // All mutants that a test reaches are tried within its time.
    testTimeout: 7_200_000,
    dangerouslyIgnoreUnhandledErrors: true,
    onConsoleLog: () => false,
  },
});
