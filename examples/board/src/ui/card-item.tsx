/** A card in its list: opened by a click or Enter, moved by dragging it or by Alt and an arrow. */

import { pointerIntersection } from "@dnd-kit/collision";
import { useDraggable, useDroppable } from "@dnd-kit/react";
import { type KeyboardEvent, memo, type ReactNode, useCallback } from "react";
import type { Actions } from "../actions.js";
import type { Card, List } from "../tables.js";
import { CardFace } from "./card-face.js";
import { SHOW_CARD } from "./card-rows.js";
import { useDesk } from "./context.js";
import type { Target } from "./drag.js";

export interface CardItemProps {
  readonly card: Card;
  /** The card after this one, as shown. */
  readonly next: string | null;
  readonly list: List;
  readonly lists: readonly List[];
  readonly place: number;
  readonly all: ReadonlyMap<string, readonly Card[]>;
  readonly comments: number;
  readonly viewers: readonly string[] | undefined;
  readonly unsent: boolean;
  readonly onOpen: (card: string) => void;
}

const NOBODY: readonly string[] = [];

export const CardItem = memo(function CardItem(props: CardItemProps): ReactNode {
  const { card, next, comments, viewers = NOBODY, unsent, onOpen } = props;
  const { actions } = useDesk();
  const data: Target = { list: card.list, card: card.id, next };
  const drag = useDraggable({ id: card.id, data: { card } });
  const drop = useDroppable({
    id: `card:${card.id}`,
    data,
    collisionPriority: 2,
    collisionDetector: pointerIntersection,
  });
  const ref = useCallback(
    (element: Element | null) => {
      drag.ref(element);
      drop.ref(element);
    },
    [drag.ref, drop.ref],
  );
  return (
    <button
      type="button"
      className="card"
      ref={ref}
      data-card={card.id}
      data-dragged={drag.isDragSource}
      aria-keyshortcuts="Alt+ArrowUp Alt+ArrowDown Alt+ArrowLeft Alt+ArrowRight"
      onClick={() => onOpen(card.id)}
      onKeyDown={(event) => press(event, props, actions)}
    >
      <CardFace card={card} comments={comments} viewers={viewers} unsent={unsent} />
    </button>
  );
});

/** Alt and an arrow moves the card; it keeps the focus, wherever it comes to stand. */
function press(event: KeyboardEvent<HTMLButtonElement>, props: CardItemProps, actions: Actions): void {
  if (!event.altKey || !event.key.startsWith("Arrow")) return;
  event.preventDefault();
  const { card, lists, place, all } = props;
  const own = all.get(card.list) ?? [];
  const at = own.findIndex(({ id }) => id === card.id);
  const sideways = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const list = lists[place + (sideways ?? 0)];
  if (list === undefined) return;
  const cards = all.get(list.id) ?? [];
  const index = sideways === undefined ? at + (event.key === "ArrowUp" ? -1 : 1) : Math.min(at, cards.length);
  if (index < 0 || (sideways === undefined && index >= cards.length)) return;
  void actions.moveCard(card, list, cards, index).then(() => holdFocus(card.id));
}

/** Frames for which a card that moved is looked for, and after which its list is asked to scroll to it. */
const FRAMES = 20;
const PATIENCE = 8;

/** The list draws the card anew a little later; the focus it had is lost with the old one. */
function holdFocus(card: string, frame = 0): void {
  if (document.activeElement === document.body) {
    const found = document.querySelector<HTMLElement>(`[data-card="${CSS.escape(card)}"]`);
    if (found !== null) found.focus();
    else if (frame === PATIENCE) window.dispatchEvent(new CustomEvent(SHOW_CARD, { detail: card }));
  }
  if (frame < FRAMES) requestAnimationFrame(() => holdFocus(card, frame + 1));
}
