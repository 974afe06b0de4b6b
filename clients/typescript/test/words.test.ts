/** Pages in words: tests/vectors/words.json, as Python has them, and what a replica keeps of either form. */

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { dump, parse } from "../src/data/values.js";
import { BadReply, type JsonObject } from "../src/index.js";
import { readPage, spelled } from "../src/sync/reply.js";
import { contents } from "./devices.js";
import { scripted } from "./script.js";

interface Words {
  readonly pages: readonly { readonly name: string; readonly page: string; readonly json: JsonObject }[];
  readonly damaged: readonly { readonly name: string; readonly page: string }[];
}
const file = new URL("../../../tests/vectors/words.json", import.meta.url);
const { pages, damaged } = parse(readFileSync(file, "utf8")) as unknown as Words;

/** Everything that a replica keeps of the records of a page, once it was answered so. */
async function kept(body: string, json: JsonObject): Promise<string> {
  const { replica, script } = await scripted({ clientId: "me" });
  script.answers.push(new Response(body));
  expect((await replica.pull()).restarted).toBe(false);
  expect(script.pulls[0]?.searchParams.get("words")).toBe("1");
  const changes = json.serverChanges as { table: string; spaceId: string }[];
  const tables = new Map(changes.map(({ table, spaceId }) => [`${spaceId}/${table}`, { table, spaceId }]));
  const found = await Promise.all(
    [...tables.values()].map(async ({ table, spaceId }) => [
      await contents(replica, table, spaceId),
      await replica.query(table, [], { space: spaceId }),
    ]),
  );
  return JSON.stringify(found, (_, value: unknown) => (typeof value === "bigint" ? `${value}n` : value));
}

describe("a page in words", () => {
  it.each(pages)("is the page that it stands for: $name", async ({ page, json }) => {
    expect(parse(spelled(page))).toEqual(json);
    expect(readPage(page, []).changes.length).toBe((json.serverChanges as unknown[]).length);
    expect(await kept(page, json)).toBe(await kept(dump(json), json));
  });

  it.each(damaged)("is refused whole where it is damaged: $name", ({ page }) => {
    expect(() => readPage(page, [])).toThrow(BadReply);
  });

  it.each(["\x04", "\x04\x05"])("that stands for a bomb is refused, and never made: %j", (signs) => {
    const said = [...signs].map((sign) => `${sign}=${"x".repeat(10_000)}${sign}`).join("");
    const page = `{"serverChanges":["${said}${signs.repeat(10_000)}"],"syncedUntil":"c1"}`;
    expect(spelled(page).length).toBeLessThan(258 * page.length + 1e6);
    expect(() => readPage(page, [])).toThrow(BadReply);
  });

  it("may stand for ninety times itself", () => {
    const text = `${"\x04"}${"y".repeat(9)}`.repeat(20_000);
    const page = `{"x":"\x04=${"x".repeat(1000)}\x04${text}","syncedUntil":"c1"}`;
    expect(spelled(page).length).toBeGreaterThan(90 * page.length);
    expect(readPage(page, []).changes).toEqual([]);
  });
});
