/** Documents that RxDB passes over as they are pulled, handed over once more. */

import { documentOf } from "./documents.js";
import type { Feed } from "./feed.js";
import type { Pulled } from "./pull.js";

/**
 * RxDB ignores a pulled document that has an edit of its own, until it has noted that the edit was pushed; it counts on
 * the push to tell of a conflict. It notes that when the last of several batches was answered, so what others wrote
 * after the first answer would be missing for good.
 */
export class Redelivery {
  readonly #feed: Feed;
  readonly #pushing = new Set<ReadonlySet<string>>();
  readonly #ignored = new Set<string>();

  constructor(feed: Feed) {
    this.#feed = feed;
  }

  /** Documents that are being pushed. The function to call when RxDB has noted it: whether there is something to pull. */
  pushing(ids: ReadonlySet<string>): () => boolean {
    this.#pushing.add(ids);
    return () => {
      this.#pushing.delete(ids);
      return this.#ignored.size > 0;
    };
  }

  /** What was pulled, and what was ignored before. */
  async complete({ documents, checkpoint }: Pulled): Promise<Pulled> {
    const { shape, shadow } = this.#feed;
    const due = [...this.#ignored].filter((id) => !this.#isPushed(id));
    for (const id of due) this.#ignored.delete(id);
    for (const document of documents) {
      const id = String(document[shape.primary]);
      if (this.#isPushed(id)) this.#ignored.add(id);
    }
    const shades = await shadow.of(due);
    const again = Array.from(shades.values(), ({ id, registers }) => documentOf(id, registers, shape));
    return { documents: [...documents, ...again], checkpoint };
  }

  #isPushed(id: string): boolean {
    return [...this.#pushing].some((ids) => ids.has(id));
  }
}
