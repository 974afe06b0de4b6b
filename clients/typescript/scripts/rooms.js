/**
 * Fails when a file of src lies in no room, when an import goes up or across, when files import each other in a
 * circle, or when a file is longer than 400 lines. Imports of types count like all others.
 *
 * With an argument it looks into that folder instead of src.
 */

import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** From top to bottom. A room is a folder, or a file by its name. Rooms of one floor do not know each other. */
const FLOORS = [
  [
    "index",
    "indexes",
    "order",
    "partial",
    "queries",
    "search",
    "sets",
    "sign-out",
    "spaces",
    "verify",
    "react",
    "solid",
    "svelte",
    "tanstack",
    "testing",
    "vue",
  ],
  ["observe"],
  ["field", "history"],
  ["update"],
  ["replica"],
  ["options", "rxdb"],
  ["live"],
  ["sync"],
  ["batch", "query", "sqlite", "status"],
  ["store"],
  ["data"],
  ["errors", "error-codes", "timing"],
];
const LONGEST = 400;
/** Made by a program, or a list of names. */
const GENERATED = ["error-codes.ts"];

const ROOT = resolve(process.argv[2] ?? fileURLToPath(new URL("../src", import.meta.url)));
const FLOOR = new Map(FLOORS.flatMap((rooms, floor) => rooms.map((room) => [room, floor])));
const faults = [];

/** The files that a file imports, by their paths below ROOT. */
function imported(file, text) {
  const found = text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*"(\.[^"]+)\.js"/g);
  return Array.from(found, ([, path]) => `${relative(ROOT, join(ROOT, dirname(file), path))}.ts`);
}

function roomOf(file) {
  return file.includes("/") ? file.slice(0, file.indexOf("/")) : file.slice(0, file.lastIndexOf("."));
}

const files = new Map(
  readdirSync(ROOT, { recursive: true })
    .filter((name) => /\.tsx?$/.test(name))
    .sort()
    .map((name) => [name, readFileSync(join(ROOT, name), "utf8")]),
);
const graph = new Map(Array.from(files, ([file, text]) => [file, imported(file, text)]));

for (const [file, text] of files) {
  const lines = text.split("\n").length - 1;
  if (lines > LONGEST && !GENERATED.includes(file))
    faults.push(`${file}: ${lines} lines, at most ${LONGEST}`);
  if (!FLOOR.has(roomOf(file))) faults.push(`${file}: lies in no room`);
}

const arrows = new Set();
for (const [file, targets] of graph) {
  for (const target of targets) {
    const [from, to] = [roomOf(file), roomOf(target)];
    if (!files.has(target)) faults.push(`${file}: imports ${target}, which is not there`);
    else if (from !== to) {
      arrows.add(`${from} ${to}`);
      if (FLOOR.get(from) >= FLOOR.get(to)) faults.push(`${file}: imports ${target}, which is not below it`);
    }
  }
}

/** Follows the imports of a file; what is met again on the way is a circle. */
function follow(file, way, done) {
  if (way.includes(file)) faults.push(`a circle: ${[...way.slice(way.indexOf(file)), file].join(" > ")}`);
  if (way.includes(file) || done.has(file)) return;
  for (const target of graph.get(file) ?? []) follow(target, [...way, file], done);
  done.add(file);
}
const done = new Set();
for (const file of files.keys()) follow(file, [], done);

for (const fault of faults) console.log(fault);
if (faults.length > 0) process.exitCode = 1;
else console.log(`${FLOOR.size} rooms on ${FLOORS.length} floors, ${arrows.size} arrows, no circle`);
