/** Where the replica stands as a whole. */

import type { Event, LiveState } from "./data/events.js";
import { Observed, type Source } from "./store/observed.js";
import { waiting } from "./store/outbox.js";
import type { ChangeState } from "./store/store.js";

/** Where the replica stands as a whole: the live sync, and how many changes wait, were refused, are kept aside. */
export interface SyncStatus {
  readonly live: LiveState;
  readonly synced: boolean;
  readonly pending: number;
  readonly rejected: number;
  readonly aside: number;
}

export class StatusView extends Observed<SyncStatus> {
  readonly #live: () => LiveState;

  constructor(source: Source, live: () => LiveState) {
    super(source);
    this.#live = live;
  }

  protected concerns(event: Event): boolean {
    return event.kind !== "presence";
  }

  protected now(): Promise<SyncStatus> {
    return this.source.read(async (tx) => {
      const count = (state: ChangeState): Promise<number> => tx.count("outbox", [state], "state");
      return {
        live: this.#live(),
        synced: !(await waiting(tx)),
        pending: await count("pending"),
        rejected: await count("rejected"),
        aside: await count("aside"),
      };
    });
  }
}
