/** The listeners, and how they are told. */

import type { Event } from "../data/events.js";
import { freeze } from "../data/values.js";

/** Tells everybody who listens. A listener that raises is reported, and the others are told all the same. */
export class Hub<T = Event> {
  readonly #listeners = new Set<(said: T) => void>();

  /** How many listen. */
  get size(): number {
    return this.#listeners.size;
  }

  /** Returns how to stop it. */
  on(listener: (said: T) => void): () => void {
    const own = (said: T): void => listener(said);
    this.#listeners.add(own);
    return () => this.#listeners.delete(own);
  }

  /** All get the same, which none of them can change. One that is an async function is not waited for. */
  publish(said: T): void {
    freeze(said);
    for (const listener of [...this.#listeners]) {
      (async () => listener(said))().catch((error) => console.error("syncd: a listener failed", error));
    }
  }
}
