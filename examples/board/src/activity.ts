/** What happened between this device and the server lately, for the pictures of the status strip. */

import type { Event, Replica } from "@syncd/client";
import type { Tables } from "./tables.js";

export type MarkKind = "wrote" | "accepted" | "received" | "rejected" | "conflict" | "up" | "down";

/** `at` is in milliseconds since 1970; `count` of changes, or 0 for a state of the connection. */
export interface Mark {
  readonly at: number;
  readonly kind: MarkKind;
  readonly count: number;
}

/** Milliseconds from a write to the server's word that it has everything written. */
export interface Lag {
  readonly at: number;
  readonly milliseconds: number;
}

export interface Past {
  readonly marks: readonly Mark[];
  readonly lags: readonly Lag[];
  /** Changes that the server has taken since the page was opened. */
  readonly accepted: number;
}

const MOST_MARKS = 400;
const MOST_LAGS = 40;

export class Activity {
  readonly #replica: Replica<Tables>;
  readonly #listeners = new Set<() => void>();
  #past: Past = { marks: [], lags: [], accepted: 0 };
  #waitingSince: number | null = null;
  #telling = false;

  constructor(replica: Replica<Tables>) {
    this.#replica = replica;
    replica.on((event) => this.#note(event));
  }

  get past(): Past {
    return this.#past;
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  #note(event: Event): void {
    if (event.kind === "changes") {
      const own = event.source !== "server";
      if (own) this.#waitingSince ??= Date.now();
      this.#mark(own ? "wrote" : "received", Math.max(event.records.length, 1));
    } else if (event.kind === "conflict") this.#mark("conflict", 1);
    else if (event.kind === "state")
      this.#mark(event.name === "live" || event.name === "polling" ? "up" : "down", 0);
    else if (event.kind === "answered") {
      this.#past = { ...this.#past, accepted: this.#past.accepted + event.accepted };
      if (event.accepted > 0) this.#mark("accepted", event.accepted);
      if (event.rejected.length > 0) this.#mark("rejected", event.rejected.length);
      void this.#measure();
    }
  }

  async #measure(): Promise<void> {
    const at = Date.now();
    const since = this.#waitingSince;
    if (since === null || (await this.#replica.status()).pending > 0) return;
    this.#waitingSince = null;
    this.#past = {
      ...this.#past,
      lags: [...this.#past.lags, { at, milliseconds: at - since }].slice(-MOST_LAGS),
    };
    this.#tell();
  }

  #mark(kind: MarkKind, count: number): void {
    const mark = { at: Date.now(), kind, count };
    this.#past = { ...this.#past, marks: [...this.#past.marks, mark].slice(-MOST_MARKS) };
    this.#tell();
  }

  /** A first sync is many events: they are told of a few times a second. */
  #tell(): void {
    if (this.#telling) return;
    this.#telling = true;
    setTimeout(() => {
      this.#telling = false;
      for (const listener of this.#listeners) listener();
    }, 200);
  }
}
