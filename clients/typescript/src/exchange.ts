/** Syncs over HTTP, one at a time among the tabs of a store: by whoever leads, for whoever asks. */

import {
  BadReply,
  NotAllowed,
  NotConnected,
  Offline,
  Refused,
  ServerBusy,
  SyncBusy,
  SyncdError,
} from "./errors.js";
import type { Live } from "./live.js";
import type { RetryPolicy } from "./retry.js";
import type { Store } from "./store.js";
import { type Device, type Report, type Scope, Session } from "./sync.js";
import type { Message, Outcome, Release, Tabs } from "./tabs.js";
import { freshToken, perform, type Server, sleep } from "./transport.js";

export interface Party {
  readonly store: Store;
  readonly tabs: Tabs;
  readonly server: Server | null;
  /** As it is now: the client id changes when the store was evicted. */
  readonly device: () => Device;
  readonly checkUser: (user: string) => Promise<void>;
  readonly live: () => Live | null;
  readonly closing: AbortSignal;
}

export class Exchange {
  readonly #party: Party;
  #requests = 0;

  constructor(party: Party) {
    this.#party = party;
    party.tabs.on((message) => this.#hear(message));
  }

  /** Raises NotConnected. */
  get server(): Server {
    if (this.#party.server === null) throw new NotConnected();
    return this.#party.server;
  }

  fresh(): Promise<string> {
    return freshToken(this.server.token, this.#party.checkUser);
  }

  /** One sync, by the caller, who has the lead and the turn. */
  perform(scope: Scope, policy: RetryPolicy, signal: AbortSignal): Promise<Report> {
    const { store, device } = this.#party;
    const session = new Session(store, device(), policy, scope);
    return perform(session, this.server, device().client, () => this.fresh(), signal);
  }

  /** One sync, here or by the tab that leads. Raises SyncBusy when neither came to be in `patience` ms. */
  async sync(scope: Scope, policy: RetryPolicy, patience: number): Promise<Report> {
    const { tabs, closing } = this.#party;
    const live = this.#party.live();
    if (live?.leading) return live.exchange(scope);
    const release = (await tabs.tryLead()) ?? (await this.#ask(scope, patience));
    if (typeof release !== "function") return release;
    try {
      return await this.perform(scope, policy, closing);
    } finally {
      release();
    }
  }

  /** Whichever comes first: the lead, or the report of the tab that has it. */
  async #ask(scope: Scope, patience: number): Promise<Release | Report> {
    const over = new AbortController();
    const lead = this.#party.tabs.lead(over.signal);
    const answer = this.#askOther(scope, over.signal);
    const first = await Promise.race([lead, answer, sleep(patience, this.#party.closing)]);
    over.abort();
    if (typeof first === "function") return first;
    lead.then((release) => release?.()).catch(() => undefined);
    if (!first) throw new SyncBusy("another sync of this store is under way.");
    if ("error" in first) throw revive(first.error);
    return first.report;
  }

  #askOther(scope: Scope, signal: AbortSignal): Promise<Outcome> {
    this.#requests += 1;
    const request = `${this.#party.device().client} ${Math.random()} ${this.#requests}`;
    return new Promise((resolve) => {
      const stop = this.#party.tabs.on((message) => {
        if (message.kind === "synced" && message.request === request) resolve(message.outcome);
      });
      signal.addEventListener("abort", stop);
      this.#party.tabs.post({ kind: "sync", request, scope });
    });
  }

  /** Another tab asks, and this one leads. */
  #hear(message: Message): void {
    const live = this.#party.live();
    if (message.kind !== "sync" || !live?.leading) return;
    const { request } = message;
    live.exchange(message.scope).then(
      (report) => this.#party.tabs.post({ kind: "synced", request, outcome: { report } }),
      (error: unknown) => this.#party.tabs.post({ kind: "synced", request, outcome: { error: pack(error) } }),
    );
  }
}

function pack(error: unknown): { name: string; code: string; detail: string } {
  if (!(error instanceof SyncdError)) return { name: "SyncdError", code: "internal", detail: String(error) };
  return { name: error.name, code: error.code, detail: error.detail };
}

/** An error that was raised in another tab. */
function revive({ name, code, detail }: { name: string; code: string; detail: string }): SyncdError {
  const known: { readonly [name: string]: () => SyncdError } = {
    Offline: () => new Offline(detail, code),
    ServerBusy: () => new ServerBusy(detail, code),
    NotAllowed: () => new NotAllowed(detail, code),
    Refused: () => new Refused(detail, code, 0),
    BadReply: () => new BadReply(detail),
  };
  return known[name]?.() ?? new SyncdError(code, detail);
}
