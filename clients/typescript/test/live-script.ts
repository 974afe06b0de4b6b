/** For each test of a file that imports this: a server that is a script, and a replica that syncs live with it. */

import { afterEach, beforeEach } from "vitest";
import type { Live, Replica } from "../src/index.js";
import { open, QUICK, until } from "./devices.js";
import { Script } from "./script.js";
import { SocketScript } from "./socket-script.js";

export let server: SocketScript;
export let http: Script;
beforeEach(async () => {
  server = new SocketScript();
  http = new Script();
  await server.start();
});
afterEach(() => server.stop());

export async function live(
  options: object = {},
  policy: object = {},
): Promise<{ replica: Replica; live: Live }> {
  const replica = await open({ url: server.url, token: "t", fetch: http.fetch, ...options });
  return { replica, live: replica.live({ policy: { ...QUICK, ...policy } }) };
}

export async function named(sync: Live, name: string): Promise<void> {
  await until(`it is ${name}, not ${sync.state.name} ${sync.state.code}`, () => sync.state.name === name);
}
