/** A card, opened: its fields, where it stands, its comments and its history. */

import { type BoundField, useField } from "@syncd/client/react";
import { type ReactNode, useId, useRef, useState } from "react";
import type { Board } from "../board.js";
import { type Card, type Comment, LABELS } from "../tables.js";
import { Avatar } from "./avatar.js";
import { CardHistory } from "./card-history.js";
import { Comments } from "./comments.js";
import { useDesk } from "./context.js";
import { Dialog } from "./dialog.js";

export interface CardDialogProps {
  readonly card: Card;
  readonly board: Board;
  readonly comments: readonly Comment[];
  readonly viewers: readonly string[];
  readonly onClose: () => void;
}

export function CardDialog({ card, board, comments, viewers, onClose }: CardDialogProps): ReactNode {
  const { actions } = useDesk();
  return (
    <Dialog title={card.title} label={card.title} onClose={onClose}>
      {viewers.length > 0 && (
        <p className="also">
          {viewers.map((name) => (
            <Avatar key={name} name={name} />
          ))}
          {viewers.join(", ")} {viewers.length === 1 ? "is" : "are"} here too
        </p>
      )}
      <Texts card={card} />
      <div className="pair">
        <Due card={card} />
        <Labels card={card} />
      </div>
      <Place card={card} board={board} />
      <Comments card={card} comments={comments} />
      <CardHistory card={card} board={board} />
      <footer>
        <button
          type="button"
          className="danger"
          onClick={() => {
            onClose();
            void actions.deleteCard(card);
          }}
        >
          Delete card
        </button>
      </footer>
    </Dialog>
  );
}

function Texts({ card }: { card: Card }): ReactNode {
  const { replica, space } = useDesk().session;
  const id = useId();
  const title = useField(replica, "cards", card.id, "title", { space });
  // A card has a title: one that is blank, while another is typed, stays here, and the card keeps what it had.
  const [blank, setBlank] = useState<string | null>(null);
  const before = useRef(card.title);
  const type = (text: string): void => {
    const empty = text.trim() === "";
    setBlank(empty ? text : null);
    title.set(empty ? before.current : text);
  };
  const description = useField(replica, "cards", card.id, "description", { space });
  return (
    <>
      <div className="field">
        <label htmlFor={`${id}-title`}>Title</label>
        <input
          id={`${id}-title`}
          maxLength={500}
          {...title.props}
          value={blank ?? title.props.value}
          onFocus={() => {
            before.current = title.value ?? card.title;
          }}
          onChange={({ target }) => type(target.value)}
          onBlur={() => {
            setBlank(null);
            title.onBlur();
          }}
          onKeyDown={(event) => event.key === "Enter" && event.currentTarget.blur()}
        />
        <Theirs field={title} />
        <Fault field={title} />
      </div>
      <div className="field">
        <label htmlFor={`${id}-description`}>Description</label>
        <textarea id={`${id}-description`} rows={4} {...description.props} />
        <Theirs field={description} />
        <Fault field={description} />
      </div>
    </>
  );
}

/** What somebody else wrote while this was typed. */
function Theirs({ field: { theirs, set } }: { field: BoundField<string> }): ReactNode {
  if (theirs === undefined) return null;
  return (
    <button type="button" className="quiet" onClick={() => set(theirs)}>
      Take what was written meanwhile: {theirs}
    </button>
  );
}

/** Why what was typed is not on the card. */
function Fault({ field: { error } }: { field: BoundField<string> }): ReactNode {
  if (error === null) return null;
  return (
    <p role="alert" className="fault">
      {error.message}
    </p>
  );
}

function Due({ card }: { card: Card }): ReactNode {
  const { actions } = useDesk();
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>Due</label>
      <input
        id={id}
        type="date"
        value={card.due ?? ""}
        onChange={(event) => void actions.editCard(card, { due: event.target.value || null })}
      />
    </div>
  );
}

function Labels({ card }: { card: Card }): ReactNode {
  const { actions } = useDesk();
  const known = [...new Set([...LABELS, ...card.labels])];
  const toggle = (label: string): void => {
    const labels = card.labels.includes(label)
      ? card.labels.filter((one) => one !== label)
      : [...card.labels, label];
    void actions.editCard(card, { labels });
  };
  return (
    <fieldset className="field">
      <legend>Labels</legend>
      <div className="labels">
        {known.map((label) => (
          <label key={label} className="label" data-label={label}>
            <input type="checkbox" checked={card.labels.includes(label)} onChange={() => toggle(label)} />
            {label}
          </label>
        ))}
      </div>
    </fieldset>
  );
}

function Place({ card, board }: { card: Card; board: Board }): ReactNode {
  const { actions } = useDesk();
  const id = useId();
  const cards = board.cards.get(card.list) ?? [];
  const move = (list: string, index: number): void => {
    const goal = board.lists.find((one) => one.id === list);
    if (goal !== undefined) void actions.moveCard(card, goal, board.cards.get(list) ?? [], index);
  };
  return (
    <div className="pair">
      <div className="field">
        <label htmlFor={`${id}-list`}>List</label>
        <select
          id={`${id}-list`}
          value={card.list}
          onChange={({ target }) => move(target.value, (board.cards.get(target.value) ?? []).length)}
        >
          {board.lists.map((list) => (
            <option key={list.id} value={list.id}>
              {list.title}
            </option>
          ))}
        </select>
      </div>
      <div className="field">
        <label htmlFor={`${id}-position`}>Position</label>
        <select
          id={`${id}-position`}
          value={cards.findIndex((one) => one.id === card.id)}
          onChange={({ target }) => move(card.list, Number(target.value))}
        >
          {positions(cards, card).map((index) => (
            <option key={index} value={index}>
              {index + 1} of {cards.length}
            </option>
          ))}
        </select>
      </div>
    </div>
  );
}

/** How many places around a card are offered in a long list, besides its ends. */
const AROUND = 50;

function positions(cards: readonly Card[], card: Card): number[] {
  const at = cards.findIndex((one) => one.id === card.id);
  const near = cards.map((_, index) => index).slice(Math.max(0, at - AROUND), at + AROUND);
  return [...new Set([0, ...near, cards.length - 1])];
}
