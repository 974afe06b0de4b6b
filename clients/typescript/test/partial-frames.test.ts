/** The frames of a live replica that keeps a part, from a server that is a script. */

import { IDBFactory } from "fake-indexeddb";
import { expect, it } from "vitest";
import { partial } from "../src/partial.js";
import { open, QUICK, until } from "./devices.js";
import { http, server } from "./live-script.js";
import { AT, page, wire } from "./script.js";
import { changes } from "./socket-script.js";

it("the frames after the first of a wider choice are taken as they are", async () => {
  const stored = { name: "frames", indexedDB: new IDBFactory() };
  const options = { url: server.url, token: "t", fetch: http.fetch, ...stored };
  const before = await open(options);
  http.answers.push(page([], { syncedUntil: "old" }));
  await before.pull();
  await before.close();
  for (const tables of [["other"], ["other", "t"]])
    await (await open({ ...stored, partial: partial({ tables }) })).close();
  // The first alone says that the server filters.
  server.on.subscribe = [
    () => changes([wire("r", { n: [1, AT] })], { syncedUntil: "n1", spaces: { partial: true } }),
  ];
  const wider = await open(options);
  wider.live({ policy: QUICK, verify: false });
  await until("the first is here", async () => (await wider.get("t", "r")) !== null);
  server.say(changes([wire("s", { n: [1, AT] })], { syncedUntil: "n2" }));
  await until("the second is here", async () => (await wider.get("t", "s")) !== null);
  expect(server.frames("subscribe").map(({ since }) => since)).toEqual(["old"]);
});
