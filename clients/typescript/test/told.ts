/** A replica whose server refuses what goes into the table "refused", and has a conflict about all else, and a history. */

import type { Json, JsonObject, Replica } from "../src/index.js";
import { open } from "./devices.js";
import { AT, AT_ONCE, type PushBody, page, results, wire } from "./script.js";

export interface Told {
  readonly replica: Replica;
  /** The seqs of the changes of every record. */
  readonly history: number[];
  /** What the next answers bring, each once. */
  readonly news: Json[];
  /** Whether it can be reached, and how often its history was asked for. */
  readonly line: { up: boolean; asked: number };
}

export async function told(options: object = {}): Promise<Told> {
  const told = { history: [] as number[], news: [] as Json[], line: { up: true, asked: 0 } };
  const fetch = async (input: string | URL | Request, init: RequestInit = {}): Promise<Response> => {
    const url = new URL(String(input));
    if (!told.line.up) throw new TypeError("no network");
    if (url.pathname.endsWith("/history")) return pastOf(told, url.searchParams);
    const body = typeof init.body === "string" ? (JSON.parse(init.body) as PushBody) : null;
    const answer = body === null ? page() : answerTo(body, told.history);
    return new Response(JSON.stringify({ ...answer, serverChanges: told.news.splice(0) }));
  };
  const retry = { ...AT_ONCE, attempts: 1 };
  return { ...told, replica: await open({ url: "http://server/", token: "t", retry, fetch, ...options }) };
}

/** A change of another device to the record "a". */
export function byAnother(seq: number): JsonObject {
  return wire("a", { m: [seq, `2026-01-01T10:00:0${seq}.000000Z`] }, { seq, changeId: `other-${seq}` });
}

function answerTo(body: PushBody, history: number[]): JsonObject {
  const refused = ({ table }: JsonObject): boolean => table === "refused";
  const each = body.changes.map((change) =>
    refused(change)
      ? { changeId: change.changeId, status: "rejected", code: "not_a_writer", detail: "You only read." }
      : { changeId: change.changeId, status: "applied" },
  );
  const taken = body.changes.filter((change) => !refused(change));
  for (const _ of taken) history.push(history.length + 1);
  const conflicts = taken.map(({ table, id }) => ({
    ...{ table, id, field: "n", clientValue: 1, clientTimestamp: AT, serverValue: 2, serverTimestamp: AT },
  }));
  return results(body, "applied", { results: each, conflicts: conflicts as unknown as Json });
}

function pastOf({ history, line }: Omit<Told, "replica">, asked: URLSearchParams): Response {
  line.asked += 1;
  const before = Number(asked.get("before") ?? Number.POSITIVE_INFINITY);
  const older = history.filter((seq) => seq < before).sort((one, other) => other - one);
  const most = Number(asked.get("limit"));
  const changes = older.slice(0, most).map((seq) => ({
    ...{ seq, eventId: `e${seq}`, op: "update", userId: "u", clientId: "other", createdAt: AT },
    ...{ changeId: null, schemaVersion: null, actor: null, origin: null, superseded: {} },
    fields: { n: { value: seq, at: AT } },
  }));
  return new Response(JSON.stringify({ changes, hasMore: older.length > most }));
}
