/** Replies for the client, fed one by one: a test says what the server answers, and sees what it was asked. */

import type { Json, JsonObject, Replica } from "../src/index.js";
import { open } from "./devices.js";

export type Answer =
  | Response
  | Error
  | JsonObject
  | ((body: PushBody | null) => Response | JsonObject | Promise<JsonObject>);

export interface PushBody {
  readonly since: string;
  readonly clientId: string;
  readonly atomic?: boolean;
  readonly roles?: string;
  readonly changes: readonly (JsonObject & { readonly changeId: string })[];
}

export interface Asked {
  readonly method: string;
  readonly url: URL;
  readonly headers: Headers;
  readonly body: PushBody | null;
}

/** The body of an answer to a pull. */
export function page(changes: readonly Json[] = [], other: JsonObject = {}): JsonObject {
  return { serverChanges: changes, syncedUntil: "c1", hasMore: false, spaces: {}, ...other };
}

/** The body of an answer to a push that did the same to everything. */
export function results(body: PushBody | null, status = "applied", other: JsonObject = {}): JsonObject {
  const each = body?.changes.map(({ changeId }) => ({ changeId, status })) ?? [];
  return page([], { results: each, conflicts: [], ...other });
}

/** A change of the server: each field is [value, at]. */
export function wire(
  id: string,
  fields: { [field: string]: [Json, string] },
  other: JsonObject = {},
): JsonObject {
  const registers = Object.entries(fields).map(([name, [value, at]]) => [name, { value, at }]);
  return {
    changeId: `other-${id}`,
    seq: 1,
    table: "t",
    id,
    op: "update",
    spaceId: "_personal:u",
    clientId: "other",
    fields: Object.fromEntries(registers),
    ...other,
  };
}

/** A refusal of the server. */
export function problem(status: number, code: string, pointers: string[] = [], headers = {}): Response {
  const errors = pointers.map((pointer) => ({ pointer, detail: `bad: ${pointer}` }));
  const body = { type: `/docs/errors#${code}`, title: code, status, code, detail: "No.", errors };
  return new Response(JSON.stringify(body), { status, headers });
}

/** The server's part. `answers` are used up in order; then everything is applied, and nothing is new. */
export class Script {
  readonly answers: Answer[] = [];
  readonly asked: Asked[] = [];

  get pushes(): PushBody[] {
    return this.asked.flatMap(({ body }) => (body === null ? [] : [body]));
  }

  get pulls(): URL[] {
    return this.asked.flatMap(({ method, url }) => (method === "GET" ? [url] : []));
  }

  readonly fetch = async (input: string | URL | Request, init: RequestInit = {}): Promise<Response> => {
    const body = typeof init.body === "string" ? (JSON.parse(init.body) as PushBody) : null;
    const url = new URL(String(input));
    this.asked.push({ method: init.method ?? "GET", url, headers: new Headers(init.headers), body });
    const next = this.answers.shift() ?? ((sent) => (sent === null ? page() : results(sent)));
    const answer = typeof next === "function" ? await next(body) : next;
    if (answer instanceof Error) throw answer;
    return answer instanceof Response ? answer : new Response(JSON.stringify(answer));
  };
}

/** An instant of long ago. */
export const AT = "2026-01-01T10:00:00.000000Z";
/** A conflict of a record of the personal space, as an answer tells of it. */
export const LOST = {
  table: "t",
  id: "a",
  field: "n",
  clientValue: 1,
  clientTimestamp: AT,
  serverValue: 2,
  serverTimestamp: AT,
};

/** Retries that nobody has to wait for. */
export const AT_ONCE = { attempts: 3, first: 1, longest: 2, patience: 500 };

/** A replica whose server is a script. */
export async function scripted(options: object = {}): Promise<{ replica: Replica; script: Script }> {
  const script = new Script();
  const server = { url: "http://server/", token: "t", retry: AT_ONCE, fetch: script.fetch };
  return { replica: await open({ ...server, ...options }), script };
}

export async function fieldsOf(replica: Replica, id = "a"): Promise<object | undefined> {
  return (await replica.get("t", id))?.fields;
}
