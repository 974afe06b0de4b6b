/** The board of a signed-in user, and the dialogs over it. */

import { type ReactNode, useCallback, useDeferredValue, useEffect, useMemo, useState } from "react";
import type { Board } from "../board.js";
import type { Card } from "../tables.js";
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

type Open = "details" | "deleted" | null;

export function BoardPage({ onSignOut }: { onSignOut: () => void }): ReactNode {
  const { session } = useDesk();
  const board = useBoard();
  const comments = useComments();
  const unsent = useUnsent();
  const others = useOthers();
  const viewers = useMemo(() => viewersOf(others), [others]);
  const [sought, setSought] = useState("");
  const [open, setOpen] = useState<Open>(null);
  const [looking, setLooking] = useState<string | null>(null);
  const show = useDeferredValue(sought);
  const card = useMemo(() => (board && looking ? findCard(board, looking) : null), [board, looking]);
  useEffect(() => session.look(looking), [session, looking]);
  const close = useCallback(() => setOpen(null), []);
  const { removed } = useStanding();
  if (board === null) return <p className="loading">Reading what is here…</p>;
  return (
    <div className="page">
      <Header
        board={board}
        others={others}
        onSearch={setSought}
        onDeleted={() => setOpen("deleted")}
        onSignOut={onSignOut}
      />
      <SyncStrip onDetails={() => setOpen("details")} />
      <Removed />
      <FirstSync count={[...board.cards.values()].reduce((sum, { length }) => sum + length, 0)} />
      <main aria-label="Board">
        {!removed && (
          <Columns
            board={board}
            comments={comments}
            viewers={viewers}
            unsent={unsent}
            sought={show}
            onOpen={setLooking}
          />
        )}
      </main>
      {open === "details" && <SyncDetails board={board} onClose={close} />}
      {open === "deleted" && <DeletedDialog board={board} onClose={close} />}
      {card && (
        <CardDialog
          key={card.id}
          card={card}
          board={board}
          comments={comments.get(card.id) ?? []}
          viewers={viewers.get(card.id) ?? []}
          onClose={() => setLooking(null)}
        />
      )}
      {open === null && card === null && <NoticeLine />}
    </div>
  );
}

function findCard(board: Board, id: string): Card | null {
  for (const cards of board.cards.values()) {
    const found = cards.find((card) => card.id === id);
    if (found !== undefined) return found;
  }
  return null;
}

/** The first answer of the server may be long: what has come so far is there to use. */
function FirstSync({ count }: { count: number }): ReactNode {
  const { arrived, offline, removed } = useStanding();
  if (arrived || offline || removed) return null;
  return (
    <div className="first-sync">
      <progress aria-label="First sync" />
      <span>{count === 0 ? "Fetching the board…" : `${count.toLocaleString()} cards are here`}</span>
    </div>
  );
}

function Removed(): ReactNode {
  const { session, notices } = useDesk();
  const { removed } = useStanding();
  if (!removed) return null;
  return (
    <div role="alert" className="banner">
      <span>You were removed from this board, so it is not on this device any more.</span>
      <button
        type="button"
        onClick={() => void session.rejoin().catch((error: Error) => notices.say(error.message))}
      >
        Join again
      </button>
    </div>
  );
}
