/** Fails when what a page loads, bundled and compressed as an application would, is larger than promised. */

import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const LIMIT = 22_200;

/** The files that an entry brings with it at once: what is imported on demand is not among them. */
function loaded(outputs, entry, seen = new Set()) {
  seen.add(entry);
  for (const { path, kind } of outputs[entry].imports) {
    if (kind === "import-statement" && path in outputs && !seen.has(path)) loaded(outputs, path, seen);
  }
  return seen;
}

for (const name of ["index", "react"]) {
  const { outputFiles, metafile } = await build({
    entryPoints: [fileURLToPath(new URL(`../dist/${name}.js`, import.meta.url))],
    absWorkingDir: fileURLToPath(new URL("..", import.meta.url)),
    bundle: true,
    splitting: true,
    minify: true,
    metafile: true,
    format: "esm",
    target: "es2022",
    external: ["react"],
    outdir: "bundle",
    write: false,
  });
  const files = loaded(metafile.outputs, `bundle/${name}.js`);
  const sizes = outputFiles.map(({ path, contents }) => ({
    now: [...files].some((file) => path.endsWith(file)),
    size: gzipSync(contents, { level: 9 }).length,
  }));
  const size = sizes.filter(({ now }) => now).reduce((sum, file) => sum + file.size, 0);
  const rest = sizes.filter(({ now }) => !now).reduce((sum, file) => sum + file.size, 0);
  console.log(`${name}: ${size} bytes gzipped (at most ${LIMIT}), and ${rest} on demand`);
  if (size > LIMIT) process.exitCode = 1;
}
