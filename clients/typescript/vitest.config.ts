import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const TESTS = new URL("test/", import.meta.url);
/** A test with one of these starts something, or has a page. */
const NEEDS = /\/(server|socket-script|live-script|locks)\.js"|node:child_process|happy-dom|rxdb/;

const names = readdirSync(TESTS, { encoding: "utf8" }).filter((name) => /\.test\.tsx?$/.test(name));
const needing = names.filter((name) => NEEDS.test(readFileSync(new URL(name, TESTS), "utf8")));
const files = (some: string[]): string[] => some.map((name) => `test/${name}`);

const quick = files(names.filter((name) => !needing.includes(name)));

/** Solid and Svelte are other programs in a page than on a server. */
const PAGES = ["outbox.test.ts", "solid.test.ts", "svelte.test.ts"];
const svelte = {
  name: "svelte",
  async transform(code: string, id: string) {
    if (!id.endsWith(".svelte")) return;
    const { compile } = await import("svelte/compiler");
    return compile(code, { filename: id, generate: "client" }).js;
  },
};

/** What the mutation tool has too. */
export const shared = {
  setupFiles: ["test/setup.ts"],
  // For what hangs, not for what is slow: a busy machine needs minutes for what takes seconds.
  testTimeout: 180_000,
  hookTimeout: 240_000,
};

export default defineConfig({
  test: {
    // One of them mostly waits for a slow line.
    maxWorkers: 3,
    minWorkers: 1,
    projects: [
      {
        test: {
          ...shared,
          name: "needing",
          include: files(needing.filter((name) => !PAGES.includes(name))),
          pool: "forks",
        },
      },
      {
        plugins: [svelte],
        resolve: {
          conditions: ["browser", "module", "development"],
          alias: [
            {
              find: /^ws$/,
              replacement: fileURLToPath(new URL("node_modules/ws/wrapper.mjs", import.meta.url)),
            },
          ],
        },
        test: {
          ...shared,
          name: "pages",
          include: files(PAGES),
          pool: "forks",
          server: { deps: { inline: [/solid-js/, /svelte/] } },
        },
      },
      {
        // In one thread, where the client is loaded once and not once for each file.
        test: {
          ...shared,
          name: "quick",
          include: quick,
          isolate: false,
          pool: "threads",
          poolOptions: { threads: { singleThread: true } },
        },
      },
    ],
  },
});
