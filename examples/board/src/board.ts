/** Lists with their cards, made of rows as they come; what did not change stays the same object. Pure. */

import type { Row } from "@syncd/client";
import { inOrder } from "@syncd/client/order";
import {
  type Card,
  type CardFields,
  type Comment,
  type CommentFields,
  type List,
  type ListFields,
  readCard,
  readComment,
  readList,
} from "./tables.js";

/** `deleted`: newest first. Cards of a deleted list are in nobody's `cards`. */
export interface Board {
  readonly lists: readonly List[];
  readonly cards: ReadonlyMap<string, readonly Card[]>;
  readonly deletedLists: readonly List[];
  readonly deletedCards: readonly Card[];
}

const NO_CARDS: readonly Card[] = [];

export const EMPTY: Board = { lists: [], cards: new Map(), deletedLists: [], deletedCards: [] };

/** The board of these rows. */
export function arrange(
  previous: Board,
  lists: readonly Row<ListFields>[],
  cards: readonly Row<CardFields>[],
): Board {
  const [livingLists, deletedLists] = split(lists.map(readList));
  const [livingCards, deletedCards] = split(cards.map(readCard));
  const grouped = new Map<string, Card[]>(livingLists.map(({ id }) => [id, []]));
  for (const card of livingCards) grouped.get(card.list)?.push(card);
  const kept = new Map<string, readonly Card[]>();
  for (const [list, group] of grouped) kept.set(list, keep(previous.cards.get(list), ranked(group)));
  return {
    lists: keep(previous.lists, ranked(livingLists)),
    cards: kept,
    deletedLists: keep(previous.deletedLists, deletedLists.sort(latestFirst)),
    deletedCards: keep(previous.deletedCards, deletedCards.sort(latestFirst)),
  };
}

/** Comments by card, oldest first. */
export function byCard(
  previous: ReadonlyMap<string, readonly Comment[]>,
  rows: readonly Row<CommentFields>[],
): ReadonlyMap<string, readonly Comment[]> {
  const grouped = new Map<string, Comment[]>();
  for (const comment of rows.map(readComment)) {
    const group = grouped.get(comment.card);
    if (group === undefined) grouped.set(comment.card, [comment]);
    else group.push(comment);
  }
  const kept = new Map<string, readonly Comment[]>();
  for (const [card, group] of grouped) kept.set(card, keep(previous.get(card), group));
  return kept;
}

/** The cards that have every word that is searched for. */
export function search(cards: readonly Card[] = NO_CARDS, sought: string): readonly Card[] {
  const words = sought.toLowerCase().split(/\s+/).filter(Boolean);
  return words.length === 0
    ? cards
    : cards.filter((card) => words.every((word) => card.words.includes(word)));
}

function split<T extends { readonly deletedAt: string | null }>(all: readonly T[]): [T[], T[]] {
  const living: T[] = [];
  const deleted: T[] = [];
  for (const one of all) (one.deletedAt === null ? living : deleted).push(one);
  return [living, deleted];
}

function ranked<T extends { readonly rank: string; readonly id: string }>(group: readonly T[]): T[] {
  return inOrder(group, ({ rank }) => rank);
}

function latestFirst(one: { deletedAt: string | null }, other: { deletedAt: string | null }): number {
  return (other.deletedAt ?? "").localeCompare(one.deletedAt ?? "");
}

function keep<T>(previous: readonly T[] | undefined, next: readonly T[]): readonly T[] {
  const same = previous?.length === next.length && next.every((one, place) => one === previous[place]);
  return same && previous !== undefined ? previous : next;
}
