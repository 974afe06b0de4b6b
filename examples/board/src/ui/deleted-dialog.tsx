/** What was deleted, newest first, and the way back. */

import type { ReactNode } from "react";
import type { Board } from "../board.js";
import { useDesk } from "./context.js";
import { Dialog } from "./dialog.js";
import { Moment } from "./moment.js";

/** No more are shown. */
const MOST = 100;

export function DeletedDialog({ board, onClose }: { board: Board; onClose: () => void }): ReactNode {
  const { actions } = useDesk();
  const all = [
    ...board.deletedLists.map((list) => ({ ...list, table: "lists" as const, kind: "List" })),
    ...board.deletedCards.slice(0, MOST).map((card) => ({ ...card, table: "cards" as const, kind: "Card" })),
  ];
  return (
    <Dialog title="Deleted" onClose={onClose}>
      {all.length === 0 && <p>Nothing was deleted.</p>}
      <ul className="deleted" aria-label="Deleted">
        {all.map(({ id, table, kind, title, deletedAt }) => (
          <li key={id}>
            <span>
              {kind} <b>{title}</b> <Moment at={deletedAt ?? ""} />
            </span>
            <button
              type="button"
              aria-label={`Restore ${title}`}
              onClick={() => void actions.restore(table, id)}
            >
              Restore
            </button>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}
