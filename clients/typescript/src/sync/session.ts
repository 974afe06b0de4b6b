/**
 * One sync, decided step by step and performed elsewhere: what to send next, and what an answer changes.
 *
 * `Session.next()` answers with a step; the shell that performs it tells the session how it went and asks again,
 * until the step is "done". Nothing here does network I/O.
 */

import { type Conflict, type Packed, type Refusal, spaceKey } from "../data/change.js";
import type { Event } from "../data/events.js";
import { dump, type Json, type JsonObject } from "../data/values.js";
import { BadReply, NotAllowed, Offline, Refused, ServerBusy, type SyncdError } from "../errors.js";
import type { Limits } from "../store/enqueue.js";
import { pack, reject } from "../store/outbox.js";
import { beginRestart } from "../store/records.js";
import type { Meta, Store, Trouble } from "../store/store.js";
import { type Applied, announce, applyPage } from "./apply.js";
import { loadFinder, loadRefusals } from "./on-demand.js";
import type { Pace, Paces } from "./pace.js";
import { type Page, type Problem, readPage, readProblem } from "./reply.js";
import { delay, passes, type RetryPolicy } from "./retry.js";
import type { FindConflicts } from "./unseen.js";

export type Scope = "both" | "push" | "pull";

/** Perform this request and hand the answer to `receive`, or the failure to `failed`. */
export interface Send {
  readonly kind: "send";
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  readonly body: string | null;
  readonly pushed: readonly Packed[];
  /** How many milliseconds the body may be on its way, unseen. */
  readonly travel: number;
}

/** Send it; sleep so many milliseconds; ask for a new token; stop. */
export type Step =
  | Send
  | { readonly kind: "wait"; readonly pause: number }
  | { readonly kind: "renew" }
  | { readonly kind: "done" };

/**
 * What a sync did. Counts are of changes; `rejected` are changeIds, `left` and `joined` space ids, and so is `unreadable`:
 * spaces of which the server could read nothing this time; what is new there comes when it can.
 */
export interface Report {
  pushed: number;
  superseded: number;
  duplicates: number;
  pulled: number;
  requests: number;
  restarted: boolean;
  rejected: string[];
  conflicts: Conflict[];
  joined: string[];
  left: string[];
  unreadable: string[];
}

/** What a sync knows of its replica. `client` may change, with the store. `publish` tells everybody. */
export interface Device {
  readonly app: string;
  readonly store: Store;
  readonly client: () => string;
  readonly schemaVersion: number | undefined;
  readonly limits: Limits;
  readonly paces: Paces;
  readonly wall: () => number;
  /** Keeps the store one user's. Raises WrongReplica. */
  readonly checkUser: (user: string) => Promise<void>;
  /** Raises InvalidWrite for a space that cannot be, or is somebody else's own. */
  readonly checkSpace: (space: string | null) => void;
  readonly publish: (event: Event) => void;
  /** The incarnations that the pushes of a sync or a connection name; none where the application names the client. */
  readonly present: () => Promise<readonly string[] | undefined>;
  /** The server has heard of another copy of the store. */
  readonly copied: () => Promise<void>;
}

export interface Answer {
  readonly status: number;
  /** In milliseconds. */
  readonly retryAfter: number | null;
  readonly body: string;
  /** How many milliseconds it took to come. */
  readonly took: number;
}

/** The server does not know the cursor. */
export const LOST: readonly string[] = ["cursor_lost", "bad_cursor"];

/** The head of a push, on either transport. A batch of several changes makes it all or nothing. */
export function pushHead(
  schemaVersion: number | undefined,
  incarnations: readonly string[] | undefined,
  packed: readonly Packed[],
  pushed?: readonly string[],
): JsonObject {
  const batches = new Set(packed.map(({ batch }) => batch));
  return {
    schemaVersion,
    incarnations,
    pushed,
    atomic: batches.size < packed.length || undefined,
    bases: true,
  } as JsonObject; // which leaves out what is undefined
}

/** A JSON object whose `changes` are the very texts of the outbox. */
export function withChanges(head: string, packed: readonly Packed[]): string {
  return `${head.slice(0, -1)},"changes":[${packed.map(({ body }) => body).join(",")}]}`;
}

