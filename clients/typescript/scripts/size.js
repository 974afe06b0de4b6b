/**
 * Fails when what a page loads, bundled and compressed as an application would, is larger than promised: the core here, and
 * what each sub-path adds to it in the README's table.
 */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const LIMIT = 22_499;
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

/** Bytes of a bundle of the core together with `more`, another of the package's files, and of what is loaded on demand. */
async function measure(more = null) {
  const lines = ["index.js", more].map((file) => file && `export * from "./dist/${file}";`);
  const folder = fileURLToPath(new URL("..", import.meta.url));
  const { outputFiles, metafile } = await build({
    stdin: { contents: lines.join(""), resolveDir: folder },
    absWorkingDir: folder,
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
  const entry = Object.keys(metafile.outputs).find((name) => metafile.outputs[name].entryPoint === "<stdin>");
  const now = [...loaded(metafile.outputs, entry)];
  const sizes = outputFiles.map(({ path, contents }) => ({
    now: now.some((file) => path.endsWith(file)),
    size: gzipSync(contents, { level: 9 }).length,
  }));
  const sum = (wanted) =>
    sizes.filter((file) => file.now === wanted).reduce((all, { size }) => all + size, 0);
  return { size: sum(true), rest: sum(false) };
}

function fail(text) {
  console.log(text);
  process.exitCode = 1;
}

const { size: core, rest } = await measure();
console.log(`index: ${core} bytes gzipped (at most ${LIMIT}), and ${rest} on demand`);
if (core > LIMIT) process.exitCode = 1;

const rows = read("README.md").matchAll(/^\| `@syncd\/client(\/[\w-]+)` \| ([\d.]+) \|/gm);
const said = new Map(Array.from(rows, ([, path, kilobytes]) => [`.${path}`, Number(kilobytes)]));
for (const [path, files] of Object.entries(exports)) {
  // That for tests is in no page.
  if (path === "." || path === "./testing" || typeof files === "string") continue;
  const more = (await measure(files.default.slice("./dist/".length))).size - core;
  const promised = said.get(path);
  console.log(`${path.slice(2)}: ${more} bytes more`);
  if (promised === undefined) fail(`README.md does not say how large ${path} is.`);
  else if (more > promised * 1000 || more < (promised - SLACK) * 1000)
    fail(`README.md says ${promised} kB of ${path}, which has ${more} bytes.`);
}
