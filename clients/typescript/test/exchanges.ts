/** Replicas that sync with a script, and what tests of that ask of them. */

import type { JsonObject, Replica, ReplicaOptions } from "../src/index.js";
import { open } from "./devices.js";
import { type PushBody, results, Script } from "./script.js";

export const [AT, LATER] = ["2026-01-01T10:00:00.000000Z", "2026-01-01T10:00:01.000000Z"];
export const NOW = Date.parse("2026-09-21T12:00:00Z");
export const AHEAD = NOW + 3 * 365 * 86_400_000;

export async function scripted(
  options: Partial<ReplicaOptions> = {},
): Promise<{ replica: Replica; script: Script }> {
  const script = new Script();
  const server = { url: "http://server/", token: "t", fetch: script.fetch, indexedDB: null };
  const retry = { attempts: 3, first: 1, longest: 2, patience: 500 };
  return { replica: await open({ ...server, retry, ...options }), script };
}

export async function fieldsOf(replica: Replica, id = "a"): Promise<object | undefined> {
  return (await replica.get("t", id))?.fields;
}

export async function cursorOf(replica: Replica): Promise<string> {
  return replica["exchange"].parts.device.store.read(async ({ meta }) => meta.cursor);
}

/** The stamps of the field n in what waits. */
export async function stamps(replica: Replica): Promise<string[]> {
  const waits = await replica.pending();
  return waits.map(({ change }) => (change.fields as { n: { at: string } }).n.at);
}

export function ids({ pushes }: Script): unknown[][] {
  return pushes.map(({ changes }) => changes.map(({ id }) => id));
}

export function answer(status: string, other: JsonObject = {}): (body: PushBody | null) => JsonObject {
  return (body) => results(body, status, other);
}
