/** Where a dragged card would land. */

import type { DragMoveEvent, DragOverEvent } from "@dnd-kit/react";

/** Before the card `before` of a list; at its end where that is null. */
export interface Landing {
  readonly list: string;
  readonly before: string | null;
}

/** What a droppable says of itself. A list has no card; `next` is the card after this one. */
export interface Target {
  readonly list: string;
  readonly card: string | null;
  readonly next: string | null;
}

/** The landing under the pointer: the upper half of a card is before it, the lower half after it. */
export function landingOf({ operation }: DragMoveEvent | DragOverEvent, y: number): Landing | null {
  const { target } = operation;
  if (target === null) return null;
  const { list, card, next } = target.data as Target;
  if (card === null) return { list, before: null };
  const middle = target.shape?.center.y ?? y;
  return { list, before: y < middle ? card : next };
}

export function sameLanding(one: Landing | null, other: Landing | null): boolean {
  return one === other || (one?.list === other?.list && one?.before === other?.before);
}
