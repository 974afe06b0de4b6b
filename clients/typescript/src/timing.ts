/** One after the other, in time, and pauses that end early. */

/** Runs works one after the other. */
export class Mutex {
  #last: Promise<unknown> = Promise.resolve();

  /** Raises the reason of `signal` when that comes before the turn does; then the work is not done. */
  run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    let begun = false;
    const done = this.#last.then(() => {
      signal?.throwIfAborted();
      begun = true;
      return work();
    });
    this.#last = done.catch(() => undefined);
    return new Promise((resolve, reject) => {
      done.then(resolve, reject);
      signal?.addEventListener("abort", () => begun || reject(signal.reason), { once: true });
    });
  }
}

/**
 * What the application's function answers. Raises `late` when it has not answered in so many milliseconds, which are
 * counted in halves: a page that was frozen meanwhile gets the second half after it.
 */
export async function inTime<T>(answer: () => T | Promise<T>, patience: number, late: Error): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const ended = new Promise<never>((_, reject) => {
    const second = (): void => {
      timer = setTimeout(() => reject(late), patience / 2);
    };
    timer = setTimeout(second, patience / 2);
  });
  try {
    return await Promise.race([(async () => answer())(), ended]);
  } finally {
    clearTimeout(timer);
  }
}

/** Wakes the one who waits for it; rung before, it does not let him wait. */
export class Wakeup {
  #woken = false;
  #resolve: (() => void) | null = null;

  wake(): void {
    this.#woken = true;
    this.#resolve?.();
  }

  /** Until it is rung, `pause` milliseconds are over, or `signal` ends it. */
  wait(signal: AbortSignal, pause = Infinity): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", end);
        this.#woken = false;
        this.#resolve = null;
        resolve();
      };
      // Timers count in 32 bits.
      const timer = pause < 2e9 ? setTimeout(end, pause) : undefined;
      if (this.#woken || signal.aborted) return end();
      this.#resolve = end;
      signal.addEventListener("abort", end);
    });
  }
}

/** Sleeps so many milliseconds, or until `signal` ends it. */
export function sleep(pause: number, signal: AbortSignal): Promise<void> {
  return new Wakeup().wait(signal, pause);
}

/** So that devices spread out. */
export function vary(pause: number): number {
  return pause * (0.75 + Math.random() / 2);
}

/** Milliseconds that the application's functions have to answer. */
export const CALLBACK_TIMEOUT = 30_000;
