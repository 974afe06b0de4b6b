/** A read that goes on: read again whenever its answer may have changed. */

import type { Event, Listener } from "../data/events.js";
import { type Json, same } from "../data/values.js";
import { Hub } from "./hub.js";
import type { Work } from "./store.js";

/** Where they read, and hear that something changed. */
export interface Source {
  read<T>(work: Work<T>): Promise<T>;
  on(listener: Listener): () => void;
  /** What is awaited before a transaction that somebody else begins; its own `read` does so by itself. */
  ready?(): Promise<void>;
}

/**
 * A read that can be awaited, for its answer now, or subscribed to, for that and every later one. The same object
 * may be subscribed to many times: it reads once for all. `current` is the latest answer while somebody is
 * subscribed, and undefined before the first one.
 */
export abstract class Observed<T> implements PromiseLike<T> {
  declare protected readonly source: Source;
  readonly #hub = new Hub<T>();
  #stop: (() => void) | null = null;
  #stale = false;
  #reading = false;
  #told = false;
  #current: T | undefined;

  constructor(source: Source) {
    this.source = source;
  }

  get current(): T | undefined {
    return this.#current;
  }

  /** The answer now. */
  protected abstract now(): Promise<T>;
  /** Takes note of what an event changes; false where it changes nothing here. */
  protected abstract concerns(event: Event): boolean;

  /** The next answer of a subscription. One that says the same as the last is not told. */
  protected next(): Promise<T> {
    return this.now();
  }

  /** The first subscriber has come. */
  protected begin(): void {}

  then<A = T, B = never>(
    fulfilled?: ((answer: T) => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.now().then(fulfilled, rejected);
  }

  /** Calls `listener` with the answer, soon, and with each later one. Returns how to stop it. */
  readonly subscribe = (listener: (answer: T) => void): (() => void) => {
    const stop = this.#hub.on(listener);
    let heard = listener;
    if (this.#stop === null) this.#start();
    else queueMicrotask(() => this.#current !== undefined && heard(this.#current));
    return () => {
      heard = () => undefined;
      stop();
      if (this.#hub.size === 0) this.#end();
    };
  };

  #start(): void {
    this.#told = false;
    this.begin();
    this.#stop = this.source.on((event) => {
      if (this.concerns(event)) this.#refresh();
    });
    this.#refresh();
  }

  #end(): void {
    this.#stop?.();
    this.#stop = null;
  }

  #refresh(): void {
    this.#stale = true;
    if (this.#reading) return;
    this.#reading = true;
    this.#read().catch((error: unknown) => console.error("syncd: a read failed", error));
  }

  /** One read at a time; what changes meanwhile is one more read. */
  async #read(): Promise<void> {
    try {
      while (this.#stale && this.#stop !== null) {
        this.#stale = false;
        const answer = await this.next();
        if (this.#stop === null || (this.#told && same(this.#current as Json, answer as Json))) continue;
        this.#told = true;
        this.#current = answer;
        this.#hub.publish(answer);
      }
    } finally {
      this.#reading = false;
    }
  }
}
