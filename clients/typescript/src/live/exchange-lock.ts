/** The exchanges with the server in a live sync, and which of them may run at once. */

import { Mutex } from "../timing.js";

/**
 * The two locks of a live sync: `pushing`, from sending a push to its answer, and `applying`, around a frame. A caller that
 * holds both has the store and the server to itself; they are taken in that order.
 */
export class ExchangeLock {
  readonly pushing = new Mutex();
  readonly applying = new Mutex();

  alone<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.pushing.run(() => this.applying.run(work, signal), signal);
  }
}
