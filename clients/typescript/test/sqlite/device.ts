/**
 * A device in a process of its own. `device steps STORE FOLDER N` does what is told in test/sqlite/killed.test.ts, and kills itself
 * in place of the statement N of SQLite's, counted from 1; what was done by then stands on its output. `device ledger` writes on
 * and on, and `device holds` opens its file until it is told to end.
 */

import { writeSync } from "node:fs";
import { Replica } from "../../src/index.js";
import { FILES } from "../files.js";
import { type Connection, sqlite } from "../node-sqlite.js";
import type { PushBody } from "../script.js";

const [what, store, folder, last] = process.argv.slice(2) as [string, string, string, string];
let statements = 0;

function tell(done: string): void {
  writeSync(1, `${done}\n`);
}

/** Every statement of every connection is counted, and one of them is the last that this process sees. */
function count(): void {
  if (!sqlite) throw new Error("no node:sqlite");
  const { prototype } = sqlite.DatabaseSync as unknown as { prototype: Connection };
  const { prepare } = prototype;
  prototype.prepare = function (this: Connection, sql: string) {
    const statement = prepare.call(this, sql);
    const counted =
      <A extends unknown[], T>(execute: (...values: A) => T) =>
      (...values: A): T => {
        statements += 1;
        if (statements === Number(last)) process.kill(process.pid, "SIGKILL");
        return execute.apply(statement, values);
      };
    return { all: counted(statement.all), run: counted(statement.run) };
  };
}

/** A server that takes what is pushed, and has two records of another device. */
const fetch = async (_input: unknown, init: RequestInit = {}): Promise<Response> => {
  const changes = typeof init.body === "string" ? (JSON.parse(init.body) as PushBody).changes : null;
  const n = { value: 1, at: "2026-01-01T10:00:00.000000Z" };
  const other = { table: "t", op: "insert", spaceId: "_personal:u", clientId: "other", fields: { n } };
  const serverChanges = ["x", "y"].map((id, place) => ({ ...other, id, seq: place + 1, changeId: id }));
  const results = changes?.map(({ changeId }) => ({ changeId, status: "applied" }));
  const told = results && { results, conflicts: [] };
  const page = { serverChanges, syncedUntil: "c1", hasMore: false, spaces: {} };
  return new Response(JSON.stringify({ ...page, ...told }));
};

function opened(): Promise<Replica> {
  const kind = new Map(FILES).get(store);
  return Replica.open("device", {
    app: "app",
    url: "http://server/",
    token: "t",
    fetch: fetch as typeof globalThis.fetch,
    ...(kind ? { store: kind(folder, { durability: what === "ledger" ? "full" : "normal" }) } : {}),
  });
}

async function steps(): Promise<void> {
  count();
  const replica = await opened();
  tell("opened");
  await replica.put("t", "a", { n: 1 });
  tell("put");
  await replica.batch((batch) => {
    batch.put("t", "b", { n: 1 });
    batch.put("t", "c", { n: 1 });
  });
  tell("batch");
  await replica.sync();
  tell("synced");
  await replica.patch("t", "a", { n: 2 });
  tell("patched");
  await replica.delete("t", "b");
  tell("deleted");
  await replica.close();
}

async function ledger(): Promise<void> {
  const replica = await opened();
  for (let n = (await replica.query("t")).length / 3; ; n++) {
    await replica.batch((batch) => {
      for (const part of ["a", "b", "c"]) batch.put("t", `${n}${part}`, { n });
    });
    tell(String(n));
    await new Promise((later) => setImmediate(later));
  }
}

async function holds(): Promise<void> {
  const replica = await opened();
  await replica.put("t", "held", { n: 1 });
  tell("open");
  await new Promise<void>((end) => process.stdin.once("data", () => end()));
  await replica.close();
  process.exit();
}

const DEEDS: { [name: string]: () => Promise<void> } = { steps, ledger, holds };
await DEEDS[what]?.();
