/** Web Locks for tests: those of one process, first come, first served. A tab that crashes gives its locks back. */

import type { Locks } from "../src/index.js";

export class ProcessLocks implements Locks {
  readonly #queues = new Map<string, (() => void)[]>();
  readonly #held = new Map<string, () => void>();

  async request(
    name: string,
    { signal, ifAvailable }: { signal?: AbortSignal; ifAvailable?: boolean },
    held: (lock: unknown) => Promise<void>,
  ): Promise<void> {
    const queue = this.#queues.get(name);
    if (queue === undefined) this.#queues.set(name, []);
    else if (ifAvailable) return held(null);
    else await this.#wait(queue, signal);
    await Promise.race([held(name), new Promise<void>((crash) => this.#held.set(name, crash))]);
    const next = this.#queues.get(name)?.shift();
    if (next === undefined) this.#queues.delete(name);
    else next();
  }

  /** The one who holds it is gone, without a word. */
  crash(name: string): void {
    this.#held.get(name)?.();
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
