/** Waiting and refused changes, with what to do about these, conflicts, and the latest activity. */

import type { Conflict, Json, Queued } from "@syncd/client";
import { type ReactNode, useCallback, useEffect, useState } from "react";
import type { Board } from "../board.js";
import type { Tables } from "../tables.js";
import { useDesk, usePast } from "./context.js";
import { Dialog } from "./dialog.js";
import { Icon } from "./icons.js";
import { Moment } from "./moment.js";
import { Refused } from "./refused.js";

interface Queues {
  readonly pending: readonly Queued[];
  readonly refused: readonly Queued[];
  readonly conflicts: readonly Conflict[];
}

/** No more of each are shown. */
const MOST = 100;

export function SyncDetails({ board, onClose }: { board: Board; onClose: () => void }): ReactNode {
  const [queues, read] = useQueues();
  const { session } = useDesk();
  const titles = new Map(
    [...board.lists, ...[...board.cards.values()].flat()].map(({ id, title }) => [id, title]),
  );
  const nameOf = (id: string): string => titles.get(id) ?? "something deleted";
  const clear = (): void => {
    void session.replica.clearConflicts().then(() => {
      window.dispatchEvent(new Event("conflicts-cleared"));
      read();
    });
  };
  const useMine = ({ table, id, field, clientValue, space }: Conflict): void => {
    const fields = { [field]: clientValue } as { [field: string]: Json };
    void session.replica.patch(table as keyof Tables, id, fields, { space }).then(read);
  };
  if (queues === null) return null;
  const { pending, refused, conflicts } = queues;
  return (
    <Dialog title="Sync details" onClose={onClose}>
      <Part title="Waiting" empty="Nothing waits: the server has it all.">
        {pending.slice(0, MOST).map((queued) => (
          <li key={queued.changeId}>
            <Icon name="pending" size={14} /> {nameOf(queued.id)}: {describe(queued)}
          </li>
        ))}
      </Part>
      <Part title="Rejected" empty="The server refused nothing.">
        {refused.slice(0, MOST).map((queued) => (
          <Refused key={queued.changeId} queued={queued} title={nameOf(queued.id)} onDone={read} />
        ))}
      </Part>
      <Part title="Conflicts" empty="Nobody overwrote anything.">
        {conflicts.slice(-MOST).map((conflict) => (
          <li key={`${conflict.id}-${conflict.field}-${conflict.clientTimestamp}`} className="conflict">
            <span>
              {nameOf(conflict.id)}, {conflict.field}: <s>{spoken(conflict.clientValue)}</s>{" "}
              <b>{spoken(conflict.serverValue)}</b> <Moment at={conflict.serverTimestamp} />
            </span>
            <button type="button" onClick={() => useMine(conflict)}>
              Use mine instead
            </button>
          </li>
        ))}
      </Part>
      {conflicts.length > 0 && (
        <button type="button" onClick={clear}>
          Clear conflicts
        </button>
      )}
      <ActivityList />
    </Dialog>
  );
}

/** They are read again whenever something happens. */
function useQueues(): [Queues | null, () => void] {
  const { replica } = useDesk().session;
  const [queues, setQueues] = useState<Queues | null>(null);
  const read = useCallback(() => {
    const all = [replica.pending(), replica.rejected(), replica.keptAside(), replica.conflicts()] as const;
    Promise.all(all).then(
      ([pending, rejected, aside, conflicts]) =>
        setQueues({ pending, refused: [...rejected, ...aside], conflicts }),
      () => undefined,
    );
  }, [replica]);
  useEffect(() => {
    read();
    return replica.on(({ kind }) => kind !== "presence" && kind !== "state" && read());
  }, [replica, read]);
  return [queues, read];
}

function Part({
  title,
  empty,
  children,
}: {
  title: string;
  empty: string;
  children: readonly ReactNode[];
}): ReactNode {
  return (
    <section className="part">
      <h3>{title}</h3>
      {children.length === 0 ? <p>{empty}</p> : <ul aria-label={title}>{children}</ul>}
    </section>
  );
}

const HAPPENED = {
  wrote: "written here",
  accepted: "taken by the server",
  received: "received",
  rejected: "refused",
  conflict: "lost against another device",
  up: "connected",
  down: "not connected",
} as const;

function ActivityList(): ReactNode {
  const { marks } = usePast();
  return (
    <Part title="Activity" empty="Nothing yet.">
      {marks
        .slice(-20)
        .reverse()
        .map(({ at, kind, count }, place) => (
          <li key={`${at}-${marks.length - place}`} data-kind={kind}>
            <Moment at={new Date(at).toISOString()} /> {count > 0 ? `${count} ` : ""}
            {HAPPENED[kind]}
          </li>
        ))}
    </Part>
  );
}

function describe({ change }: Queued): string {
  if (change.op === "delete") return "deleted";
  const fields = Object.keys((change.fields ?? {}) as object).filter((field) => field !== "deletedAt");
  return change.op === "insert" ? "new" : fields.join(", ");
}

function spoken(value: Json): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > 120 ? `${text.slice(0, 120)}…` : text;
}
