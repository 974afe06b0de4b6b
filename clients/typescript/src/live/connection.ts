/** One live connection, performed: the socket, the store, and what goes between them. */

import type { Packed } from "../data/change.js";
import type { Json } from "../data/values.js";
import { NO_SOCKET } from "../error-codes.js";
import { pack, unread } from "../store/outbox.js";
import { beginRestart } from "../store/records.js";
import type { Meta } from "../store/store.js";
import { announce, applyPage } from "../sync/apply.js";
import { loadFinder } from "../sync/on-demand.js";
import { claim } from "../sync/tokens.js";
import { sleep, vary, Wakeup } from "../timing.js";
import type { Endpoint, Socket } from "./endpoint.js";
import type { ExchangeLock } from "./exchange-lock.js";
import { closed, type Ending, endingOf, NOT_ALLOWED, troubleOf } from "./reconnect.js";
import { type Frame, LiveSession, readFrame } from "./session.js";

const RENEW_PAUSE = 1000;

type Of<K extends Frame["kind"]> = Extract<Frame, { readonly kind: K }>;

/** The owner, which is told: the token was accepted; it has caught up; it is in trouble but not over. */
export interface ConnectionListener {
  opened(): Promise<void>;
  live(): void;
  trouble(ending: Ending): Promise<void>;
}

/** From the handshake to the end of one socket. */
export class Connection {
  readonly #end: Endpoint;
  readonly #lock: ExchangeLock;
  readonly #listener: ConnectionListener;
  readonly #over = new AbortController();
  readonly #wakeup = new Wakeup();
  readonly #probe = new Wakeup();
  readonly #answered = new Wakeup();
  readonly #unsentPresences: Map<string | null, Json>;
  #ending: Ending | null = null;
  #frames: Promise<void> = Promise.resolve();
  #socket: Socket | null = null;
  #session: LiveSession;
  #token = "";
  #heard = 0;
  /** Until when a push may fill the line, so that silence means nothing. */
  #allowed = 0;
  /** What is queued later waits until the subscription is made. */
  #last = 0;
  #attempt = 0;
  #lost = false;
  #incarnations: readonly string[] | undefined;
  #held: Ending | null = null;
  #asked: Meta | undefined;
  openedAt: number | null = null;

  constructor(
    endpoint: Endpoint,
    lock: ExchangeLock,
    said: ReadonlyMap<string | null, Json>,
    listener: ConnectionListener,
  ) {
    this.#end = endpoint;
    this.#lock = lock;
    this.#listener = listener;
    this.#unsentPresences = new Map(said);
    this.#session = new LiveSession(endpoint);
  }

  /** Something was written, or there is something else to look at. */
  nudge(): void {
    this.#wakeup.wake();
  }

  /** The network may have changed: is anybody there? */
  probe(): void {
    this.#probe.wake();
  }

  /** Announces this device's presence. */
  say(space: string | null, state: Json): void {
    this.#unsentPresences.set(space, state);
    this.#wakeup.wake();
  }

  /** Ends it, for this reason unless there was one already. */
  stop(ending: Ending): void {
    const { subscribed, caughtUp, awaiting } = this.#session;
    if (awaiting !== null && !this.#ending) this.#end.paces.socket.failed();
    const behind = ending.state === "offline" && !ending.restarting && subscribed && !caughtUp;
    this.#ending ??= { ...ending, opened: ending.opened ?? this.openedAt !== null, behind };
    this.#over.abort();
  }

  /** Connects and stays until the connection is over. Says why it is. */
  async run(): Promise<Ending> {
    const signal = this.#over.signal;
    try {
      const token = await Promise.race([this.#end.fresh(), new Wakeup().wait(signal)]);
      await this.#recall();
      if (typeof token === "string" && !signal.aborted) this.#open(token);
      await new Wakeup().wait(signal);
    } catch (error) {
      this.stop(endingOf(error));
    }
    this.#socket?.close();
    await this.#frames; // no write outlives the right to write
    return this.#ending ?? closed(1006, "", false);
  }

  async #recall(): Promise<void> {
    await this.#end.store.read(async ({ meta }) => {
      this.#asked ??= meta;
      this.#last = meta.position;
      this.#session.restarting = meta.restarting;
    });
  }

  #open(token: string): void {
    this.#token = token;
    const { socket: Constructor, url, policy } = this.#end;
    const socket = Constructor && new Constructor(url);
    if (!socket) {
      this.stop({ state: "offline", code: "no_socket", detail: NO_SOCKET, blocked: true });
      return;
    }
    this.#socket = socket;
    socket.addEventListener("open", () => this.#send(this.#session.auth(this.#token)));
    socket.addEventListener("message", ({ data }) => this.#enqueue(data));
    socket.addEventListener("close", ({ code = 1006, reason = "" }) => {
      // What came before the end still counts; a push that was answered needs no repetition.
      this.#frames = this.#frames.then(() => this.stop(closed(code, reason, this.openedAt !== null)));
    });
    socket.addEventListener("error", () => undefined); // the close that follows says more
    this.#spawn(this.#expectOpening(policy.openTimeout));
  }

  /** A part of the connection: when it fails, the connection is over. */
  #spawn(part: Promise<void>): void {
    part.catch((error: unknown) => this.stop(endingOf(error)));
  }

