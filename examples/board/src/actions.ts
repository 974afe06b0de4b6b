/** What people do to the board: each is one write or one batch of the replica, and says how to take it back. */

import type { Replica } from "@syncd/client";
import { type Placed, place } from "@syncd/client/order";
import type { Notices } from "./notices.js";
import type { Card, CardFields, List, Tables } from "./tables.js";

export class Actions {
  readonly #replica: Replica<Tables>;
  readonly #place: { readonly space: string };
  readonly #author: string;
  readonly #notices: Notices;

  constructor(replica: Replica<Tables>, space: string, author: string, notices: Notices) {
    this.#replica = replica;
    this.#place = { space };
    this.#author = author;
    this.#notices = notices;
  }

  // -- lists -----------------------------------------------------------------------------------------

  async addList(lists: readonly List[], title: string): Promise<void> {
    const { rank } = place(ranksOf(lists), lists.length);
    await this.#replica.put("lists", this.#replica.newId(), { title, rank }, this.#place);
    this.#notices.say(`List ${title} added`);
  }

  async renameList(list: List, title: string): Promise<void> {
    if (title === list.title) return;
    await this.#replica.patch("lists", list.id, { title }, this.#place);
  }

  /** Puts a list at `index` among the others, counted without it. */
  async moveList(list: List, lists: readonly List[], index: number): Promise<void> {
    const others = lists.filter(({ id }) => id !== list.id);
    await this.#put("lists", list.id, {}, others, place(ranksOf(others), index));
    this.#notices.say(`${list.title} is list ${index + 1} of ${lists.length}`, () =>
      this.#replica.patch("lists", list.id, { rank: list.rank }, this.#place),
    );
  }

  /** Its cards stay what they are: they come back with it. */
  async deleteList(list: List): Promise<void> {
    await this.#replica.delete("lists", list.id, this.#place);
    this.#notices.say(`List ${list.title} deleted`, () => this.restore("lists", list.id));
  }

  // -- cards -----------------------------------------------------------------------------------------

  async addCard(list: List, cards: readonly Card[], title: string): Promise<void> {
    const { rank } = place(ranksOf(cards), cards.length);
    await this.#replica.put("cards", this.#replica.newId(), { list: list.id, rank, title }, this.#place);
    this.#notices.say(`${title} added to ${list.title}`);
  }

  async editCard(card: Card, fields: Partial<CardFields>): Promise<void> {
    await this.#replica.patch("cards", card.id, fields, this.#place);
  }

  /** Puts a card at `goal` of `list`, counted without the card, or at its end; `cards` are that list's. */
  async moveCard(card: Card, list: List, cards: readonly Card[], goal: number): Promise<void> {
    const others = cards.filter(({ id }) => id !== card.id);
    const index = Math.min(goal, others.length);
    const moved = place(ranksOf(others), index);
    await this.#put("cards", card.id, card.list === list.id ? {} : { list: list.id }, others, moved);
    this.#notices.say(`${card.title} is ${index + 1} of ${others.length + 1} in ${list.title}`, () =>
      this.#replica.patch("cards", card.id, { list: card.list, rank: card.rank }, this.#place),
    );
  }

  async deleteCard(card: Card): Promise<void> {
    await this.#replica.delete("cards", card.id, this.#place);
    this.#notices.say(`${card.title} deleted`, () => this.restore("cards", card.id));
  }

  async restore(table: "lists" | "cards", id: string): Promise<void> {
    await this.#replica.undelete(table, id, this.#place);
  }

  // -- comments --------------------------------------------------------------------------------------

  async addComment(card: Card, text: string): Promise<void> {
    const fields = { card: card.id, text, author: this.#author, at: new Date().toISOString() };
    await this.#replica.put("comments", this.#replica.newId(), fields, this.#place);
  }

  async deleteComment(id: string): Promise<void> {
    await this.#replica.delete("comments", id, this.#place);
    this.#notices.say("Comment deleted", () => this.#replica.undelete("comments", id, this.#place));
  }

  /** Writes a rank, and those of the neighbours that make room for it, as one batch. */
  async #put(
    table: "lists" | "cards",
    id: string,
    fields: Partial<CardFields>,
    others: readonly { readonly id: string }[],
    { rank, moved }: Placed,
  ): Promise<void> {
    await this.#replica.batch((batch) => {
      batch.patch(table, id, { ...fields, rank }, this.#place);
      for (const [index, key] of moved) {
        const neighbour = others[index];
        if (neighbour !== undefined) batch.patch(table, neighbour.id, { rank: key }, this.#place);
      }
    });
  }
}

function ranksOf(ranked: readonly { readonly rank: string }[]): string[] {
  return ranked.map(({ rank }) => rank);
}
