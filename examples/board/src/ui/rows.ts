/** The board of the rows that the replica reads, kept from one answer to the next. */

import { useQuery } from "@syncd/client/react";
import { useMemo, useRef } from "react";
import { arrange, type Board, byCard, EMPTY } from "../board.js";
import type { Comment, Tables } from "../tables.js";
import { useDesk } from "./context.js";

/** null until the store was read. */
export function useBoard(): Board | null {
  const { session } = useDesk();
  const options = { space: session.space, deleted: true, order: "rank" };
  const lists = useQuery<Tables, "lists">(session.replica, "lists", [], options);
  const cards = useQuery<Tables, "cards">(session.replica, "cards", [], options);
  const previous = useRef(EMPTY);
  return useMemo(() => {
    if (lists === undefined || cards === undefined) return null;
    previous.current = arrange(previous.current, lists, cards);
    return previous.current;
  }, [lists, cards]);
}

export function useComments(): ReadonlyMap<string, readonly Comment[]> {
  const { session } = useDesk();
  const rows = useQuery<Tables, "comments">(session.replica, "comments", [], {
    space: session.space,
    order: "at",
  });
  const previous = useRef<ReadonlyMap<string, readonly Comment[]>>(new Map());
  return useMemo(() => {
    previous.current = byCard(previous.current, rows ?? []);
    return previous.current;
  }, [rows]);
}
