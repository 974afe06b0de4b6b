/** The package as others get it: packed, installed into a project outside, type-checked there, its README executed. */

import { execFile } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { nodeWithSqlite } from "./node-sqlite.js";
import { RealServer } from "./server.js";

const HERE = fileURLToPath(new URL("..", import.meta.url));
const TSC = join(HERE, "node_modules/typescript/bin/tsc");
const outside = mkdtempSync(join(tmpdir(), "syncd-outside-"));

function run(command: string, args: string[], cwd = outside, env: NodeJS.ProcessEnv = {}): Promise<string> {
  return promisify(execFile)(command, args, { cwd, env: { ...process.env, ...env } }).then(
    ({ stdout }) => stdout,
    (error: { stdout: string; stderr: string }) => {
      throw new Error(`${command} ${args.join(" ")}\n${error.stdout}\n${error.stderr}`);
    },
  );
}

function blocks(language: string, file = "README.md"): string {
  const text = readFileSync(join(HERE, file), "utf8");
  return Array.from(
    text.matchAll(new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, "gs")),
    ([, code]) => code,
  ).join("\n");
}

const DOCS = "../../docs/";
const FORMS = `${DOCS}guide/forms.md`;
const STORES = `${DOCS}guide/stores.md`;
const TANSTACK = `${DOCS}guide/tanstack-db.md`;
const OFFLINE = `${DOCS}guide/offline-ux.md`;
const PAGES = [
  `${DOCS}tutorial.md`,
  `${DOCS}guide/live-and-presence.md`,
  OFFLINE,
  FORMS,
  `${DOCS}guide/lists-and-sets.md`,
  `${DOCS}guide/queries.md`,
  `${DOCS}guide/search.md`,
  `${DOCS}guide/sharing.md`,
  STORES,
  TANSTACK,
  `${DOCS}guide/testing-your-app.md`,
  `${DOCS}guide/types-from-schemas.md`,
];

