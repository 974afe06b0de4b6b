/** What the page says for a moment: a line for everybody who reads, with a way back where there is one. */

export interface Notice {
  readonly number: number;
  readonly text: string;
  readonly undo: (() => Promise<unknown>) | null;
}

/** How long a notice stays, in milliseconds. */
const STAYS = 8000;

export class Notices {
  readonly #listeners = new Set<() => void>();
  #notice: Notice | null = null;
  #number = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  get current(): Notice | null {
    return this.#notice;
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  say(text: string, undo: Notice["undo"] = null): void {
    this.#number += 1;
    this.#show({ number: this.#number, text, undo });
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#show(null), STAYS);
  }

  /** Takes back what the notice told of. */
  readonly undo = (): void => {
    const undo = this.#notice?.undo;
    this.say("Taken back");
    undo?.().catch(() => this.say("That could not be taken back"));
  };

  #show(notice: Notice | null): void {
    this.#notice = notice;
    for (const listener of this.#listeners) listener();
  }
}
