/**
 * One live connection, decided: what to send next, and what a frame means. Pure: no I/O, no clock.
 *
 * The shell reads a frame (`readFrame`), applies what it means to the store, lets the session `learn` it, and asks
 * it what it wants next.
 */

import { objectOf, type Packed, readInstant, spaceKey, textOf, textOr } from "../data/change.js";
import type { Instant } from "../data/clock.js";
import type { Presence } from "../data/events.js";
import { dump, type Json, type JsonObject } from "../data/values.js";
import { RETRYABLE } from "../error-codes.js";
import type { Meta } from "../store/store.js";
import { buildPage, type Page, parseReply } from "../sync/reply.js";
import { LONGEST } from "../sync/retry.js";
import { type Device, LOST, pushHead, withChanges } from "../sync/session.js";

/** A push on its way. */
export interface Awaited {
  readonly request: string;
  readonly pushed: readonly Packed[];
}

/** Nothing of it was taken. `again`: the same will do, after `retryAfter` milliseconds at least. */
interface RefusedFrame {
  readonly again: boolean;
  readonly code: string;
  readonly detail: string;
  readonly retryAfter: number;
}

/**
 * What a frame means. refused: the push under way was. unsubscribed: there is no subscription; `lost`: the cursor
 * is not known. complaint: an error about neither. noise: a pong, a frame of another app or of a later protocol.
 */
export type Frame =
  | { readonly kind: "authenticated"; readonly user: string; readonly serverTime: Instant | null }
  | { readonly kind: "delivered" | "answered"; readonly page: Page; readonly pushed: readonly Packed[] }
  | ({ readonly kind: "refused" } & RefusedFrame)
  | ({ readonly kind: "unsubscribed"; readonly lost: boolean } & RefusedFrame)
  | { readonly kind: "complaint"; readonly code: string; readonly detail: string }
  | Presence
  | { readonly kind: "noise" };

const NOISE: Frame = { kind: "noise" };

/** What a frame means. `trustCursor`: a push's answer may move the cursor. Raises BadReply. */
export function readFrame(text: string, app: string, awaiting: Awaited | null, trustCursor: boolean): Frame {
  const wire = objectOf(parseReply(text));
  switch (wire.type) {
    case "auth-ok": {
      const serverTime = wire.serverTime === undefined ? null : readInstant(wire.serverTime);
      return { kind: "authenticated", user: textOf(wire.userId), serverTime };
    }
    case "changes":
      if ((wire.appId ?? app) !== app) return NOISE;
      return { kind: "delivered", page: buildPage(wire, []), pushed: [] };
    case "push-result":
      return awaiting?.request === wire.requestId
        ? readAnswer(wire, awaiting as Awaited, trustCursor)
        : NOISE;
    case "presence":
      return readPresence(wire);
    case "error":
      return readError(wire, app, awaiting);
    default:
      return NOISE;
  }
}

function readAnswer(wire: JsonObject, { pushed }: Awaited, trustCursor: boolean): Frame {
  const cursor = trustCursor && typeof wire.syncedUntil === "string" ? wire.syncedUntil : null;
  return { kind: "answered", page: buildPage(wire, pushed, cursor, true), pushed };
}

function readPresence(wire: JsonObject): Presence {
  const space = spaceKey(textOf(wire.spaceId)) || null;
  const client = textOr(wire.clientId, "");
  return { kind: "presence", space, user: textOf(wire.userId), client, state: wire.state ?? null };
}

function readError(wire: JsonObject, app: string, awaiting: Awaited | null): Frame {
  const code = String(wire.code ?? "error");
  const seconds = typeof wire.retryAfter === "number" ? wire.retryAfter : 0;
  const refusal = {
    again: RETRYABLE.includes(code),
    code,
    detail: String(wire.detail ?? ""),
    retryAfter: Math.min(seconds * 1000, LONGEST),
  };
  if ((wire.requestId ?? null) !== null) {
    return wire.requestId === awaiting?.request ? { kind: "refused", ...refusal } : NOISE;
  }
  const lost = LOST.includes(code);
  if (lost || wire.appId === app) return { kind: "unsubscribed", lost, ...refusal };
  return { kind: "complaint", code, detail: refusal.detail };
}

/**
 * What the session wants done now. unsubscribe: so that what is read next is read after the push that follows. fix: the
 * push was refused whole, so repeat it over HTTP, whose answer names the culprit. wait: for a frame, or a write.
 */
