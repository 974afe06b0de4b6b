/** The rooms of the client: what `npm run check` says of its imports, and of such as should not be. */

import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, it } from "vitest";

const SRC = fileURLToPath(new URL("../src", import.meta.url));
const SCRIPT = fileURLToPath(new URL("../scripts/rooms.js", import.meta.url));

let copy: string;
beforeEach(() => {
  copy = mkdtempSync(join(tmpdir(), "syncd-rooms-"));
  cpSync(SRC, copy, { recursive: true });
});
afterEach(() => rmSync(copy, { recursive: true }));

function check(): { ok: boolean; said: string } {
  const { status, stdout } = spawnSync(process.execPath, [SCRIPT, copy], { encoding: "utf8" });
  return { ok: status === 0, said: stdout };
}

/** Adds a line to a file of the copy, which is made where it is missing. */
function add(file: string, line: string): void {
  writeFileSync(join(copy, file), `${line}\n`, { flag: "a" });
}

it("has no import that goes up or across, and no circle", () => {
  expect(check()).toMatchObject({ ok: true, said: expect.stringContaining("no circle") });
});

it.each([
  [
    "store/outbox.ts",
    'import type { Page } from "../sync/reply.js";',
    "imports sync/reply.ts, which is not below it",
  ],
  ["query.ts", 'import { Batch } from "./batch.js";', "imports batch.ts, which is not below it"],
  ["store/store.ts", 'import "./outbox.js";', "a circle: store/store.ts > store/outbox.ts > store/store.ts"],
  [
    "live/endpoint.ts",
    'const late = await import("../replica.js");',
    "imports replica.ts, which is not below it",
  ],
  ["data/merge.ts", 'export * from "../gone.js";', "imports gone.ts, which is not there"],
  ["attic.ts", "export const DUST = 1;", "attic.ts: lies in no room"],
  ["status.ts", "\n".repeat(400), "lines, at most 400"],
])("tells of what %s should not have: %s", (file, line, fault) => {
  add(file, line);
  const { ok, said } = check();
  expect(ok).toBe(false);
  expect(said).toContain(fault);
});

it("runs with every check", () => {
  const { scripts } = JSON.parse(readFileSync(join(SRC, "../package.json"), "utf8")) as {
    scripts: { check: string };
  };
  expect(scripts.check).toContain("node scripts/rooms.js");
});
