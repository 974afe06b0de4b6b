/** One question to the server by a replica, repeated while the failure passes by itself. */

import { objectOf } from "./change.js";
import { NotAllowed, Offline, Refused, ServerBusy, type SyncdError } from "./errors.js";
import type { JsonObject } from "./json.js";
import type { Replica } from "./replica.js";
import { parseReply, readProblem } from "./reply.js";
import { delay, parseRetryAfter } from "./retry.js";
import type { Answer } from "./sync.js";
import { headers, request } from "./transport.js";
import { sleep } from "./turn.js";

/** `path` is below the app's. What is POSTed must be safe to repeat: say, it carries a changeId. */
export interface Question {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly params: { readonly [name: string]: string };
  readonly body?: string;
}

/** The answer, an object. Raises Offline, ServerBusy, NotAllowed, Refused, NotConnected, BadReply. */
export async function ask<S extends object>(replica: Replica<S>, question: Question): Promise<JsonObject> {
  const { server, party } = replica["exchange"];
  const { method, params, body = null } = question;
  const path = `/sync/${encodeURIComponent(replica.app)}${question.path}?${new URLSearchParams(params)}`;
  let renewed = false;
  for (let attempt = 1; ; attempt++) {
    const sent = { method, path, body };
    const said = headers(replica.clientId, await replica["exchange"].fresh(), sent);
    const answer = await request(server, sent, said, party.closing).catch(unanswered);
    if (!(answer instanceof Offline) && answer.status === 200) return objectOf(parseReply(answer.body));
    if (!(answer instanceof Offline) && answer.status === 401 && !renewed) {
      renewed = true;
      continue;
    }
    const failure = answer instanceof Offline ? answer : passing(answer);
    const wanted = failure instanceof ServerBusy ? failure.retryAfter : null;
    const pause = delay(party.retry, attempt, wanted, Math.random());
    if (pause === null || party.closing.aborted) throw failure;
    await sleep(pause, party.closing);
  }
}

function unanswered(cause: unknown): Offline {
  return new Offline(`no answer: ${String(cause)}.`);
}

/** A failure that passes by itself. Raises NotAllowed and Refused, which do not. */
function passing({ status, body, retryAfter }: Answer): SyncdError {
  const { code, detail } = readProblem(status, body);
  if (status === 401 || status === 403) throw new NotAllowed(detail, code);
  if (![408, 425, 429].includes(status) && status < 500) throw new Refused(detail, code, status);
  const busy = new ServerBusy(`${detail} (${status} ${code})`, code);
  busy.retryAfter = parseRetryAfter(retryAfter, Date.now());
  return busy;
}
