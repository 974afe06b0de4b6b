/** A live first sync over a bad line: LINE_URL leads to the server, which has LINE_RECORDS records for LINE_TOKEN's user. */

import { expect, it } from "vitest";
import { open, until } from "../devices.js";

it("finishes, and what is written then is taken", async () => {
  const { LINE_URL: url = "", LINE_TOKEN: token = "", LINE_RECORDS: records = "" } = process.env;
  const replica = await open({ app: "notes", url, token });
  const sync = replica.live();
  await until(
    "all records are here",
    async () => (await replica.query("t")).length === Number(records),
    240_000,
  );
  await replica.put("t", "mine", { title: "written over the line" });
  expect(await sync.waitUntilSynced(60_000)).toBe(true);
});