  async #expectOpening(timeout: number): Promise<void> {
    await sleep(timeout, this.#over.signal);
    if (this.openedAt === null) this.#giveUp("open_timeout", timeout);
  }

  /** Nobody is there. */
  #giveUp(code: string, timeout: number): void {
    this.stop({ state: "offline", code, detail: `no answer in ${timeout} ms.` });
  }

  #send(text: string): void {
    if (!this.#over.signal.aborted) this.#socket?.send(text);
  }

  // -- reading ---------------------------------------------------------------------------------------

  #enqueue(data: unknown): void {
    this.#heard = performance.now();
    this.#frames = this.#frames.then(async () => {
      if (this.#over.signal.aborted) return;
      try {
        await this.#receive(String(data));
      } catch (error) {
        this.stop(endingOf(error));
      }
    });
  }

  /** Takes one frame: what it says is in the store, in one transaction, before the session learns of it. */
  async #receive(text: string): Promise<void> {
    const frame = await this.#lock.applying.run(async () => {
      const frame = readFrame(text, this.#end.app, this.#session.awaiting, this.#session.trustCursor);
      await this.#take(frame);
      this.#session.learn(frame);
      return frame;
    });
    await this.#follow(frame);
    this.#wakeup.wake();
  }

  async #take(frame: Frame): Promise<void> {
    if ("page" in frame) await this.#apply(frame);
    else if (frame.kind === "authenticated") await this.#end.checkUser(frame.user);
    else if (frame.kind === "unsubscribed" && frame.lost)
      this.#asked = await this.#end.store.write(beginRestart);
  }

  async #apply({ page, pushed }: Of<"delivered" | "answered">): Promise<void> {
    const find = await loadFinder();
    const done = await this.#end.store.write(async (tx) => {
      const applied = await applyPage(tx, page, pushed, find, this.#session.checked, this.#asked);
      if (this.#session.pushHeld && this.#held !== null) tx.meta.trouble = troubleOf(this.#held);
      return applied;
    });
    announce(this.#end, done, page);
  }

  /** What a frame means for the connection itself. */
  async #follow(frame: Frame): Promise<void> {
    switch (frame.kind) {
      case "authenticated":
        return this.#begin(frame);
      case "delivered":
      case "answered":
        if (frame.kind === "answered") this.#attempt = 0;
        this.#answered.wake();
        if (this.#session.current) this.#listener.live();
        return;
      case "refused":
        this.#answered.wake();
        return frame.again ? this.#hold(frame) : undefined;
      case "unsubscribed":
        return this.#unsubscribed(frame);
      case "complaint":
        if (!this.#session.caughtUp) this.#complain(frame.code, frame.detail);
        return;
      case "presence":
        if (frame.client !== this.#end.client()) this.#end.publish(frame);
    }
  }

  async #begin(accepted: Of<"authenticated">): Promise<void> {
    if (this.openedAt !== null) return; // a new token
    this.openedAt = performance.now();
    await this.#listener.opened();
    for (const part of [this.#write(), this.#renew(accepted), this.#listen()]) this.#spawn(part);
  }

  async #unsubscribed(frame: Of<"unsubscribed">): Promise<void> {
    if (frame.again) return this.#hold(frame);
    if (!frame.lost || this.#lost) this.#complain(frame.code, frame.detail);
    this.#lost = true;
  }

  /** An error that a fresh connection may do without, and that would only come again on this one. */
  #complain(code: string, detail: string): void {
    this.stop({ state: "refused", code, detail, renew: NOT_ALLOWED.includes(code) });
  }

  /** The server is busy: the same again after a pause, on this connection. */
  async #hold({ code, detail, retryAfter }: Of<"refused"> | Of<"unsubscribed">): Promise<void> {
    this.#attempt += 1;
    const { first, longest } = this.#end.policy;
    const pause = Math.min(longest, first * 2 ** this.#attempt) * (0.5 + Math.random() / 2);
    this.#spawn(this.#resume(Math.max(pause, retryAfter)));
    this.#held = { state: "busy", code, detail, opened: true };
    await this.#listener.trouble(this.#held);
  }

  async #resume(pause: number): Promise<void> {
    await sleep(pause, this.#over.signal);
    this.#session.resume();
    this.#wakeup.wake();
  }

  // -- writing ---------------------------------------------------------------------------------------

  async #write(): Promise<void> {
    const { signal } = this.#over;
    while (!signal.aborted) {
      if (this.#session.caughtUp) await this.#sendPresences();
      const packed = await this.#pack();
      const want = this.#session.next(packed.length > 0);
      if (want === "push") await this.#lock.pushing.run(() => this.#push());
      else if (want === "unsubscribe") await this.#unsubscribe();
      else if (want === "subscribe") await this.#lock.pushing.run(() => this.#subscribe());
      else if (want === "fix") await this.#fix();
      else await this.#wakeup.wait(signal);
    }
  }

  #pack(): Promise<Packed[]> {
    const last = this.#session.subscribed ? Infinity : this.#last;
    const { limits, paces } = this.#end;
    return this.#end.store.read(async (tx) => {
      const { choices, round } = this.#asked as Meta;
      // The replica began again, or keeps something else: what is on its way is of what may be gone.
      if (tx.meta.choices !== choices || tx.meta.round !== round)
        this.stop({ state: "offline", code: "restarted", detail: "" });
      const packed = await pack(tx, last, limits.pushChanges, paces.socket.size);
      this.#session.unread = (await unread(tx, packed)).length > 0;
      return packed;
    });
  }

  async #push(): Promise<void> {
    const packed = await this.#pack(); // again: another may have had the turn
    if (this.#session.next(packed.length > 0) !== "push" || this.#over.signal.aborted) return;
    this.#incarnations ??= await this.#end.present();
    const frame = this.#session.push(packed, this.#incarnations);
    const [sent, { socket }] = [performance.now(), this.#end.paces];
    this.#allowed = sent + socket.allowance(frame.length);
    this.#send(frame);
    await this.#awaitAnswer();
    this.#allowed = 0;
    if (!this.#over.signal.aborted) socket.took(frame.length, performance.now() - sent);
    await sleep(this.#end.policy.pushInterval, this.#over.signal);
  }

  /** Waits for the answer while the push may be on its way, and as long as anything is heard from the server. */
  async #awaitAnswer(): Promise<void> {
    const { signal } = this.#over;
    const timeout = this.#end.policy.answerTimeout;
    this.#heard = performance.now();
    while (this.#session.awaiting !== null && !signal.aborted) {
      const left = Math.max(this.#heard, this.#allowed) + timeout - performance.now();
      if (left <= 0) this.#giveUp("no_answer", timeout);
      else await this.#answered.wait(signal, left);
    }
  }

  async #unsubscribe(): Promise<void> {
    await this.#recall();
    this.#send(this.#session.unsubscribe());
  }

  async #subscribe(): Promise<void> {
    const meta = await this.#end.store.read(async (tx) => tx.meta);
    this.#send(this.#session.subscribe(meta, this.#end.limits.first));
  }

  /** What was refused whole goes over HTTP: its answer names the culprit, which is set aside. */
  async #fix(): Promise<void> {
    await this.#lock.alone(() => this.#end.exchange("push", this.#over.signal));
    this.#session.fixed();
    this.#incarnations = undefined;
  }

  async #sendPresences(): Promise<void> {
    for (const [space, state] of this.#unsentPresences) {
      this.#unsentPresences.delete(space);
      this.#send(this.#session.presence(space, state));
      await sleep(this.#end.policy.pushInterval, this.#over.signal);
    }
  }

  // -- staying ---------------------------------------------------------------------------------------

  /** Browsers cannot send pings of the protocol below, so a silent server is asked with a frame. */
  async #listen(): Promise<void> {
    const { signal } = this.#over;
    const { pingInterval, pingTimeout } = this.#end.policy;
    while (!signal.aborted) {
      await this.#probe.wait(signal, vary(pingInterval));
      this.#wakeup.wake(); // what another tab wrote is looked for too, should its message be lost
      const asked = performance.now();
      this.#send('{"type":"ping"}');
      await sleep(pingTimeout, signal);
      if (Math.max(this.#heard, this.#allowed) < asked) this.#giveUp("silent", pingTimeout);
    }
  }

  /** Replaces the token in place before it ends, by the server's clock where that is known. */
  async #renew({ serverTime }: Of<"authenticated">): Promise<void> {
    const { signal } = this.#over;
    const ahead = (serverTime === null ? Date.now() : Date.parse(serverTime)) - performance.now();
    for (;;) {
      const expiry = claim(this.#token, "exp");
      if (!this.#end.renewable || typeof expiry !== "number") return;
      const left = Math.max(0, expiry * 1000 - performance.now() - ahead);
      const pause = Math.max(RENEW_PAUSE, left - Math.min(this.#end.policy.renewBefore, left / 2));
      await sleep(pause, signal);
      const fresh = await this.#end.fresh().catch(() => this.#token); // not yet: the old one is good for a while
      if (fresh !== this.#token) this.#send(this.#session.auth(fresh));
      this.#token = fresh;
      if (signal.aborted) return;
    }
  }
}
