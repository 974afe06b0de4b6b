/** The cards of a list, as many of them as can be seen. */

import { type ReactNode, useRef } from "react";
import { CardItem } from "./card-item.js";
import { useCardRows } from "./card-rows.js";
import type { ColumnProps } from "./column.js";

export function Cards(props: ColumnProps): ReactNode {
  const { list, lists, place, cards, all, comments, viewers, unsent, landing, dragged, onOpen } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const rows = useCardRows(scroller, cards, dragged);
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
                {...{ card, list, lists, place, all, onOpen }}
                next={cards[index + 1]?.id ?? null}
                comments={comments.get(card.id)?.length ?? 0}
                viewers={viewers.get(card.id)}
                unsent={unsent.has(card.id)}
              />
            </li>
          );
        })}
      </ul>
    </div>
  );
}