/** Keeps for `why` what stands between the writes and the server; null: nothing does. */
export function noteTrouble(store: Store, trouble: Trouble | null): Promise<void> {
  return store.write(async (tx) => {
    tx.meta.trouble = trouble;
  });
}

/** The state of one sync of one store. */
export class Session {
  readonly report: Report = {
    pushed: 0,
    superseded: 0,
    duplicates: 0,
    pulled: 0,
    requests: 0,
    restarted: false,
    rejected: [],
    conflicts: [],
    joined: [],
    left: [],
    unreadable: [],
  };
  readonly #device: Device;
  readonly #policy: RetryPolicy;
  readonly #scope: Scope;
  #pushChanges: number;
  /** What comes before anything else. */
  readonly #steps: Step[] = [];
  #attempt = 0;
  #renewed = false;
  #copied = false;
  #asked: Meta | undefined;
  #incarnations: readonly string[] | undefined;
  /** What the last page said to ask with; null: there is nothing more that was there as the reading began. */
  #until: Json = "";
  /** Null where it cannot be loaded: names and roles would be told again and again. */
  #find: FindConflicts | null | undefined;
  /** Writes that are queued after the sync began are left to the next one. */
  #last: number | null = null;

  constructor(device: Device, policy: RetryPolicy, scope: Scope) {
    this.#device = device;
    this.#policy = policy;
    this.#scope = scope;
    this.#pushChanges = device.limits.pushChanges;
  }

  /** What to do now. */
  async next(): Promise<Step> {
    const first = this.#steps.shift();
    if (first !== undefined) return first;
    // A push may write before it goes, which no reading may wait for.
    const step = await this.#device.store.read(async (tx) => {
      const { meta } = tx;
      this.#asked = meta;
      this.#last ??= meta.position;
      if (meta.restarting) return () => this.#pull(meta);
      if (this.#scope !== "pull") {
        const packed = await pack(tx, this.#last, this.#pushChanges, this.#device.paces.push.size);
        if (packed[0]) return () => this.#push(meta, packed);
      }
      const done = this.#until === null || this.#scope === "push";
      return (): Step => (done ? { kind: "done" } : this.#pull(meta));
    });
    return step();
  }

