/** The board's own schema, and its rows with the gaps closed: another device may have written only some fields. */

import type { Json, Row } from "@syncd/client";
import { isRank } from "@syncd/client/order";

export interface ListFields {
  title: string;
  rank: string;
}

export interface CardFields {
  list: string;
  rank: string;
  title: string;
  description: string;
  labels: readonly string[];
  due: string | null;
}

export interface CommentFields {
  card: string;
  text: string;
  author: string;
  at: string;
}

/** The tables of the app. */
export interface Tables {
  lists: ListFields;
  cards: CardFields;
  comments: CommentFields;
}

export const LABELS = ["bug", "idea", "urgent", "later"] as const;

interface Known {
  readonly id: string;
  readonly deletedAt: string | null;
}
export type List = Known & Readonly<ListFields>;
/** `words`: what a search looks at, in lower case. */
export type Card = Known & Readonly<CardFields> & { readonly words: string };
export type Comment = Known & Readonly<CommentFields>;

/** Once for each row: rows that did not change stay the same objects, and so do these. */
function once<F extends object, T extends object>(read: (row: Row<F>) => T): (row: Row<F>) => T {
  const known = new WeakMap<Row<F>, T>();
  return (row) => {
    const found = known.get(row) ?? read(row);
    known.set(row, found);
    return found;
  };
}

export const readList = once<ListFields, List>(({ id, deletedAt, fields }) => ({
  id,
  deletedAt,
  title: text(fields.title, "Untitled"),
  rank: rank(fields.rank),
}));

export const readCard = once<CardFields, Card>(({ id, deletedAt, fields }) => {
  const title = text(fields.title, "Untitled");
  const description = text(fields.description, "");
  const labels = Array.isArray(fields.labels)
    ? fields.labels.filter((label) => typeof label === "string")
    : [];
  return {
    id,
    deletedAt,
    list: text(fields.list, ""),
    rank: rank(fields.rank),
    title,
    description,
    labels,
    due: typeof fields.due === "string" ? fields.due : null,
    words: [title, description, ...labels].join("\n").toLowerCase(),
  };
});

export const readComment = once<CommentFields, Comment>(({ id, deletedAt, fields }) => ({
  id,
  deletedAt,
  card: text(fields.card, ""),
  text: text(fields.text, ""),
  author: text(fields.author, "?"),
  at: text(fields.at, ""),
}));

function text(value: Json | undefined, otherwise: string): string {
  return typeof value === "string" && value !== "" ? value : otherwise;
}

/** "" where there is none: such stand last. */
function rank(value: Json | undefined): string {
  return isRank(value) ? value : "";
}
