/** One list: its heading and menu, its cards (only those in view are in the page), and a place for a new one. */

import { pointerIntersection } from "@dnd-kit/collision";
import { useDroppable } from "@dnd-kit/react";
import { defaultRangeExtractor, useVirtualizer } from "@tanstack/react-virtual";
import { memo, type ReactNode, useId, useLayoutEffect, useRef, useState } from "react";
import type { Card, Comment, List } from "../tables.js";
import { CardItem } from "./card-item.js";
import { useDesk } from "./context.js";
import type { Landing, Target } from "./drag.js";
import { Icon } from "./icons.js";
import { Menu } from "./menu.js";
import { TitleForm } from "./title-form.js";

export interface ColumnProps {
  readonly list: List;
  readonly place: number;
  readonly lists: readonly List[];
  readonly cards: readonly Card[];
  readonly all: ReadonlyMap<string, readonly Card[]>;
  readonly comments: ReadonlyMap<string, readonly Comment[]>;
  readonly viewers: ReadonlyMap<string, readonly string[]>;
  readonly unsent: ReadonlySet<string>;
  readonly landing: Landing | null;
  readonly dragged: string | null;
  readonly sought: string;
  readonly onOpen: (card: string) => void;
}

export const Column = memo(function Column(props: ColumnProps): ReactNode {
  const { list, cards, all, sought } = props;
  const { actions } = useDesk();
  const heading = useId();
  const whole = all.get(list.id) ?? [];
  const data: Target = { list: list.id, card: null, next: null };
  // Cards lie on their list and come first.
  const { ref } = useDroppable({
    id: `list:${list.id}`,
    data,
    collisionPriority: 0,
    collisionDetector: pointerIntersection,
  });
  return (
    <section className="column" aria-labelledby={heading} data-list={list.id} ref={ref}>
      <div className="pile">
        <ColumnHead
          {...props}
          heading={heading}
          count={sought ? `${cards.length} of ${whole.length}` : `${whole.length}`}
        />
        <Cards {...props} />
        <TitleForm
          button="Add a card"
          label="Title of the new card"
          onTitle={(title) => actions.addCard(list, whole, title)}
        />
      </div>
    </section>
  );
});

function ColumnHead({
  list,
  place,
  lists,
  heading,
  count,
}: ColumnProps & { heading: string; count: string }): ReactNode {
  const { actions } = useDesk();
  const [renaming, setRenaming] = useState(false);
  const rename = (title: string): void => {
    setRenaming(false);
    if (title.trim() !== "") void actions.renameList(list, title.trim());
  };
  const items = [
    { text: "Rename", act: () => setRenaming(true) },
    { text: "Move left", act: () => void actions.moveList(list, lists, place - 1), disabled: place === 0 },
    {
      text: "Move right",
      act: () => void actions.moveList(list, lists, place + 1),
      disabled: place === lists.length - 1,
    },
    { text: "Delete", act: () => void actions.deleteList(list) },
  ];
  return (
    <header>
      <h2 id={heading} className={renaming ? "unseen" : undefined} onDoubleClick={() => setRenaming(true)}>
        {list.title}
      </h2>
      {renaming && (
        <input
          aria-label="Title of the list"
          defaultValue={list.title}
          maxLength={200}
          ref={(input) => input?.select()}
          onBlur={(event) => rename(event.target.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter") event.currentTarget.blur();
            if (event.key === "Escape") setRenaming(false);
          }}
        />
      )}
      <span className="count" title="Cards">
        {count}
      </span>
      <Menu label={`Menu of ${list.title}`} items={items}>
        <Icon name="dots" />
      </Menu>
    </header>
  );
}

/** Pixels; each card is measured once it is in the page. */
const USUAL_HEIGHT = 64;
const GAP = 8;

function Cards({
  list,
  lists,
  place,
  cards,
  all,
  comments,
  viewers,
  unsent,
  landing,
  dragged,
  onOpen,
}: ColumnProps): ReactNode {
  const scroller = useRef<HTMLDivElement>(null);
  const held = dragged === null ? -1 : cards.findIndex(({ id }) => id === dragged);
  const rows = useVirtualizer({
    count: cards.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => USUAL_HEIGHT,
    getItemKey: (index) => cards[index]?.id ?? index,
    gap: GAP,
    overscan: 6,
    // What is dragged stays in the page, or the browser would let go of it.
    rangeExtractor: (range) => {
      const seen = defaultRangeExtractor(range);
      return held < 0 || seen.includes(held) ? seen : [...seen, held].sort((one, other) => one - other);
    },
  });
  const count = useRef(cards.length);
  useLayoutEffect(() => {
    // A card that was added at the end is scrolled to.
    if (
      cards.length === count.current + 1 &&
      scroller.current?.parentElement?.contains(document.activeElement)
    ) {
      rows.scrollToIndex(cards.length - 1);
    }
    count.current = cards.length;
  }, [cards.length, rows]);
  return (
    <div className="scroller" ref={scroller} tabIndex={-1}>
      <ul style={{ height: rows.getTotalSize() }} data-landing={landing !== null && landing.before === null}>
        {rows.getVirtualItems().map(({ index, key, start }) => {
          const card = cards[index];
          if (card === undefined) return null;
          return (
            <li
              key={key}
              ref={rows.measureElement}
              data-index={index}
              data-landing={landing?.before === card.id}
              style={{ transform: `translateY(${start}px)` }}
              aria-setsize={cards.length}
              aria-posinset={index + 1}
            >
              <CardItem
                card={card}
                next={cards[index + 1]?.id ?? null}
                list={list}
                lists={lists}
                place={place}
                all={all}
                comments={comments.get(card.id)?.length ?? 0}
                viewers={viewers.get(card.id)}
                unsent={unsent.has(card.id)}
                onOpen={onOpen}
              />
            </li>
          );
        })}
      </ul>
    </div>
  );
}
