/** Which cards of a list are in the page: those in view, a few beyond them, and the one that is dragged. */

import {
  defaultRangeExtractor,
  type Range,
  type ReactVirtualizer,
  useVirtualizer,
} from "@tanstack/react-virtual";
import { type RefObject, useEffect, useLayoutEffect, useRef } from "react";
import type { Card } from "../tables.js";

/** Pixels; each card is measured once it is in the page. */
const USUAL_HEIGHT = 64;
const GAP = 8;
/** An event of the window: the list that has the card `detail` scrolls to it. */
export const SHOW_CARD = "show-card";
/** How many cards beyond those in view. */
const BEYOND = 6;

export function useCardRows(
  scroller: RefObject<HTMLDivElement | null>,
  cards: readonly Card[],
  dragged: string | null,
): ReactVirtualizer<HTMLDivElement, Element> {
  const held = dragged === null ? -1 : cards.findIndex(({ id }) => id === dragged);
  const rows = useVirtualizer({
    count: cards.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => USUAL_HEIGHT,
    getItemKey: (index) => cards[index]?.id ?? index,
    gap: GAP,
    overscan: BEYOND,
    // The browser lets go of what is taken out of the page.
    rangeExtractor: (range) => including(held, range),
  });
  const count = useRef(cards.length);
  useLayoutEffect(() => {
    const adding = scroller.current?.parentElement?.contains(document.activeElement);
    if (cards.length === count.current + 1 && adding) rows.scrollToIndex(cards.length - 1);
    count.current = cards.length;
  }, [cards.length, rows, scroller]);
  useEffect(() => {
    const show = (event: Event): void => {
      const index = cards.findIndex(({ id }) => event instanceof CustomEvent && id === event.detail);
      if (index >= 0) rows.scrollToIndex(index, { align: "center" });
    };
    window.addEventListener(SHOW_CARD, show);
    return () => window.removeEventListener(SHOW_CARD, show);
  }, [cards, rows]);
  return rows;
}

function including(held: number, range: Range): number[] {
  const seen = defaultRangeExtractor(range);
  return held < 0 || seen.includes(held) ? seen : [...seen, held].sort((one, other) => one - other);
}
