/** Fails when the package, bundled and compressed as an application would, is larger than promised. */

import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const LIMIT = 20_000;

for (const entry of ["index.js", "react.js"]) {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL(`../dist/${entry}`, import.meta.url))],
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    external: ["react"],
    write: false,
  });
  const [{ contents }] = outputFiles;
  const size = gzipSync(contents, { level: 9 }).length;
  console.log(`${entry}: ${contents.length} bytes, ${size} gzipped (at most ${LIMIT})`);
  if (size > LIMIT) process.exitCode = 1;
}
