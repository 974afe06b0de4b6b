/** Who is here now, and what they look at. */

import type { Presence } from "@syncd/client";
import { usePresence } from "@syncd/client/react";
import { type ReactNode, useMemo } from "react";
import type { Board } from "../board.js";
import { nameOf } from "../identity.js";
import { Avatar } from "./avatar.js";
import { useDesk, useStanding } from "./context.js";

export interface Person {
  readonly name: string;
  readonly card: string | null;
}

const NOBODY: ReadonlyMap<string, readonly string[]> = new Map();

/** The others, one for each user; whoever looks at a card comes first. */
export function useOthers(): readonly Person[] {
  const { session } = useDesk();
  const peers = usePresence(useStanding().live, session.space);
  return useMemo(() => {
    const found = new Map<string, Person>();
    for (const peer of peers) {
      if (peer.user === session.identity.userId) continue;
      const card = cardOf(peer);
      if (card !== null || !found.has(peer.user)) found.set(peer.user, { name: nameOf(peer.user), card });
    }
    return [...found.values()].sort((one, other) => one.name.localeCompare(other.name));
  }, [peers, session]);
}

/** The names of those who look at each card. */
export function viewersOf(others: readonly Person[]): ReadonlyMap<string, readonly string[]> {
  const looking = others.filter(({ card }) => card !== null);
  if (looking.length === 0) return NOBODY;
  const found = new Map<string, string[]>();
  for (const { name, card } of looking) found.set(card ?? "", [...(found.get(card ?? "") ?? []), name]);
  return found;
}

function cardOf({ state }: Presence): string | null {
  const said = typeof state === "object" && state !== null && "card" in state ? state.card : null;
  return typeof said === "string" ? said : null;
}

export function People({ others, board }: { others: readonly Person[]; board: Board }): ReactNode {
  const { session } = useDesk();
  const titles = useMemo(
    () => new Map([...board.cards.values()].flat().map(({ id, title }) => [id, title])),
    [board.cards],
  );
  const own = session.identity.name;
  return (
    <ul className="people" aria-label="Who is here">
      <li>
        <Avatar name={own} title={`${own} (you)`} />
        <span className="unseen">{own} (you)</span>
      </li>
      {others.map(({ name, card }) => {
        const title = card === null ? undefined : titles.get(card);
        const said = title === undefined ? name : `${name}, looking at ${title}`;
        return (
          <li key={name}>
            <Avatar name={name} title={said} />
            <span className="unseen">{said}</span>
          </li>
        );
      })}
    </ul>
  );
}
