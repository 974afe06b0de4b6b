/** The lists side by side, and what is dragged between them. */

import { Accessibility } from "@dnd-kit/dom";
import {
  DragDropProvider,
  type DragEndEvent,
  type DragMoveEvent,
  type DragOverEvent,
  DragOverlay,
  PointerSensor,
} from "@dnd-kit/react";
import { memo, type ReactNode, useCallback, useMemo, useState } from "react";
import { type Board, search } from "../board.js";
import type { Card, Comment, List } from "../tables.js";
import { CardFace } from "./card-face.js";
import { Column } from "./column.js";
import { useDesk } from "./context.js";
import { type Landing, landingOf, sameLanding } from "./drag.js";
import { TitleForm } from "./title-form.js";

/** Keys are the cards' own: Enter opens one, Alt and an arrow moves it. */
const SENSORS = [PointerSensor];

export interface ColumnsProps {
  readonly board: Board;
  readonly comments: ReadonlyMap<string, readonly Comment[]>;
  readonly viewers: ReadonlyMap<string, readonly string[]>;
  readonly unsent: ReadonlySet<string>;
  readonly sought: string;
  readonly onOpen: (card: string) => void;
}

export const Columns = memo(function Columns(props: ColumnsProps): ReactNode {
  const { board, comments, viewers, unsent, sought, onOpen } = props;
  const { actions } = useDesk();
  const [landing, setLanding] = useState<Landing | null>(null);
  const [dragged, setDragged] = useState<Card | null>(null);
  const shown = useMemo(
    () => new Map(Array.from(board.cards, ([list, cards]) => [list, search(cards, sought)])),
    [board.cards, sought],
  );
  const follow = useCallback((event: DragMoveEvent | DragOverEvent, y: number) => {
    const next = landingOf(event, y);
    setLanding((previous) => (sameLanding(previous, next) ? previous : next));
  }, []);
  const drop = (event: DragEndEvent): void => {
    if (!event.canceled && landing !== null && dragged !== null)
      void land(board, dragged, landing, actions.moveCard.bind(actions));
    setLanding(null);
    setDragged(null);
  };
  return (
    <DragDropProvider
      sensors={SENSORS}
      plugins={(usual) => usual.filter((plugin) => plugin !== Accessibility)}
      onDragStart={({ operation }) => setDragged((operation.source?.data.card as Card | undefined) ?? null)}
      onDragMove={(event) => follow(event, event.to?.y ?? event.operation.position.current.y)}
      onDragOver={(event) => follow(event, event.operation.position.current.y)}
      onDragEnd={drop}
    >
      <div className="columns">
        {board.lists.map((list, place) => (
          <Column
            key={list.id}
            list={list}
            place={place}
            lists={board.lists}
            cards={shown.get(list.id) ?? []}
            all={board.cards}
            comments={comments}
            viewers={viewers}
            unsent={unsent}
            landing={landing?.list === list.id ? landing : null}
            dragged={dragged?.id ?? null}
            sought={sought}
            onOpen={onOpen}
          />
        ))}
        <div className="column">
          <div className="pile adds">
            <TitleForm
              button="Add a list"
              label="Title of the new list"
              onTitle={(title) => actions.addList(board.lists, title)}
            />
          </div>
        </div>
      </div>
      <DragOverlay dropAnimation={null}>
        {dragged && (
          <div className="card lifted">
            <CardFace card={dragged} comments={comments.get(dragged.id)?.length ?? 0} viewers={[]} />
          </div>
        )}
      </DragOverlay>
    </DragDropProvider>
  );
});

type Move = (card: Card, list: List, cards: readonly Card[], index: number) => Promise<void>;

/** Puts the card where it was dropped, unless that is where it was. */
async function land(board: Board, card: Card, { list: id, before }: Landing, move: Move): Promise<void> {
  const list = board.lists.find((one) => one.id === id);
  const cards = board.cards.get(id) ?? [];
  if (list === undefined || before === card.id) return;
  const others = cards.filter((one) => one.id !== card.id);
  const index = before === null ? others.length : others.findIndex((one) => one.id === before);
  const stands = cards.findIndex((one) => one.id === card.id);
  if (index < 0 || index === stands) return;
  await move(card, list, cards, index);
}
