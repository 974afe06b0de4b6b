/** The other devices that are there: the latest presence of every other device. */

import type { Event, Presence } from "../data/events.js";
import { freeze } from "../data/values.js";

export class PresentDevices {
  readonly #held = new Map<string, Presence>();
  readonly #lists = new Map<string | null, readonly Presence[]>();

  /** Takes note of what a device says; anything else changes nothing. */
  note(event: Event): void {
    if (event.kind !== "presence") return;
    const place = JSON.stringify([event.space, event.user, event.client]);
    if (event.state === null) this.#held.delete(place);
    else this.#held.set(place, event);
    this.#lists.delete(event.space);
  }

  get all(): Presence[] {
    return [...this.#held.values()];
  }

  /** Those of one space: the same list until one of them says something else. */
  of(space: string | null): readonly Presence[] {
    const list = this.#lists.get(space) ?? freeze(this.all.filter((device) => device.space === space));
    this.#lists.set(space, list);
    return list;
  }
}
