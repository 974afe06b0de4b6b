/** `make mutation-typescript`: small faults in the client's data, store and sync code, and which tests notice them. */

export default {
  testRunner: "vitest",
  plugins: ["@stryker-mutator/vitest-runner", "./scripts/wording.js"],
  vitest: { configFile: "vitest.mutation.config.ts", related: false },
  // Without what holds locks, timers and lines: the tests of those need a server or a socket.
  mutate: [
    "src/{data,store,sync}/**/*.ts",
    "src/{batch,query}.ts",
    "!src/sync/{exchange,tabs,tokens,transport}.ts",
  ],
  ignorers: ["wording"],
  ignorePatterns: ["dist", "test/line", "test/outside", "test/soak"],
  // TypeScript 7 has no interface by which one could be rewritten.
  tsconfigFile: "none",
  // Where the vectors are found by the tests as they are from here: build/tests is a link to them.
  tempDirName: "../../build/stryker",
  coverageAnalysis: "perTest",
  // What runs once, when a file is loaded, is reached by every test: such a mutant takes as long as all of them.
  ignoreStatic: true,
  incremental: true,
  incrementalFile: "../../build/stryker-incremental.json",
  concurrency: 2,
  timeoutMS: 10_000,
  timeoutFactor: 3,
  dryRunTimeoutMinutes: 20,
  reporters: ["clear-text", "json"],
  clearTextReporter: { allowColor: false, logTests: false, reportTests: false },
  jsonReporter: { fileName: "../../build/stryker.json" },
};
