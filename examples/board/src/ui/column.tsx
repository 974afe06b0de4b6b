/** One list: its heading and menu, its cards, and a place for a new one. */

import { pointerIntersection } from "@dnd-kit/collision";
import { useDroppable } from "@dnd-kit/react";
import { memo, type ReactNode, useId, useState } from "react";
import type { Card, Comment, List } from "../tables.js";
import { Cards } from "./cards.js";
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
      {renaming && <RenameField list={list} onEnd={() => setRenaming(false)} />}
      <span className="count" title="Cards">
        {count}
      </span>
      <Menu label={`Menu of ${list.title}`} items={items}>
        <Icon name="dots" />
      </Menu>
    </header>
  );
}

function RenameField({ list, onEnd }: { list: List; onEnd: () => void }): ReactNode {
  const { actions } = useDesk();
  const take = (typed: string): void => {
    onEnd();
    if (typed.trim() !== "") void actions.renameList(list, typed.trim());
  };
  return (
    <input
      aria-label="Title of the list"
      defaultValue={list.title}
      maxLength={200}
      ref={(input) => input?.select()}
      onBlur={(event) => take(event.target.value)}
      onKeyDown={(event) => {
        if (event.key === "Enter") event.currentTarget.blur();
        if (event.key === "Escape") onEnd();
      }}
    />
  );
}
