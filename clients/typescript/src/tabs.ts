/**
 * The tabs of one store: one of them leads (it has the connection, or is syncing), and all tell each other what
 * they wrote. Web Locks decide who leads, and give the place to the next when a tab is closed; where there are
 * none (Node, old browsers), a replica has only those of its own process to share with.
 */

import type { Event } from "./events.js";
import type { Json } from "./json.js";
import type { Report, Scope } from "./sync.js";

export type Release = () => void;

/** The part of the Web Locks API that is used. */
export interface Locks {
  request(
    name: string,
    options: { signal?: AbortSignal; ifAvailable?: boolean },
    held: (lock: unknown) => Promise<void>,
  ): Promise<unknown>;
}

/** How a sync that was done for another tab ended. */
export type Outcome =
  | { readonly report: Report }
  | { readonly error: { readonly name: string; readonly code: string; readonly detail: string } };

/** What tabs tell each other. `hello`: where do you stand? */
export type Message =
  | { readonly kind: "event"; readonly event: Event }
  | { readonly kind: "hello" }
  | { readonly kind: "say"; readonly space: string | null; readonly state: Json }
  | { readonly kind: "sync"; readonly request: string; readonly scope: Scope }
  | { readonly kind: "synced"; readonly request: string; readonly outcome: Outcome };

export class Tabs {
  readonly #name: string;
  readonly #locks: Locks;
  readonly #channel: BroadcastChannel | null;
  readonly #listeners = new Set<(message: Message) => void>();

  /** `shared`: whether other tabs can have the same store at all. */
  constructor(name: string, shared: boolean, locks: Locks | undefined) {
    this.#name = shared ? name : `${name} ${Math.random()}`;
    this.#locks = locks ?? (shared ? webLocks() : undefined) ?? PROCESS_LOCKS;
    this.#channel = shared && typeof BroadcastChannel === "function" ? new BroadcastChannel(name) : null;
    if (this.#channel === null) return;
    this.#channel.onmessage = ({ data }: { data: unknown }) => this.#hear(data as Message);
    // A channel alone does not keep a Node process from ending.
    (this.#channel as unknown as { unref?: () => void }).unref?.();
  }

  #hear(message: Message): void {
    for (const listener of [...this.#listeners]) listener(message);
  }

  /** What other tabs say, from now on. Returns how to stop it. */
  on(listener: (message: Message) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Tells the other tabs. What no tab hears any more is not missed. */
  post(message: Message): void {
    try {
      this.#channel?.postMessage(message);
    } catch (error) {
      if (this.#listeners.size > 0) console.error("syncd: the other tabs could not be told", error);
    }
  }

  /** Waits for the lead; null when `signal` ended the waiting. */
  lead(signal: AbortSignal): Promise<Release | null> {
    return this.#acquire({ signal });
  }

  /** The lead if nobody has it, else null. */
  tryLead(): Promise<Release | null> {
    return this.#acquire({ ifAvailable: true });
  }

  #acquire(options: { signal?: AbortSignal; ifAvailable?: boolean }): Promise<Release | null> {
    return new Promise((resolve) => {
      const hold = (lock: unknown): Promise<void> => {
        if (lock === null) return Promise.resolve(resolve(null));
        return new Promise((release) => resolve(() => release()));
      };
      this.#locks.request(`syncd:${this.#name}`, options, hold).catch(() => resolve(null));
    });
  }

  close(): void {
    this.#listeners.clear();
    this.#channel?.close();
  }
}

function webLocks(): Locks | undefined {
  // Typed by hand: not every environment that runs this has a navigator, and not every navigator has locks.
  return (globalThis as { navigator?: { locks?: Locks } }).navigator?.locks;
}

/** Locks among the replicas of one process, first come, first served. */
class ProcessLocks implements Locks {
  readonly #queues = new Map<string, (() => void)[]>();

  async request(
    name: string,
    { signal, ifAvailable }: { signal?: AbortSignal; ifAvailable?: boolean },
    held: (lock: unknown) => Promise<void>,
  ): Promise<void> {
    const queue = this.#queues.get(name);
    if (queue === undefined) this.#queues.set(name, []);
    else if (ifAvailable) return held(null);
    else await this.#wait(queue, signal);
    try {
      await held(name);
    } finally {
      const next = this.#queues.get(name)?.shift();
      if (next === undefined) this.#queues.delete(name);
      else next();
    }
  }

  #wait(queue: (() => void)[], signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        queue.splice(queue.indexOf(enter), 1);
        reject(new Error("aborted"));
      };
      const enter = (): void => {
        signal?.removeEventListener("abort", leave);
        resolve();
      };
      if (signal?.aborted) return reject(new Error("aborted"));
      signal?.addEventListener("abort", leave);
      queue.push(enter);
    });
  }
}

const PROCESS_LOCKS = new ProcessLocks();
