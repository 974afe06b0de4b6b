/**
 * The tabs of one store: one of them leads (it has the connection, or is syncing), and all tell each other what
 * they wrote. Web Locks decide who leads, and give the place to the next when a tab is closed. Where there are none
 * (Node, some private modes) a replica simply leads: two that do send twice what has an effect once.
 */

import type { Event } from "../data/events.js";
import type { Json } from "../data/values.js";
import { Hub } from "../store/hub.js";
import { Mutex } from "../timing.js";

export type Release = () => void;

/** The part of the Web Locks API that is used. */
export interface Locks {
  request(
    name: string,
    options: { signal?: AbortSignal; ifAvailable?: boolean },
    held: (lock: unknown) => Promise<void>,
  ): Promise<unknown>;
}

/** What tabs tell each other. `hello`: where do you stand? */
export type Message =
  | { readonly kind: "event"; readonly event: Event }
  | { readonly kind: "hello" }
  | { readonly kind: "say"; readonly space: string | null; readonly state: Json };

export class Tabs {
  readonly #name: string;
  readonly #locks: Locks;
  readonly #hub = new Hub<Message>();
  #channel: BroadcastChannel | null;

  /** `shared`: whether other tabs can have the same store at all. */
  constructor(name: string, shared: boolean, locks: Locks | undefined) {
    this.#name = shared ? name : `${name} ${Math.random()}`;
    this.#locks = locks ?? (shared ? webLocks() : undefined) ?? new OwnLock();
    this.#channel = shared && typeof BroadcastChannel === "function" ? new BroadcastChannel(name) : null;
    if (!this.#channel) return;
    this.#channel.onmessage = ({ data }: { data: unknown }) => this.#hub.publish(data as Message);
    // A channel alone does not keep a Node process from ending.
    (this.#channel as unknown as { unref?: () => void }).unref?.();
  }

  /** What other tabs say, from now on. Returns how to stop it. */
  on(listener: (message: Message) => void): () => void {
    return this.#hub.on(listener);
  }

  /** Tells the other tabs, unless it is closed. What no tab hears any more is not missed. */
  post(message: Message): void {
    this.#channel?.postMessage(message);
  }

  /** Waits for the lead; null when `signal` ended the waiting, or, if it is to be had at once or not, somebody has it. */
  lead(signal: AbortSignal, ifAvailable = false): Promise<Release | null> {
    return new Promise((resolve) => {
      const nobody = (): void => resolve(null);
      // What comes when nobody waits for it any more is given back at once.
      const hold = (lock: unknown): Promise<void> =>
        new Promise((release) => (lock === null || signal.aborted ? release(nobody()) : resolve(release)));
      signal.addEventListener("abort", nobody, { once: true });
      // Web Locks take one of them only.
      const options = ifAvailable ? { ifAvailable } : { signal };
      const ask = async (): Promise<unknown> => this.#locks.request(this.#name, options, hold);
      ask().catch(nobody);
    });
  }

  close(): void {
    this.#channel?.close();
    this.#channel = null;
  }
}

function webLocks(): Locks | undefined {
  // Typed by hand: not every environment that runs this has a navigator, and not every navigator has locks.
  return (globalThis as { navigator?: { locks?: Locks } }).navigator?.locks;
}

/**
 * Where there are none, a replica leads alone: what it does comes one after the other. A caller that asks whether it is
 * available waits, too: nobody else is there to be followed.
 */
class OwnLock implements Locks {
  readonly #mutex = new Mutex();

  request(
    _name: string,
    { signal }: { signal?: AbortSignal },
    held: (lock: unknown) => Promise<void>,
  ): Promise<void> {
    return this.#mutex.run(() => held(this), signal);
  }
}
