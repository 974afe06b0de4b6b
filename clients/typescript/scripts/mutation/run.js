/**
 * `make mutation-typescript`: small faults in the client's data, store and sync code, and which tests notice them.
 *
 *     node scripts/mutation/run.js [rooms or files…]
 *
 * Stryker's instrumenter makes the faults, all of them behind a switch, in a copy of the client; `runner.js` tries them.
 * TESTS: names of files of tests, in this order; else all that start nothing. A second run goes on: it tries what no test
 * has noticed, unless a source has changed.
 */

import { spawn } from "node:child_process";
import * as fs from "node:fs";
import { fileURLToPath } from "node:url";
import { Instrumenter } from "@stryker-mutator/instrumenter";
import { isDetail } from "./wording.js";

const CLIENT = fileURLToPath(new URL("../../", import.meta.url));
const ROOMS = ["data", "store", "sync"];
/** A test that needs one of these starts something. */
const NEEDS = /\/(server|socket-script|locks)\.js"|node:child_process|happy-dom|rxdb/;
/** For so many milliseconds a mutant may keep the process without a word. */
const SILENCE = 90_000;

const words = process.argv.slice(2);
const sources = ROOMS.flatMap((room) =>
  fs
    .readdirSync(`${CLIENT}src/${room}`)
    .filter(
      (name) =>
        words.length === 0 || words.some((word) => [room, name].includes(word) || name === `${word}.ts`),
    )
    .map((name) => `src/${room}/${name}`),
);
const BUILD = fileURLToPath(
  new URL(`../../../../build/mutation-typescript/${words.join("-") || "all"}/`, import.meta.url),
);
const COPY = `${BUILD}clients/typescript/`;
const NOTES = `${BUILD}notes.jsonl`;
const WANTED = `${BUILD}wanted.json`;
const MUTANTS = `${BUILD}mutants.json`;

const tests =
  process.env.TESTS?.split(" ").map((name) => `${name}.test.ts`) ??
  fs
    .readdirSync(`${CLIENT}test`)
    .filter((name) => name.endsWith(".test.ts") && !NEEDS.test(read(`${CLIENT}test/${name}`)));

function read(path) {
  return fs.readFileSync(path, "utf8");
}

function contents() {
  return sources.map((path) => ({ name: path, mutate: true, content: read(CLIENT + path) }));
}

/** Lays the client out where its tests find the vectors; the files that are mutated come last. */
async function prepare() {
  const held = fs.existsSync(MUTANTS) ? JSON.parse(read(MUTANTS)) : {};
  const goesOn = JSON.stringify(held.files) === JSON.stringify(contents());
  if (!goesOn) fs.rmSync(BUILD, { recursive: true, force: true });
  fs.mkdirSync(COPY, { recursive: true });
  const left = goesOn ? [] : ["src"];
  for (const part of [...left, "test", "scripts", "package.json", "vitest.config.ts", "tsconfig.json"])
    fs.cpSync(CLIENT + part, COPY + part, { recursive: true });
  if (goesOn) return held.mutants;
  fs.symlinkSync(`${CLIENT}node_modules`, `${COPY}node_modules`);
  fs.symlinkSync(fileURLToPath(new URL("../../../../tests", import.meta.url)), `${BUILD}tests`);
  const quiet = new Proxy({}, { get: () => () => false });
  const options = { plugins: null, excludedMutations: [], ignorers: [{ shouldIgnore: isDetail }] };
  const made = await new Instrumenter(quiet).instrument(contents(), options);
  for (const { name, content } of made.files) fs.writeFileSync(COPY + name, content);
  fs.writeFileSync(NOTES, "");
  fs.writeFileSync(MUTANTS, JSON.stringify({ files: contents(), mutants: made.mutants }));
  return made.mutants;
}

/** What `runner.js` has written down: [what, mutant, test, why]. */
function notes(what) {
  const lines = read(NOTES).split("\n").filter(Boolean);
  return lines.map((line) => JSON.parse(line)).filter((note) => !what || note[0] === what);
}

/** The tests of one file, with all mutants that are left. Its code, null where it was ended, and what it said. */
async function vitest(test) {
  const env = { ...process.env, MUTATION_NOTES: NOTES, MUTATION_WANTED: WANTED, NO_COLOR: "1" };
  const args = [
    "vitest",
    "run",
    "--config",
    "scripts/mutation/vitest.config.ts",
    "--root",
    ".",
    `test/${test}`,
  ];
  const child = spawn("npx", args, { cwd: COPY, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  const began = Date.now();
  let said = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (part) => {
      said = (said + part).slice(-3000);
    });
  const watch = setInterval(() => {
    const last = Math.max(began, fs.statSync(NOTES).mtimeMs);
    if (Date.now() - last > SILENCE) process.kill(-child.pid, "SIGKILL");
  }, 1000);
  const code = await new Promise((resolve) => child.on("exit", resolve));
  clearInterval(watch);
  return { code, said };
}

/** Runs one file of tests. A mutant that holds its process is noted as killed, and the others are tried again. */
async function run(test, mutants) {
  for (;;) {
    const killed = new Set(notes("kills").map(([, mutant]) => mutant));
    const left = mutants.filter(({ id, status }) => status !== "Ignored" && !killed.has(id));
    if (left.length === 0) return;
    fs.writeFileSync(WANTED, JSON.stringify(left.map(({ id }) => id)));
    const { code, said } = await vitest(test);
    if (code === 0) return;
    const [what, mutant, name] = notes().at(-1) ?? [];
    if (code !== null || what !== "tries") throw new Error(`${test}: ended with ${code}\n${said}`);
    fs.appendFileSync(NOTES, `${JSON.stringify(["kills", mutant, name, "it holds the process"])}\n`);
  }
}

function describe({ fileName, location: { start, end }, mutatorName, replacement }) {
  const lines = read(CLIENT + fileName)
    .split("\n")
    .slice(start.line, end.line + 1);
  const text = lines.join("\n");
  const original = text.slice(start.column, text.length - (lines.at(-1).length - end.column));
  return `${fileName}:${start.line + 1}:${start.column} ${mutatorName}\n  - ${original}\n  + ${replacement}`;
}

function report(mutants) {
  const killed = new Set(notes("kills").map(([, id]) => id));
  const reached = new Set(notes("tries").map(([, id]) => id));
  const fate = ({ id, status }) =>
    status === "Ignored" ? "ignored" : killed.has(id) ? "killed" : reached.has(id) ? "survived" : "unreached";
  for (const [, test, why] of notes("unfit")) console.log(`cannot be run twice: ${test}: ${why}`);
  for (const mutant of mutants) if (fate(mutant) === "survived") console.log(describe(mutant));
  console.log("| file | mutants | killed | survived | not reached | left out | killed of those reached |");
  console.log("|---|---|---|---|---|---|---|");
  for (const name of sources) {
    const all = mutants.filter(({ fileName }) => fileName === name).map(fate);
    const counts = ["killed", "survived", "unreached", "ignored"].map(
      (kind) => all.filter((one) => one === kind).length,
    );
    const share = Math.floor((100 * counts[0]) / Math.max(1, counts[0] + counts[1]));
    console.log(`| \`${name.slice(4)}\` | ${all.length} | ${counts.join(" | ")} | ${share} % |`);
  }
}

const mutants = await prepare();
for (const test of process.env.REPORT ? [] : tests) {
  await run(test, mutants);
  console.log(`${test}: ${notes("kills").length} of ${mutants.length} killed so far`);
}
report(mutants);
