/** Run by tests/system/sync/test_bad_line.py, which has the server and the line. */

import { defineConfig } from "vitest/config";

export default defineConfig({
  test: { include: ["test/line/*.line.ts"], setupFiles: ["test/setup.ts"], testTimeout: 300_000 },
});
