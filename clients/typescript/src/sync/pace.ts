/** How much goes at a time: as much as the line carries in a few seconds. Pure: times are arguments, in milliseconds. */

/** Bytes a millisecond of a line that moves at all. */
export const SLOWEST = 1;
const GROWTH = 4;

/**
 * A size that begins small, grows with the speed that is measured, and is halved by each failure. `goal`: how long an
 * exchange of that size may take. It counts from 1 to `most` of whatever is counted.
 */
export class Pace {
  declare size: number;
  readonly #most: number;
  readonly #goal: number;
  #speed = 0;

  constructor(first: number, most: number, goal = 10_000) {
    this.#most = Math.max(1, most);
    this.#goal = goal;
    this.size = Math.min(first, this.#most);
  }

  /** So much went through in so long a time. */
  took(amount: number, time: number): void {
    this.#speed = amount / Math.max(1, time);
    const fits = Math.floor(this.#speed * this.#goal);
    if (time > this.#goal) this.size = Math.max(1, Math.floor((this.size * this.#goal) / time));
    else if (amount >= this.size / 2)
      this.size = Math.min(this.#most, Math.max(this.size, Math.min(this.size * GROWTH, fits)));
  }

  /** It did not go through. */
  failed(): void {
    this.size = Math.max(1, Math.floor(this.size / 2));
  }

  /** How long so many bytes may be on their way before silence means anything. */
  allowance(bytes: number): number {
    return bytes / Math.max(SLOWEST, this.#speed / GROWTH);
  }
}

/** Those of a replica: bytes of a push over HTTP and over a socket, changes of a pull. */
export interface Paces {
  readonly push: Pace;
  readonly socket: Pace;
  readonly pull: Pace;
}

/** Nothing else gets through a socket while a frame does, so these stay smaller. */
export function pacesOf({ pushBytes, pullLimit }: { pushBytes: number; pullLimit: number }): Paces {
  return {
    push: new Pace(65_536, pushBytes),
    socket: new Pace(32_768, Math.min(pushBytes, 262_144), 5_000),
    pull: new Pace(250, pullLimit),
  };
}