export type Want = "push" | "unsubscribe" | "subscribe" | "fix" | "wait";

/** The state of one connection. `restarting`: the replica is in the middle of asking for everything again. */
export class LiveSession {
  readonly #device: Device;
  readonly #client: string;
  #requests = 0;
  pushHeld = false;
  #subscribeHeld = false;
  #refused = false;
  restarting = false;
  user: string | null = null;
  awaiting: Awaited | null = null;
  subscribed = false;
  /** Null before the first frame of a subscription, which names the spaces. */
  caughtUp: boolean | null = false;
  /** Whether what waits to be sent is to a space of which the server has said nothing yet, as some of it. */
  unread = false;
  /** Acknowledged changes that the server must have. */
  declare checked: readonly string[] | undefined;

  constructor(device: Device) {
    this.#device = device;
    this.#client = device.client();
  }

  /** Whether everything up to the socket's cursor is here. */
  get trustCursor(): boolean {
    return this.subscribed && this.caughtUp === true;
  }

  /** Whether nothing keeps this device from being current. */
  get current(): boolean {
    return this.caughtUp === true && !this.pushHeld;
  }

  /**
   * What to do now. `pending`: something waits to be sent.
   *
   * What is `unread` goes while there is no subscription. Its answer, and then the frame that names the space, come in the order in
   * which they were made, and nothing of the space is skipped as the connection's own. A subscription that has just begun
   * is left to name the spaces first, so that a slow line need not begin again.
   */
  next(pending: boolean): Want {
    if (this.user === null || this.awaiting !== null) return "wait";
    if (this.#refused) return "fix";
    if (pending && !this.pushHeld && !this.restarting) {
      if (!this.unread || !this.subscribed) return "push";
      return this.caughtUp === null ? "wait" : "unsubscribe";
    }
    return !this.subscribed && !this.#subscribeHeld ? "subscribe" : "wait";
  }

  /** The first frame, or a new token. `protocol` 1: inserts come as `fields` alone. */
  auth(token: string): string {
    return dump({ type: "auth", token, clientId: this.#client, protocol: 1 });
  }

  /** Asks for everything after the cursor, and for what happens from then on. */
  subscribe({ cursor: since, acked: pushed, roles, asks }: Meta, first = ""): string {
    this.subscribed = true;
    this.caughtUp = null;
    this.checked = pushed;
    const wanted = { since, roles, first, pushed, ...asks };
    return dump({ type: "subscribe", appId: this.#device.app, ...wanted } as JsonObject);
  }

  /** Ends the subscription: what comes after the answer to the next push is read after that push. */
  unsubscribe(): string {
    this.subscribed = this.caughtUp = false;
    return dump({ type: "unsubscribe", appId: this.#device.app });
  }

  /** Sends changes; from now on their answer is awaited. */
  push(pushed: readonly Packed[], incarnations: readonly string[] | undefined): string {
    this.#requests += 1;
    const request = `p${this.#requests}`;
    this.awaiting = { request, pushed };
    const head = pushHead(this.#device.schemaVersion, incarnations, pushed);
    return withChanges(dump({ type: "push", requestId: request, appId: this.#device.app, ...head }), pushed);
  }

  /** Says where this device is; `state` null takes it back. */
  presence(space: string | null, state: Json): string {
    return dump({ type: "presence", spaceId: space ?? `_personal:${this.user}`, state });
  }

  /** Takes note of a frame that was applied. */
  learn(frame: Frame): void {
    switch (frame.kind) {
      case "authenticated":
        this.user = frame.user;
        break;
      case "delivered":
        this.caughtUp = this.subscribed && !frame.page.more;
        this.restarting &&= frame.page.more;
        break;
      case "answered":
        this.awaiting = null;
        // What the server had already it answers without its stamps: they are in the delta alone.
        if (frame.page.results.some(({ status }) => status === "duplicate")) this.subscribed = false;
        break;
      case "refused":
        this.awaiting = null;
        this.pushHeld = frame.again;
        this.#refused = !frame.again;
        break;
      case "unsubscribed":
        this.subscribed = this.caughtUp = false;
        this.restarting ||= frame.lost;
        this.#subscribeHeld = frame.again;
    }
  }

  /** A pause that the server asked for is over. */
  resume(): void {
    this.pushHeld = this.#subscribeHeld = false;
  }

  /** What was refused whole was sent over HTTP. */
  fixed(): void {
    this.#refused = false;
  }
}
