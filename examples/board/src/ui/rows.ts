/** The board of the rows that the replica reads, kept from one answer to the next. */

import { useQuery } from "@syncd/client/react";
import { useDeferredValue, useEffect, useMemo, useRef, useState } from "react";
import { arrange, type Board, byCard, EMPTY } from "../board.js";
import type { Comment, Tables } from "../tables.js";
import { useDesk } from "./context.js";

/**
 * null until the store was read. Deferred, so that drawing thousands of cards is no part of the task that read them,
 * and gives way to what the user does meanwhile.
 */
export function useBoard(): Board | null {
  const { session } = useDesk();
  const options = { space: session.space, deleted: true, order: "rank" } as const;
  const lists = useDeferredValue(useQuery<Tables, "lists">(session.replica, "lists", [], options));
  const cards = useDeferredValue(useQuery<Tables, "cards">(session.replica, "cards", [], options));
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

/** With more changes than this in the outbox, cards are not told apart. */
const MOST_TOLD = 1000;
/** Milliseconds: a batch, or a few keys, are one look into the outbox. */
const PAUSE = 60;

/** The records that the server does not have as they are here. */
export function useUnsent(): ReadonlySet<string> {
  const { replica } = useDesk().session;
  const [unsent, setUnsent] = useState<ReadonlySet<string>>(new Set());
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const read = async (): Promise<void> => {
      timer = undefined;
      const { pending } = await replica.status();
      const queued = pending > 0 && pending <= MOST_TOLD ? await replica.pending() : [];
      setUnsent((held) =>
        held.size === 0 && queued.length === 0 ? held : new Set(queued.map(({ id }) => id)),
      );
    };
    const soon = (): void => {
      timer ??= setTimeout(() => void read().catch(() => undefined), PAUSE);
    };
    soon();
    const stop = replica.on(({ kind }) => (kind === "changes" || kind === "answered") && soon());
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [replica]);
  return unsent;
}
