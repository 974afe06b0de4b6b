/**
 * Lints and checks the format of every file, by biome.json; with --write it formats them.
 *
 * Biome as WebAssembly, because its program comes as a package a platform, and a lock file that was written where
 * some of those cannot be had is of no use where they can.
 */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Biome } from "@biomejs/js-api/nodejs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const WRITE = process.argv.includes("--write");
const configuration = JSON.parse(readFileSync(`${ROOT}biome.json`, "utf8"));

/** What is meant for a page, as text. */
function plain(html) {
  const letters = { lt: "<", gt: ">", quot: '"', amp: "&" };
  return html.replace(/<[^>]*>/g, "").replace(/&(lt|gt|quot|amp);/g, (_, name) => letters[name]);
}

const biome = new Biome();
const { projectKey } = biome.openProject(ROOT);
biome.applyConfiguration(projectKey, configuration);

const folders = ["src", "test", "scripts"].flatMap((folder) =>
  readdirSync(`${ROOT}${folder}`, { recursive: true }).map((name) => `${folder}/${name}`),
);
const files = [
  ...folders,
  "vitest.config.ts",
  "package.json",
  "biome.json",
  "tsconfig.json",
  "tsconfig.build.json",
];

for (const filePath of files.filter((name) => /\.(tsx?|js|json)$/.test(name))) {
  const content = readFileSync(ROOT + filePath, "utf8");
  const { diagnostics } = biome.lintContent(projectKey, content, { filePath });
  const formatted = biome.formatContent(projectKey, content, { filePath }).content;
  if (diagnostics.length > 0) {
    console.log(
      plain(biome.printDiagnostics(diagnostics, { filePath, fileSource: content, verbose: false })),
    );
    process.exitCode = 1;
  }
  if (formatted === content) continue;
  if (WRITE) writeFileSync(ROOT + filePath, formatted);
  else {
    console.log(`${filePath} is not formatted: npm run fmt`);
    process.exitCode = 1;
  }
}
