/** The board of a signed-in user, and the dialogs over it. */

import { type ReactNode, useDeferredValue, useEffect, useMemo, useState } from "react";
import type { Board } from "../board.js";
import type { Card } from "../tables.js";
import { FirstSync, Removed } from "./banners.js";
import { CardDialog } from "./card-dialog.js";
import { Columns } from "./columns.js";
import { useDesk, useStanding } from "./context.js";
import { DeletedDialog } from "./deleted-dialog.js";
import { Header } from "./header.js";
import { NoticeLine } from "./notice-line.js";
import { useOthers, viewersOf } from "./people.js";
import { useBoard, useComments, useUnsent } from "./rows.js";
import { SyncDetails } from "./sync-details.js";
import { SyncStrip } from "./sync-strip.js";

export function BoardPage({ onSignOut }: { onSignOut: () => void }): ReactNode {
  const board = useBoard();
  if (board === null) return <p className="loading">Reading what is here…</p>;
  return <Page board={board} onSignOut={onSignOut} />;
}

function Page({ board, onSignOut }: { board: Board; onSignOut: () => void }): ReactNode {
  const comments = useComments();
  const unsent = useUnsent();
  const others = useOthers();
  const viewers = useMemo(() => viewersOf(others), [others]);
  const [sought, setSought] = useState("");
  const shown = useDeferredValue(sought);
  const [open, setOpen] = useState<"details" | "deleted" | null>(null);
  const [card, look] = useOpenCard(board);
  const { removed } = useStanding();
  const close = (): void => setOpen(null);
  const onDeleted = (): void => setOpen("deleted");
  return (
    <div className="page">
      <Header {...{ board, others, onDeleted, onSignOut }} onSearch={setSought} />
      <SyncStrip onDetails={() => setOpen("details")} />
      <Removed />
      <FirstSync count={[...board.cards.values()].reduce((sum, { length }) => sum + length, 0)} />
      <main aria-label="Board">
        {!removed && <Columns {...{ board, comments, viewers, unsent }} sought={shown} onOpen={look} />}
      </main>
      {open === "details" && <SyncDetails board={board} onClose={close} />}
      {open === "deleted" && <DeletedDialog board={board} onClose={close} />}
      {card !== null && (
        <CardDialog
          {...{ card, board }}
          key={card.id}
          comments={comments.get(card.id) ?? []}
          viewers={viewers.get(card.id) ?? []}
          onClose={() => look(null)}
        />
      )}
      {open === null && card === null && <NoticeLine />}
    </div>
  );
}

/** The card that is looked at, which the others are told of; it is closed when somebody deletes it. */
function useOpenCard(board: Board): [Card | null, (id: string | null) => void] {
  const { session, notices } = useDesk();
  const [looking, look] = useState<string | null>(null);
  const card = useMemo(() => (looking === null ? null : findCard(board, looking)), [board, looking]);
  useEffect(() => session.look(looking), [session, looking]);
  const gone = looking !== null && card === null;
  useEffect(() => {
    if (!gone) return;
    look(null);
    notices.say("This card is not here any more");
  }, [gone, notices]);
  return [card, look];
}

function findCard(board: Board, id: string): Card | null {
  for (const cards of board.cards.values()) {
    const found = cards.find((card) => card.id === id);
    if (found !== undefined) return found;
  }
  return null;
}
