/**
 * Fails when what a page loads, bundled and compressed as an application would, is larger than promised: the core here, and
 * what each sub-path adds to it in the README's table.
 */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const LIMIT = 22_200;
/** What a sub-path may have less than the README says, in kB, before that is to be corrected. */
const SLACK = 0.3;

const { exports } = JSON.parse(read("package.json"));

function read(name) {
  return readFileSync(new URL(`../${name}`, import.meta.url), "utf8");
}

/** The files that an entry brings with it at once: what is imported on demand is not among them. */
function loaded(outputs, entry, seen = new Set()) {
  seen.add(entry);
  for (const { path, kind } of outputs[entry].imports) {
    if (kind === "import-statement" && path in outputs && !seen.has(path)) loaded(outputs, path, seen);
  }
  return seen;
}

function outputOf(outputs, path) {
  return Object.keys(outputs).find((name) => outputs[name].entryPoint === path);
}

/** Bytes of the core, of what `path` adds to it, and of what is loaded on demand. */
async function measure(path) {
  const entries = [...new Set(["dist/index.js", path])];
  const { outputFiles, metafile } = await build({
    entryPoints: entries,
    absWorkingDir: fileURLToPath(new URL("..", import.meta.url)),
    bundle: true,
    splitting: true,
    minify: true,
    metafile: true,
    format: "esm",
    target: "es2022",
    packages: "external",
    outdir: "bundle",
    write: false,
  });
  const { outputs } = metafile;
  const core = loaded(outputs, outputOf(outputs, "dist/index.js"));
  const mine = loaded(outputs, outputOf(outputs, path));
  const sum = (wanted) =>
    outputFiles
      .filter(({ path: file }) => wanted(Object.keys(outputs).find((name) => file.endsWith(name))))
      .reduce((size, { contents }) => size + gzipSync(contents, { level: 9 }).length, 0);
  return {
    core: sum((name) => core.has(name)),
    more: sum((name) => mine.has(name) && !core.has(name)),
    rest: sum((name) => !mine.has(name) && !core.has(name)),
  };
}

function fail(text) {
  console.log(text);
  process.exitCode = 1;
}

const { core, rest } = await measure("dist/index.js");
console.log(`index: ${core} bytes gzipped (at most ${LIMIT}), and ${rest} on demand`);
if (core > LIMIT) process.exitCode = 1;

const rows = read("README.md").matchAll(/^\| `@syncd\/client(\/[\w-]+)` \| ([\d.]+) \|/gm);
const said = new Map(Array.from(rows, ([, path, kilobytes]) => [`.${path}`, Number(kilobytes)]));
for (const [path, files] of Object.entries(exports)) {
  if (path === "." || typeof files === "string") continue;
  const { more } = await measure(files.default.slice(2));
  const promised = said.get(path);
  console.log(`${path.slice(2)}: ${more} bytes more`);
  if (promised === undefined) fail(`README.md does not say how large ${path} is.`);
  else if (more > promised * 1000 || more < (promised - SLACK) * 1000)
    fail(`README.md says ${promised} kB of ${path}, which has ${more} bytes.`);
}
