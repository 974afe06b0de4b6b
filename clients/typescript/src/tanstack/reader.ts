/** What all collections of a replica show is read together, so that they show the store as it was at one moment. */

import type { Replica } from "../replica.js";
import type { Source } from "../store/observed.js";
import { sleep } from "../timing.js";
import type { Feed } from "./items.js";

/** Pauses, in milliseconds, before a read that failed is tried again. */
const PAUSES = [100, 1000];
const readers = new WeakMap<object, Reader>();

/** Reads the store for the collections of one replica. */
export class Reader {
  readonly #source: Source;
  readonly #feeds = new Set<Feed>();
  #stop = (): void => {};
  /** The last read that has begun, and the one behind it that has not. */
  #last = Promise.resolve();
  #next: Promise<void> | null = null;

  private constructor(source: Source) {
    this.#source = source;
  }

  static of<S extends object>(replica: Replica<S>, source: Source): Reader {
    const reader = readers.get(replica) ?? new Reader(source);
    readers.set(replica, reader);
    return reader;
  }

  /** Reads for this one, too, until the answer is called. */
  join(feed: Feed): () => void {
    if (this.#feeds.size === 0) {
      this.#stop = this.#source.on((event) => {
        if ([...this.#feeds].filter((one) => one.concerns(event)).length > 0) this.#refresh();
      });
    }
    this.#feeds.add(feed);
    this.#refresh();
    return () => {
      if (this.#feeds.delete(feed) && this.#feeds.size === 0) this.#stop();
    };
  }

  /** All that is in the store by now has been told. */
  settled(): Promise<void> {
    return this.#next ?? this.#last;
  }

  #refresh(): void {
    this.#next ??= this.#last.then(() => {
      this.#last = this.#next as Promise<void>;
      this.#next = null;
      return this.#read();
    });
  }

  async #read(): Promise<void> {
    const taken = [...this.#feeds].map((feed) => [feed, feed.take()] as const);
    try {
      const read = await this.#patiently(() =>
        this.#source.read((tx) =>
          Promise.all(
            taken.map(async ([feed, changed]) => ({ feed, changed, rows: await feed.read(tx, changed) })),
          ),
        ),
      );
      for (const { feed, changed, rows } of read) this.#each(feed, () => feed.tell(changed, rows));
    } catch (error) {
      for (const [feed] of taken) this.#each(feed, () => feed.fail(error));
    }
  }

  /** A listener of one collection that raises keeps nothing from the others. */
  #each(feed: Feed, tell: () => void): void {
    if (!this.#feeds.has(feed)) return;
    try {
      tell();
    } catch (error) {
      feed.missed();
      console.error("syncd: a listener failed", error);
    }
  }

  async #patiently<T>(read: () => Promise<T>): Promise<T> {
    for (const pause of PAUSES) {
      try {
        return await read();
      } catch {
        await sleep(pause, new AbortController().signal);
      }
    }
    return read();
  }
}
