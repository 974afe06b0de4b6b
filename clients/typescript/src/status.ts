/** Where the replica stands as a whole. */

import type { Event, LiveState } from "./data/events.js";
import { Observed, type Source } from "./store/observed.js";
import { waiting } from "./store/outbox.js";

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
    return event.kind === "state" || event.kind === "answered" || event.kind === "changes";
  }

  protected now(): Promise<SyncStatus> {
    return this.source.read(async (tx) => {
      const states = ["pending", "rejected", "aside"] as const;
      const counts = states.map(async (state) => [state, await tx.count("outbox", [state], "state")]);
      const counted = Object.fromEntries(await Promise.all(counts)) as Record<
        (typeof states)[number],
        number
      >;
      return { live: this.#live(), synced: !(await waiting(tx)), ...counted };
    });
  }

  protected override async next(previous: SyncStatus | undefined): Promise<SyncStatus> {
    const status = await this.now();
    return previous !== undefined && JSON.stringify(previous) === JSON.stringify(status) ? previous : status;
  }
}
