/** One call to the server, repeated while the failure passes by itself. */

import { checkId, objectOf, type Refusal } from "../data/change.js";
import type { JsonObject } from "../data/values.js";
import { InvalidQuery, NotAllowed, Offline, Refused, ServerBusy, type SyncdError } from "../errors.js";
import { sleep } from "../timing.js";
import { blamedIn } from "./blamed.js";
import type { Exchange } from "./exchange.js";
import { SLOWEST } from "./pace.js";
import { type Problem, parseReply, readProblem } from "./reply.js";
import { delay, passes, type RetryPolicy } from "./retry.js";
import type { Server } from "./server.js";
import type { Answer } from "./session.js";
import { headers, request } from "./transport.js";

/** The device that asks, of a user, in an app. `fresh` gets the token and raises SyncdError. */
export interface ApiClient {
  readonly app: string;
  readonly client: string;
  readonly server: Server;
  readonly retry: RetryPolicy;
  readonly closing: AbortSignal;
  fresh(): Promise<string>;
}

/** As a replica asks, which syncs by this exchange. Raises NotConnected. */
export function apiClientOf(exchange: Exchange): ApiClient {
  const { device, retry, closing } = exchange.parts;
  const { app } = device;
  return {
    app,
    client: device.client(),
    server: exchange.server,
    retry,
    closing,
    fresh: () => exchange.fresh(),
  };
}

/** `path` is below the app's, or the server's own. What is asked must be safe to repeat: say, it carries a changeId. */
export interface ApiCall {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  readonly own?: boolean;
  readonly params: { readonly [name: string]: string } | URLSearchParams;
  readonly body?: string;
}

/** A refusal that says which changes of the request are at fault. */
export class Blamed extends Refused {
  declare readonly blamed: ReadonlyMap<number, Refusal>;

  constructor(problem: Problem) {
    const { detail, code, status } = problem;
    super(detail, code, status);
    this.blamed = blamedIn(problem);
  }
}

/**
 * The answer, an object, which is empty for one without content. Raises Offline, ServerBusy, NotAllowed, Refused (always
 * a Blamed), BadReply.
 */
export async function ask(client: ApiClient, call: ApiCall): Promise<JsonObject> {
  const { app, server, retry, closing } = client;
  const { method, params, body = null } = call;
  const below = call.own ? "" : `/sync/${encodeURIComponent(app)}`;
  const path = `${below}${call.path}?${new URLSearchParams(params)}`;
  let renewed = false;
  for (let attempt = 1; ; attempt++) {
    const sent = { method, path, body, travel: (body?.length ?? 0) / SLOWEST };
    const said = headers(await client.fresh());
    const answer = await request(server, sent, said, closing).catch(unanswered);
    if (!(answer instanceof Offline) && answer.status < 300) return contentOf(answer);
    if (!(answer instanceof Offline) && answer.status === 401 && !renewed) {
      renewed = true;
      continue;
    }
    const failure = answer instanceof Offline ? answer : passing(answer);
    const wanted = failure instanceof ServerBusy ? failure.retryAfter : null;
    const pause = delay(retry, attempt, wanted, Math.random());
    if (pause === null || closing.aborted) throw failure;
    await sleep(pause, closing);
  }
}

/** An id in a URL, which would lose `.` and `..` on its way. Raises InvalidQuery. */
export function segment(name: string, id: string): string {
  return encodeURIComponent(checkId(name, id, InvalidQuery));
}

function contentOf({ status, body }: Answer): JsonObject {
  return status === 204 ? {} : objectOf(parseReply(body));
}

function unanswered(cause: unknown): Offline {
  return new Offline("no answer", "offline", cause);
}

/** A failure that passes by itself. Raises NotAllowed and Refused, which do not. */
function passing({ status, body, retryAfter }: Answer): SyncdError {
  const problem = readProblem(status, body);
  const { code, detail } = problem;
  if (status === 401 || status === 403) throw new NotAllowed(detail, code);
  if (!passes(status)) throw new Blamed(problem);
  const busy = new ServerBusy(`${detail} (${status} ${code})`, code);
  busy.retryAfter = retryAfter;
  return busy;
}