function nameOf(page: string): string {
  return page.replace(/.*\//, "").replace(".md", "");
}

const CONFIG = {
  strict: true,
  exactOptionalPropertyTypes: true,
  skipLibCheck: false,
  target: "ES2022",
  lib: ["ES2022", "DOM"],
  jsx: "react-jsx",
  types: ["node"],
};

beforeAll(async () => {
  await run("npm", ["pack", "--ignore-scripts", "--pack-destination", outside], HERE);
  const tarball = readdirSync(outside).find((name) => name.endsWith(".tgz")) ?? "";
  writeFileSync(join(outside, "package.json"), '{ "name": "outside", "private": true, "type": "module" }');
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", `./${tarball}`]);
  for (const scope of ["@types", "@tanstack"]) mkdirSync(join(outside, "node_modules", scope));
  const types = ["csstype", "undici-types", "@types/react", "@types/node"];
  for (const name of [
    "react",
    "rxdb",
    "rxjs",
    "fake-indexeddb",
    "@tanstack/db",
    "@tanstack/react-db",
    ...types,
  ]) {
    symlinkSync(join(HERE, "node_modules", name), join(outside, "node_modules", name));
  }
  await putExpo();
  writeFileSync(join(outside, "types.tsx"), readFileSync(join(HERE, "test/outside/types.tsx.txt")));
  writeFileSync(join(outside, "generated.ts"), readFileSync(join(HERE, "test/outside/generated.ts.txt")));
  writeFileSync(join(outside, "shop.ts"), readFileSync(join(HERE, "../../tests/client/types/shop.ts.txt")));
  writeFileSync(join(outside, "readme.ts"), blocks("ts"));
  writeFileSync(join(outside, "rxdb.ts"), blocks("ts", "RXDB.md"));
  for (const page of PAGES) writeFileSync(join(outside, `${nameOf(page)}.ts`), blocks("ts", page));
  writeFileSync(
    join(outside, "component.tsx"),
    `import type { Tables } from "./types.js";\n${blocks("tsx")}\nexport { Tasks, Title };`,
  );
  writeFileSync(join(outside, "form.tsx"), blocks("tsx", FORMS));
  writeFileSync(join(outside, "unsettled.tsx"), blocks("tsx", OFFLINE));
  writeFileSync(join(outside, "collection.tsx"), blocks("tsx", TANSTACK));
  writeFileSync(join(outside, "collections.ts"), readFileSync(join(HERE, "test/outside/collections.ts.txt")));
});

/** In the place of `expo-sqlite`, with the declarations that it has of what is used. */
const EXPO = `export type Bound = string | number | null | boolean | Uint8Array | ArrayBuffer;
export declare class SQLiteDatabase {
  getAllAsync<T>(source: string, params: Record<string, Bound> | Bound[]): Promise<T[]>;
  getAllAsync<T>(source: string, ...params: Bound[]): Promise<T[]>;
  runAsync(source: string, params: Record<string, Bound> | Bound[]): Promise<{ lastInsertRowId: number; changes: number }>;
  runAsync(source: string, ...params: Bound[]): Promise<{ lastInsertRowId: number; changes: number }>;
  closeAsync(): Promise<void>;
}
export declare function openDatabaseAsync(
  databaseName: string, options?: { enableChangeListener?: boolean; useNewConnection?: boolean }, directory?: string,
): Promise<SQLiteDatabase>;
export declare function deleteDatabaseAsync(databaseName: string, directory?: string): Promise<void>;
`;

async function putExpo(): Promise<void> {
  const folder = join(outside, "node_modules/expo-sqlite");
  const entryPoints = [join(HERE, "test/expo-sqlite.ts")];
  await build({
    entryPoints,
    bundle: true,
    platform: "node",
    format: "esm",
    outfile: join(folder, "index.js"),
  });
  writeFileSync(
    join(folder, "package.json"),
    '{ "name": "expo-sqlite", "type": "module", "main": "index.js" }',
  );
  writeFileSync(join(folder, "index.d.ts"), EXPO);
}

afterAll(() => rmSync(outside, { recursive: true, force: true }));

describe("the package", () => {
  it("has what it should, and nothing else", async () => {
    const installed = join(outside, "node_modules/@syncd/client");
    expect(readdirSync(installed).sort()).toEqual([
      "LICENSE",
      "README.md",
      "RXDB.md",
      "dist",
      "package.json",
      "src",
    ]);
    const { dependencies } = JSON.parse(readFileSync(join(installed, "package.json"), "utf8")) as {
      dependencies?: object;
    };
    expect(dependencies).toBeUndefined();
  });

  it("loads on demand what shares nothing with the core, which would be cut into pieces by it", () => {
    const verifyLive = readFileSync(
      join(outside, "node_modules/@syncd/client/dist/live/verify-live.js"),
      "utf8",
    );
    expect(verifyLive).toContain("verifyLive");
    expect(verifyLive).not.toMatch(/^import\b|\bimport\(/m);
  });

  it.each([
    ["NodeNext", "NodeNext"],
    ["ESNext", "Bundler"],
  ])(
    "type-checks from outside, declarations too (module %s, resolution %s)",
    async (module, moduleResolution) => {
      const compilerOptions = { ...CONFIG, module, moduleResolution, noEmit: true };
      const files = ["types.tsx", "generated.ts", "readme.ts", "component.tsx", "form.tsx", "unsettled.tsx"];
      writeFileSync(join(outside, "tsconfig.json"), JSON.stringify({ compilerOptions, files }));
      await run(process.execPath, [TSC, "-p", "."]);
    },
  );

  it("type-checks collections of TanStack DB, whose own declarations take no exact optional members", async () => {
    const compilerOptions = {
      ...CONFIG,
      exactOptionalPropertyTypes: false,
      module: "NodeNext",
      noEmit: true,
    };
    const files = ["collections.ts", "collection.tsx"];
    writeFileSync(join(outside, "tsconfig.json"), JSON.stringify({ compilerOptions, files }));
    await run(process.execPath, [TSC, "-p", "."]);
  });
});

describe("what is written", () => {
  const written: [string, string, number][] = [
    ["README.md", "readme", 6],
    ["RXDB.md", "rxdb", 2],
    ...PAGES.map((page): [string, string, number] => [page, nameOf(page), 1]),
  ];

  beforeAll(async () => {
    const compilerOptions = { ...CONFIG, module: "NodeNext", skipLibCheck: true, outDir: "out" };
    const files = written.map(([, name]) => `${name}.ts`);
    writeFileSync(join(outside, "tsconfig.json"), JSON.stringify({ compilerOptions, files }));
    await run(process.execPath, [TSC, "-p", "."]);
  });

  it.each(written)("in %s says what happens", async (file, name, least) => {
    const server = await RealServer.start();
    try {
      const token = await server.token("readme");
      const environment = { SYNCD_URL: server.url, SYNCD_TOKEN: token, ADA: await server.token("ada") };
      const node = file === STORES ? nodeWithSqlite() : process.execPath;
      const lines = (await run(node, [`out/${name}.js`], outside, environment)).split("\n");
      const promised = blocks("ts", file).matchAll(/console\.log\(.*\).*; \/\/ (.*)/g);
      const expected = Array.from(promised, ([, line]) => line);
      expect(expected.length).toBeGreaterThanOrEqual(least);
      for (const line of expected) expect(lines).toContain(line);
    } finally {
      await server.remove();
    }
  });
});
