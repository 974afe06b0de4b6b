/** Documents that RxDB passes over as they are pulled, handed over once more. */

import { documentOf } from "./documents.js";
import type { Feed } from "./feed.js";
import type { Pulled } from "./pull.js";

/**
 * RxDB ignores a pulled document that has an edit of its own, until it has noted that the edit was pushed; it counts on
 * the push to tell of a conflict. But it notes that when the last of several batches was answered, so what others wrote
 * after the first answer would be missing for good; and an edit that puts back what was there before is not pushed.
 */
export class Redelivery {
  readonly #feed: Feed;
  /** How many edits of each document RxDB has not gone through. */
  readonly #edits = new Map<string, number>();
  readonly #ignored = new Set<string>();
  readonly #due = new Set<string>();
  /** What was handed over last, and RxDB may not have written yet. */
  #handed: ReadonlySet<string> = new Set();
  /** What of that was due. */
  readonly #again = new Set<string>();

  constructor(feed: Feed) {
    this.#feed = feed;
  }

  /**
   * Documents that are edited, or pushed. The function to call when RxDB is through with that: whether there is something
   * to pull.
   */
  editing(ids: Iterable<string>): () => boolean {
    const edited = new Set(ids);
    for (const id of edited) {
      this.#edits.set(id, (this.#edits.get(id) ?? 0) + 1);
      if (this.#handed.has(id)) this.#ignored.add(id);
    }
    return () => {
      const asked = this.#due.size > 0;
      for (const id of edited) this.#through(id);
      return !asked && this.#due.size > 0;
    };
  }

  #through(id: string): void {
    const edits = (this.#edits.get(id) ?? 0) - 1;
    if (edits > 0) {
      this.#edits.set(id, edits);
      return;
    }
    this.#edits.delete(id);
    if (this.#ignored.delete(id)) this.#due.add(id);
  }

  /** Documents that are being pushed, and are to be handed over when RxDB is through with that. */
  ignored(ids: Iterable<string>): void {
    for (const id of ids) this.#ignored.add(id);
  }

  /** What was pulled, and what was ignored before. */
  async complete({ documents, checkpoint }: Pulled): Promise<Pulled> {
    const { shape, shadow } = this.#feed;
    const due = [...this.#due];
    const shades = await shadow.of(due);
    for (const id of due) {
      this.#due.delete(id);
      this.#again.add(id);
    }
    const again = Array.from(shades.values(), ({ id, registers }) => documentOf(id, registers, shape));
    const all = [...documents, ...again];
    const ids = all.map((document) => String(document[shape.primary]));
    for (const id of ids) if (this.#edits.has(id)) this.#ignored.add(id);
    this.#handed = new Set(ids);
    return { documents: all, checkpoint };
  }

  /**
   * RxDB has gone through what was handed over; `dropped`: or was paused meanwhile, and may have dropped it. Whether there
   * is something to pull for that.
   */
  written(dropped: boolean): boolean {
    const again = dropped ? [...this.#again] : [];
    for (const id of again) this.#due.add(id);
    this.#again.clear();
    this.#handed = new Set();
    return again.length > 0;
  }
}
