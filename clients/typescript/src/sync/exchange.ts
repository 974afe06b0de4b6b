/** Syncs over HTTP, one at a time among the tabs of a store: by whoever leads, for whoever asks. */

import { NotConnected, SyncBusy } from "../errors.js";
import { Wakeup } from "../timing.js";
import type { RetryPolicy } from "./retry.js";
import { perform, type Server } from "./server.js";
import { type Device, type Report, type Scope, Session } from "./session.js";
import type { Release, Tabs } from "./tabs.js";
import { freshToken } from "./tokens.js";

/** A live sync of this tab: it may have the lead already, and does not give it back. */
interface Leader {
  readonly decided: Promise<void>;
  readonly leading: boolean;
  exchange(scope: Scope, signal: AbortSignal): Promise<Report>;
}

/** What a replica brings to its syncs. */
export interface ExchangeParts {
  readonly tabs: Tabs;
  readonly server: Server | null;
  readonly device: Device;
  readonly retry: RetryPolicy;
  readonly live: () => Leader | null;
  readonly closing: AbortSignal;
}

export class Exchange {
  declare readonly parts: ExchangeParts;

  constructor(parts: ExchangeParts) {
    this.parts = parts;
  }

  /** Raises NotConnected. */
  get server(): Server {
    if (this.parts.server === null) throw new NotConnected();
    return this.parts.server;
  }

  fresh(): Promise<string> {
    return freshToken(this.server, this.parts.device.checkUser);
  }

  /** One sync, by the caller, who has the lead and the turn. */
  perform(scope: Scope, signal: AbortSignal, policy: RetryPolicy = this.parts.retry): Promise<Report> {
    const { device } = this.parts;
    const session = new Session(device, policy, scope);
    return perform(session, this.server, () => this.fresh(), signal);
  }

  /** One sync, alone among the tabs. Raises SyncBusy when another one was at it for `patience` milliseconds. */
  async sync(scope: Scope, patience = 30_000): Promise<Report> {
    this.server; // before anything is taken that would have to be given back
    const { tabs, closing } = this.parts;
    const live = this.parts.live();
    const waiting = new AbortController();
    const { signal } = waiting;
    const busy = new SyncBusy("another sync is.");
    const timer = setTimeout(() => waiting.abort(busy), patience);
    let release: Release | null = null;
    try {
      // A live sync of this tab has asked for the lead before, and would not give it back.
      if (live) await Promise.race([live.decided, new Wakeup().wait(signal)]);
      signal.throwIfAborted();
      if (live?.leading) return await live.exchange(scope, signal);
      release = await tabs.lead(signal);
      if (release === null) throw busy;
      return await this.perform(scope, closing);
    } finally {
      clearTimeout(timer);
      release?.();
    }
  }
}
