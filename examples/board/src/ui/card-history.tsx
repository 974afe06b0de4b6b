/** A card's history by field: who wrote what, when, on which device, and what lost. */

import { useStatus } from "@syncd/client/react";
import { type ReactNode, useEffect, useId, useState } from "react";
import type { Board } from "../board.js";
import { type FieldWrite, historyOf } from "../history.js";
import { nameOf } from "../identity.js";
import type { Card, Tables } from "../tables.js";
import { Avatar } from "./avatar.js";
import { useDesk, usePast, useStanding } from "./context.js";
import { Moment } from "./moment.js";

type Found = { readonly fields: Map<string, FieldWrite[]> } | { readonly fault: string };

const NAMES: { readonly [field: string]: string } = {
  title: "Title",
  description: "Description",
  labels: "Labels",
  due: "Due",
  list: "List",
  rank: "Position",
  deletedAt: "Deleted",
};

export function CardHistory({ card, board }: { card: Card; board: Board }): ReactNode {
  const [open, setOpen] = useState(false);
  const id = useId();
  return (
    <section className="history">
      <button type="button" aria-expanded={open} aria-controls={id} onClick={() => setOpen(!open)}>
        History
      </button>
      {open && (
        <section id={id} aria-label="History">
          <Fields card={card} board={board} />
        </section>
      )}
    </section>
  );
}

const AWAY = "The server keeps the history, and it cannot be reached.";

function Fields({ card, board }: { card: Card; board: Board }): ReactNode {
  const { offline } = useStanding();
  const found = useHistory(card);
  if (offline) return <p>You are offline. The server keeps the history: come back to see it.</p>;
  if (found === null) return <p>Asking the server…</p>;
  if ("fault" in found) return <p>{found.fault}</p>;
  if (found.fields.size === 0) return <p>The server has nothing of this card yet.</p>;
  const names = [...new Set([...Object.keys(NAMES), ...found.fields.keys()])];
  return names.map((field) => {
    const writes = found.fields.get(field) ?? [];
    return (
      writes.length > 0 && <Writes key={field} name={NAMES[field] ?? field} writes={writes} board={board} />
    );
  });
}

/** Asked for again whenever the card reads differently here, or the server has taken something; null at first. */
function useHistory(card: Card): Found | null {
  const { session } = useDesk();
  const { accepted } = usePast();
  const state = useStatus<Tables>(session.replica)?.live.name;
  const reachable = state === "live" || state === "polling";
  const [found, setFound] = useState<Found | null>(null);
  // `card` and `accepted` say that there may be more
  useEffect(() => {
    if (!reachable) return;
    let over = false;
    const show = (answer: Found): void => {
      if (!over) setFound(answer);
    };
    historyOf(session, card.id).then(
      (fields) => show({ fields }),
      () => show({ fault: AWAY }),
    );
    return () => {
      over = true;
    };
  }, [session, card, reachable, accepted]);
  return state === undefined || reachable ? found : { fault: AWAY };
}

interface WritesProps {
  readonly name: string;
  readonly writes: readonly FieldWrite[];
  readonly board: Board;
}

function Writes({ name, writes, board }: WritesProps): ReactNode {
  const { session } = useDesk();
  const id = useId();
  const stands = writes.find(({ lost }) => !lost);
  return (
    <div className="past">
      <h4 id={id}>{name}</h4>
      <ol aria-labelledby={id}>
        {writes.map(({ seq, value, user, device, at, lost }) => (
          <li key={`${seq}-${lost}`} data-lost={lost} data-stands={seq === stands?.seq}>
            <Avatar name={nameOf(user)} />
            <span className="value">{name === "List" ? listName(board, value) : spoken(value)}</span>
            <span className="who">
              {nameOf(user)}, <Moment at={at} />,{" "}
              <span title={device}>
                {device === session.replica.clientId ? "this device" : `device ${device.slice(-4)}`}
              </span>
              {lost && <b className="lost">superseded</b>}
            </span>
          </li>
        ))}
      </ol>
    </div>
  );
}

function listName(board: Board, value: unknown): string {
  const all = [...board.lists, ...board.deletedLists];
  return all.find(({ id }) => id === value)?.title ?? spoken(value);
}

function spoken(value: unknown): string {
  if (value === null || value === "" || (Array.isArray(value) && value.length === 0)) return "nothing";
  if (Array.isArray(value)) return value.join(", ");
  return typeof value === "string" ? value : JSON.stringify(value);
}
