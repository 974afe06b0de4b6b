/**
 * Lints and checks the format of every file, by biome.json; with --write it formats them. Biome as WebAssembly, for
 * the reason that the client's scripts/style.js gives.
 */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Biome } from "@biomejs/js-api/nodejs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const WRITE = process.argv.includes("--write");
const FILES = [
  ...["src", "test", "scripts"].flatMap((folder) =>
    readdirSync(ROOT + folder, { recursive: true }).map((name) => `${folder}/${name}`),
  ),
  ...["vite.config.ts", "package.json", "biome.json", "tsconfig.json"],
].filter((name) => /\.(tsx?|js|json|css)$/.test(name));

const biome = new Biome();
const { projectKey } = biome.openProject(ROOT);
biome.applyConfiguration(projectKey, JSON.parse(readFileSync(`${ROOT}biome.json`, "utf8")));

for (const filePath of FILES) {
  const content = readFileSync(ROOT + filePath, "utf8");
  const { diagnostics } = biome.lintContent(projectKey, content, { filePath });
  for (const { category, location, message } of diagnostics) {
    const [start = 0] = location?.span ?? [];
    const line = content.slice(0, start).split("\n").length;
    console.log(`${filePath}:${line} ${category}: ${message.map((part) => part.content).join("")}`);
    process.exitCode = 1;
  }
  const formatted = biome.formatContent(projectKey, content, { filePath }).content;
  if (formatted === content) continue;
  if (WRITE) writeFileSync(ROOT + filePath, formatted);
  else {
    console.log(`${filePath} is not formatted: npm run fmt`);
    process.exitCode = 1;
  }
}
