/** Random changes, merged here and by the Python client. SEED repeats a run, ROUNDS makes it longer. */

import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { readChange } from "../src/data/change.js";
import { parseInstant, tick } from "../src/data/clock.js";
import { isDeleted, merge, overlay, type Registers } from "../src/data/merge.js";
import { dump, type Json, type JsonObject, parse } from "../src/data/values.js";

const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000_007);
const ROUNDS = Number(process.env.ROUNDS ?? 400);
const PYTHON = process.env.SYNCD_PYTHON ?? "python3";

let state = SEED || 1;
/** A whole number below `limit` (a linear congruential generator: the same run for the same seed). */
function random(limit: number): number {
  state = (state * 48_271) % 2_147_483_647;
  return state % limit;
}

function choose<T>(items: readonly T[]): T {
  return items[random(items.length)] as T;
}

const CLIENTS = ["a", "ab", "B", "\u00e9", "\ue000", "\uffff", "\u{10000}", "\u{1f600}", "a\u{10000}"];
const FIELDS = ["x", "y", "deletedAt", "__proto__", "constructor"];
const DAYS = [
  "2026-01-01",
  "2024-02-29",
  "2026-02-29",
  "1969-12-31",
  "9999-12-31",
  "0001-01-01",
  "0000-01-01",
  "2026-13-01",
];
const TIMES = ["10:00:00", "23:59:60", "24:00:00", "00:00:00", "10:60:00", "23:59:59"];
const ZONES = ["Z", "z", "+02:00", "-05:30", "+14:00", "-23:59", "+24:00", "", "+0100"];

/** Few instants, so that there are many ties. */
function at(): string {
  const fraction = choose(["", ".1", ".000001", ".0000019", ".999999", ".123"]);
  return `2026-01-01T10:00:0${random(4)}${fraction}${choose(["Z", "+00:00", "-00:00"])}`;
}

function value(depth = 0): Json {
  // No 0 and 1 beside false and true: to Python they are equal, and a write that repeats its stamp changes nothing.
  const plain = [null, true, false, 2, 7, -1.5, 1e300, 9007199254740993n, "", "\u{1f600}", "deletedAt", at()];
  if (depth > 1 || random(4) > 0) return choose(plain);
  return choose<Json>([[value(depth + 1)], { k: value(depth + 1), ["__proto__"]: 1 }, [], {}]);
}

function register(): JsonObject {
  const stamp = random(8) === 0 ? { updatedAt: at() } : { at: at() };
  const more = random(5) === 0 ? { clientId: choose(CLIENTS) } : {};
  return { value: value(), ...stamp, ...more, ...(random(6) === 0 ? { sent: at() } : {}) };
}

function change(): JsonObject {
  const op = choose(["insert", "update", "update", "delete"]);
  const common = { changeId: "c", table: "t", id: "r", op, clientId: choose(CLIENTS) };
  const fields = Object.fromEntries(FIELDS.filter(() => random(3) === 0).map((name) => [name, register()]));
  if (op === "delete") return { ...common, deletedAt: at(), ...(random(3) === 0 ? { fields } : {}) };
  if (op === "insert" && random(3) === 0) {
    const times = random(2) === 0 ? { createdAt: choose([at(), "never"]), updatedAt: choose([at(), 7]) } : {};
    return { ...common, fields, data: { x: value(), ...times } };
  }
  return { ...common, fields: { ...fields, x: register() } };
}

let python: ChildProcess;
let lines: AsyncIterator<string>;
beforeAll(() => {
  const script = fileURLToPath(new URL("merge_peer.py", import.meta.url));
  python = spawn(PYTHON, [script], { stdio: ["pipe", "pipe", "inherit"] });
  if (python.stdout === null) throw new Error("no pipe");
  lines = createInterface({ input: python.stdout })[Symbol.asyncIterator]();
});
afterAll(() => {
  python.kill();
});

async function ask(what: string, ...args: Json[]): Promise<Json> {
  python.stdin?.write(`${dump({ what, args })}\n`);
  const { value: line, done } = await lines.next();
  if (done) throw new Error(`${PYTHON} has no syncd_client: set SYNCD_PYTHON`);
  return parse(line);
}

function plain(registers: Registers): JsonObject {
  const each = Array.from(registers, ([name, held]) => {
    const { value: kept, at: stamp, client, sent } = held;
    return [
      name,
      { value: kept, at: stamp, clientId: client, ...(sent === undefined ? {} : { sent }) },
    ] as const;
  });
  return Object.fromEntries(each);
}

it(`merges like the Python client (SEED=${SEED})`, async () => {
  for (let round = 0; round < ROUNDS; round++) {
    const [changes, pending] = [1 + random(8), random(3)].map((count) =>
      Array.from({ length: count }, change),
    );
    const held: Registers = new Map();
    for (const wire of changes ?? []) merge(held, readChange(wire).registers);
    const view = overlay(
      held,
      (pending ?? []).map((wire) => readChange(wire).registers),
    );
    const mine = { registers: plain(held), deleted: isDeleted(held), view: plain(view) };
    const theirs = await ask("merge", changes ?? [], pending ?? []);
    expect(canonical(mine), `SEED=${SEED} round ${round}`).toEqual(canonical(theirs));
  }
});

/** As entries in order: `toEqual` does not look at a member called `__proto__`. */
function canonical(value: Json): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(canonical);
  const members = Object.entries(value).map(([name, part]) => [name, canonical(part)] as const);
  return members.sort(([one], [other]) => (one < other ? -1 : 1));
}

it(`reads instants like the Python client (SEED=${SEED})`, async () => {
  for (let round = 0; round < ROUNDS; round++) {
    const text = `${choose(DAYS)}${choose(["T", "t", " ", ""])}${choose(TIMES)}${choose(["", ".5", ".1234567", "."])}${choose(ZONES)}`;
    let mine: string | null;
    try {
      mine = parseInstant(text);
    } catch {
      mine = null;
    }
    expect(mine, text).toBe(await ask("instant", text));
  }
});

it(`ticks like the Python client (SEED=${SEED})`, async () => {
  for (let round = 0; round < ROUNDS; round++) {
    const last = parseInstant(choose([at(), "9999-12-31T23:59:59.999999Z"]));
    const wall = Date.parse("2026-01-01T10:00:00Z") - 30_000 + random(70_000);
    expect(tick(last, wall)).toBe(await ask("clock", last, wall * 1000));
  }
});