  get #path(): string {
    return `/sync/${encodeURIComponent(this.#device.app)}`;
  }

  #pull({ cursor, acked = [], roles, asks }: Meta): Send {
    const { limits, paces, client } = this.#device;
    const params = new URLSearchParams({
      since: cursor,
      first: limits.first ?? "",
      limit: `${paces.pull.size}`,
      words: "1",
      until: (this.#until ?? "") as string,
      ...(this.#find !== null && { roles }),
      ...(acked[0] && { clientId: client() }),
    });
    for (const [name, texts] of Object.entries<readonly string[]>({ pushed: acked, ...asks }))
      for (const text of texts) params.append(name.replace("ons", "on"), text);
    const path = `${this.#path}/pull?${params}`;
    return { kind: "send", method: "GET", path, body: null, pushed: [], travel: 0 };
  }

  async #push({ cursor, acked, roles, asks }: Meta, packed: readonly Packed[]): Promise<Send> {
    const { client, schemaVersion, paces } = this.#device;
    this.#incarnations ??= await this.#device.present();
    const said = pushHead(schemaVersion, this.#incarnations, packed, acked);
    const pull = asks ? false : undefined; // what comes of a part is asked for apart: this answer would be of all
    const head = dump({ clientId: client(), since: cursor, roles, pull, ...said } as JsonObject);
    const body = withChanges(head, packed);
    const travel = paces.push.allowance(body.length);
    return { kind: "send", method: "POST", path: this.#path, body, pushed: packed, travel };
  }

  /**
   * Applies an answer, in one transaction with its cursor. Raises SyncdError where there is no point in going on;
   * nothing is lost then.
   */
  async receive(sent: Send, { status, retryAfter, body, took }: Answer): Promise<void> {
    this.report.requests += 1;
    if (status === 200) return this.#receivePage(sent, body, took);
    const problem = readProblem(status, body);
    if (status === 408) this.#pace(sent).failed();
    if (passes(status)) {
      const busy = new ServerBusy(`${problem.detail} (${status} ${problem.code})`, problem.code);
      busy.retryAfter = retryAfter;
      await this.#retry(busy, retryAfter);
    } else if (status === 401 && !this.#renewed) {
      this.#renewed = true;
      this.#steps.push({ kind: "renew" });
    } else if (status === 401 || status === 403) {
      await this.#giveUp("forbidden", new NotAllowed(problem.detail, problem.code));
    } else if (LOST.includes(problem.code) && !this.report.restarted) {
      this.report.restarted = true;
      await this.#device.store.write(beginRestart);
    } else if (problem.code === "device_copied" && !this.#copied) {
      this.#copied = true;
      this.#incarnations = undefined;
      await this.#device.copied();
    } else {
      await this.#refused(sent, problem);
    }
  }

  /** The request did not get a whole answer. Raises Offline when the retries have run out. */
  failed(sent: Send, cause: unknown): Promise<void> {
    this.#pace(sent).failed(); // half of it may go through
    return this.#retry(new Offline("no answer", "offline", cause), null);
  }

  /** There is no token to ask with. Raises the error, after `why` has heard of it. */
  noToken(error: SyncdError): Promise<never> {
    return this.#giveUp(error instanceof Offline ? "offline" : "forbidden", error);
  }

  #pace({ body }: Send): Pace {
    const { push, pull } = this.#device.paces;
    return body === null ? pull : push;
  }

  async #receivePage(sent: Send, body: string, took: number): Promise<void> {
    try {
      const page = readPage(body, sent.pushed);
      this.#pace(sent).took(sent.body?.length ?? page.changes.length, took);
      this.#find = await loadFinder();
      const done = await this.#device.store.write((tx) =>
        applyPage(tx, page, sent.pushed, this.#find, undefined, this.#asked),
      );
      this.#attempt = 0;
      this.#renewed = false;
      this.#until = page.more ? (page.wire.until ?? "") : null;
      this.#count(page, done);
      announce(this.#device, done, page);
    } catch (error) {
      if (!(error instanceof BadReply)) throw error;
      if (!error.garbled) return this.#giveUp("refused", error);
      this.#pace(sent).failed();
      return this.#retry(error, null);
    }
  }

  #count(page: Page, done: Applied): void {
    const { report } = this;
    for (const { status } of page.results) {
      if (status !== "rejected") report.pushed += 1;
      if (status === "superseded") report.superseded += 1;
      if (status === "duplicate") report.duplicates += 1;
    }
    report.pulled += page.changes.length;
    report.rejected.push(...done.rejected);
    report.conflicts.push(...done.conflicts);
    report.joined.push(...page.joined.filter(spaceKey));
    report.left.push(...page.left);
    report.unreadable.push(...page.unreadable.filter((space) => !report.unreadable.includes(space)));
  }

  async #retry(error: SyncdError, wanted: number | null): Promise<void> {
    this.#attempt += 1;
    const pause = delay(this.#policy, this.#attempt, wanted, Math.random());
    if (pause === null) return this.#giveUp(error instanceof ServerBusy ? "busy" : "offline", error);
    this.#steps.push({ kind: "wait", pause });
  }

  /** A push that is refused whole: the changes at fault are set aside, the rest is sent again. */
  async #refused({ pushed }: Send, problem: Problem): Promise<void> {
    const { status, code, detail } = problem;
    const read = await loadRefusals(problem, pushed);
    const refusals = read ?? new Map<string, Refusal>();
    // Where none is named, or it cannot be read which, the push is cut until the change at fault is alone.
    const cut = status === 413 || status === 422 || (!read && dump(problem.errors).includes("/changes/"));
    if (cut && !refusals.size) {
      if (pushed.some(({ batch }) => batch !== pushed[0]?.batch)) {
        this.#pushChanges = pushed.length >> 1; // two batches are two changes at least
        return;
      }
      for (const { changeId } of pushed) refusals.set(changeId, problem);
    }
    if (!refusals.size) return this.#giveUp("refused", new Refused(detail, code, status));
    const rejected = await this.#device.store.write((tx) => reject(tx, refusals));
    this.report.rejected.push(...rejected);
    announce(this.#device, { rejected });
  }

  async #giveUp(kind: Trouble["kind"], error: SyncdError): Promise<never> {
    const { code, detail } = error;
    await noteTrouble(this.#device.store, { kind, code, detail }).catch(() => {}); // the error says more than a store that is full
    throw error;
  }
}
