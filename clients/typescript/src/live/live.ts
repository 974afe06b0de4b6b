/** A live sync from beginning to end: the lead among the tabs, one connection after another, polling where none is. */

import { type Event, type LiveState, liveState, type Presence } from "../data/events.js";
import { type Json, same } from "../data/values.js";
import { NO_SOCKET } from "../error-codes.js";
import { WrongReplica } from "../errors.js";
import type { Hub } from "../store/hub.js";
import { waiting } from "../store/outbox.js";
import { noteTrouble, type Report, type Scope } from "../sync/session.js";
import type { Message, Release, Tabs } from "../sync/tabs.js";
import { sleep, vary, Wakeup } from "../timing.js";
import { Connection } from "./connection.js";
import type { Endpoint } from "./endpoint.js";
import { ExchangeLock } from "./exchange-lock.js";
import { PresentDevices } from "./presence.js";
import { type Ending, endingOf, Reconnect, troubleOf } from "./reconnect.js";

/** Keeps a replica current until it is closed. Comes from `replica.live()`. */
export class Live {
  readonly #end: Endpoint;
  readonly #tabs: Tabs;
  readonly #hub: Hub;
  readonly #lock = new ExchangeLock();
  readonly #closing: AbortController;
  readonly #retry = new Wakeup();
  readonly #presences = new Map<string | null, Json>();
  readonly #devices = new PresentDevices();
  readonly #reconnect: Reconnect;
  readonly #done: Promise<void>;
  readonly #leads = new Wakeup();
  /** This tab has the connection, or this is over. */
  declare readonly decided: Promise<void>;
  #connection: Connection | null = null;
  #noted: Ending | null = null;
  #state = liveState("connecting");
  #leading = false;
  /** The browser says that there is no network. */
  #cut = false;

  constructor(endpoint: Endpoint, tabs: Tabs, hub: Hub, closing: AbortController) {
    this.#closing = closing;
    this.#end = endpoint;
    this.#tabs = tabs;
    this.#hub = hub;
    this.#reconnect = new Reconnect(endpoint.policy, endpoint.renewable);
    this.decided = this.#leads.wait(closing.signal);
    this.#done = this.#run();
  }

  // -- for the application ---------------------------------------------------------------------------

  /** Where it stands now. */
  get state(): LiveState {
    return this.#state;
  }

  /** Whether this tab has the connection. */
  get leading(): boolean {
    return this.#leading;
  }

  /** The other devices in a space now, and what they say of themselves: the same list until that changes. */
  peers(space: string | null = null): readonly Presence[] {
    return this.#devices.of(space);
  }

  /** Calls `listener` whenever somebody's presence changes. Returns how to stop it. */
  onPeers(listener: () => void): () => void {
    return this.#hub.on((event) => event.kind === "presence" && listener());
  }

  /**
   * Tells the members of a space what this device is doing (any JSON up to 4 KiB), now and after each reconnection;
   * null: it is gone. Raises InvalidWrite for the personal space of somebody else.
   */
  presence(space: string | null, state: Json): void {
    this.#end.checkSpace(space);
    this.#presences.set(space, state);
    this.#connection?.say(space, state);
    if (!this.#leading) this.#tabs.post({ kind: "say", space, state });
  }

  /** Tries to connect at once, say because the network is back. */
  readonly retryNow = (): void => {
    this.#cut = false;
    this.#retry.wake();
    this.#connection?.probe();
  };

  /**
   * Waits until the server has everything written here, and this replica is current. False when it did not come to
   * that in `patience` milliseconds, or it was closed.
   */
  async waitUntilSynced(patience = Infinity): Promise<boolean> {
    const until = performance.now() + patience;
    const look = new Wakeup();
    const stop = this.#hub.on(() => look.wake());
    try {
      while (!(await this.#synced())) {
        const left = until - performance.now();
        if (left <= 0 || this.#closing.signal.aborted) return false;
        await look.wait(this.#closing.signal, Math.min(left, 250));
      }
      return true;
    } finally {
      stop();
    }
  }

  async #synced(): Promise<boolean> {
    if (this.#state.name !== "live" && this.#state.name !== "polling") return false;
    return !(await this.#end.store.read(waiting));
  }

  /** Ends it. Another tab, if there is one, takes over. */
  close(): Promise<void> {
    if (!this.#leading)
      for (const space of this.#presences.keys()) this.#tabs.post({ kind: "say", space, state: null });
    this.#closing.abort();
    this.restart("closed");
    return this.#done;
  }

  // -- for the replica -------------------------------------------------------------------------------

  /** A sync over HTTP, in turn with the live one. Only where this tab leads. */
  exchange(scope: Scope, signal: AbortSignal): Promise<Report> {
    const exchange = (): Promise<Report> => this.#end.exchange(scope, this.#closing.signal);
    return this.#lock.alone(exchange, signal).finally(this.retryNow);
  }

  /** The connection ends: the store goes on under another client id, unless `code` says another reason. */
  restart(code = "store_lost"): void {
    this.#connection?.stop({ state: "offline", code, detail: "" });
    this.#retry.wake(); // where the old store's end was what it waits after
  }

  // -- leading ---------------------------------------------------------------------------------------

  async #run(): Promise<void> {
    this.#hurryWhenBack();
    const stops = [
      this.#tabs.on((message) => this.#receive(message)),
      this.#hub.on((event) => this.#note(event)),
    ];
    let reason: LiveState = liveState("closed");
    try {
      while (!this.#closing.signal.aborted) await this.#takeLead();
    } catch (error) {
      const { code, detail } = endingOf(error);
      console.error("syncd: a live sync ended", error);
      reason = liveState("closed", code, detail);
    }
    for (const stop of stops) stop();
    this.#closing.abort();
    this.#show(reason);
  }

  async #takeLead(): Promise<void> {
    const { signal } = this.#closing;
    let release = await this.#tabs.lead(signal, true);
    if (release === null && !signal.aborted) {
      this.#show(liveState("following", null, "another tab is live.", true));
      this.#tabs.post({ kind: "hello" });
      release = await this.#follow();
    }
    // The lock itself may not be had for a while, say in a page that is being put away.
    if (release === null) return sleep(this.#end.policy.first, signal);
    try {
      this.#leading = true;
      this.#leads.wake();
      this.#part();
      this.#show(liveState("connecting"));
      while (!signal.aborted) await this.#connectOnce();
    } finally {
      this.#leading = false;
      await this.#lock.alone(async () => {});
      release();
    }
  }

  /** Waits for the lead. A follower needs no token, but must not write as somebody else. Raises WrongReplica. */
  async #follow(): Promise<Release | null> {
    const lead = this.#tabs.lead(this.#closing.signal);
    const stranger: unknown = await this.#end.fresh().catch((error) => error);
    if (!(stranger instanceof WrongReplica)) return lead;
    lead.then((release) => release?.());
    throw stranger;
  }

  /** One connection, and what comes after it: a pause, or polling. */
  async #connectOnce(): Promise<void> {
    if (this.#cut) {
      this.#show(liveState("offline", "offline"));
      // The browser may be wrong, so that this is no more than a pause.
      await this.#retry.wait(this.#closing.signal, this.#end.policy.longest);
    }
    let [ending, lasted] = await this.#connect();
    if (this.#closing.signal.aborted) return;
    let plan = this.#reconnect.after(ending, lasted, Math.random());
    let caughtUp = false;
    if (plan.fix || ending.behind) {
      const failure = await this.#exchange(ending.behind ? "both" : "push");
      caughtUp = failure === null && !plan.fix;
      ending = failure ?? ending;
    } else if (plan.poll) {
      const failure = await this.#poll();
      if (failure === null) return;
      ending = failure;
      if (failure.local) plan = this.#reconnect.after(failure, 0, Math.random());
    }
    if (!plan.silent && !caughtUp) await this.#report(ending);
    await this.#retry.wait(this.#closing.signal, Math.max(plan.pause, ending.retryAfter ?? 0));
  }

  async #connect(): Promise<[Ending, number]> {
    const listener = {
      opened: () => this.#opened(),
      live: () => this.#works(liveState("live")),
      trouble: (e: Ending) => this.#report(e),
    };
    const connection = new Connection(this.#end, this.#lock, this.#presences, listener);
    this.#connection = connection;
    const ending = await connection.run();
    this.#connection = null;
    this.#part();
    const { openedAt } = connection;
    return [ending, openedAt === null ? 0 : performance.now() - openedAt];
  }

  /** The others are not seen any more. */
  #part(): void {
    for (const device of this.#devices.all) this.#end.publish({ ...device, state: null });
  }

  /** Syncs over HTTP until it is time to try a socket again (null), or until that does not work either. */
  async #poll(): Promise<Ending | null> {
    const { signal } = this.#closing;
    const until = performance.now() + vary(this.#end.policy.socketInterval);
    for (;;) {
      const failure = await this.#exchange("both");
      if (failure !== null) return failure;
      this.#works(liveState("polling", "no_socket", NO_SOCKET));
      await this.#retry.wait(signal, vary(this.#end.policy.pollInterval));
      if (performance.now() >= until || signal.aborted || this.#cut) return null;
    }
  }

  async #exchange(scope: Scope): Promise<Ending | null> {
    try {
      await this.#lock.alone(() => this.#end.exchange(scope, this.#closing.signal));
      return null;
    } catch (error) {
      return endingOf(error);
    }
  }

  // -- what happens ----------------------------------------------------------------------------------

  /** The server accepted the token: whatever kept the writes back is over. */
  async #opened(): Promise<void> {
    if (this.#noted) await noteTrouble(this.#end.store, null);
    this.#works(liveState("connecting"));
  }

  /** The line works, whatever the browser says. */
  #works(state: LiveState): void {
    this.#noted = null;
    this.#cut = false;
    this.#show(state);
  }

  /** Tells the application, and `why`, what is wrong. */
  async #report(ending: Ending): Promise<void> {
    const { state, code, detail } = ending;
    const trouble = troubleOf(ending);
    // The server says of a token that ended that it "has expired".
    const signedOut = /^no_token|has expired/.test(code + detail) ? "signed_out" : "refused";
    this.#show(liveState(state, code, detail, false, trouble?.kind === "forbidden" ? signedOut : undefined));
    if (same(this.#noted as Json, ending as unknown as Json)) return;
    this.#noted = ending;
    // A store that the browser is just taking away fails this, and must not end the live sync, which finds the new one.
    await noteTrouble(this.#end.store, trouble).catch(() => {});
  }

  /** This tab's own state, which the others are told, or that of the tab that leads, seen from here. */
  #show(state: LiveState): void {
    if (same(state as unknown as Json, this.#state as unknown as Json)) return;
    this.#state = state;
    if (state.following) this.#hub.publish(state);
    else this.#end.publish(state);
  }

  #note(event: Event): void {
    if (event.kind === "changes" && event.source !== "server") this.#hurry();
    this.#devices.note(event);
  }

  /** Something was written: it goes at once. */
  #hurry(): void {
    this.#connection?.nudge();
    if (this.#leading && this.#state.name === "polling") this.#retry.wake();
  }

  #receive(message: Message): void {
    if (this.#leading) {
      if (message.kind === "hello") this.#introduce();
      else if (message.kind === "say") this.presence(message.space, message.state);
    } else if (message.kind === "event" && message.event.kind === "state") {
      this.#followState(message.event);
    }
  }

  /** Tells a new tab where things stand. */
  #introduce(): void {
    for (const event of [this.#state, ...this.#devices.all]) this.#tabs.post({ kind: "event", event });
  }

  #followState(state: LiveState): void {
    if (state.following || state.name === "closed") return;
    this.#show({ ...state, following: true });
    if (state.name !== "connecting") return;
    for (const [space, said] of this.#presences) this.#tabs.post({ kind: "say", space, state: said });
  }

  /** A network that comes back, or a page that is put away or looked at again, is a reason to look. */
  #hurryWhenBack(): void {
    const { signal } = this.#closing;
    // A socket would notice that half a minute later.
    const cut = (): void => {
      this.#cut = true;
      this.restart("offline");
    };
    globalThis.document?.addEventListener("visibilitychange", this.retryNow, { signal });
    globalThis.addEventListener?.("online", this.retryNow, { signal });
    globalThis.addEventListener?.("offline", cut, { signal });
  }
}
