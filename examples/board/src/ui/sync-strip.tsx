/** Where this device stands with the server: the connection, four numbers, and the last minute as a picture. */

import type { LiveState } from "@syncd/client";
import { useStatus } from "@syncd/client/react";
import { type ReactNode, useEffect, useState } from "react";
import type { Tables } from "../tables.js";
import { useDesk, usePast, useStanding } from "./context.js";
import { Icon, type IconName } from "./icons.js";
import { LagLine, Timeline } from "./timeline.js";

const WORDS: { readonly [name in LiveState["name"]]: string } = {
  live: "Live",
  polling: "Polling",
  connecting: "Connecting",
  following: "Connecting",
  offline: "No connection",
  busy: "Server busy",
  refused: "Refused",
  closed: "Connecting",
};

export function SyncStrip({ onDetails }: { onDetails: () => void }): ReactNode {
  const { session } = useDesk();
  const status = useStatus<Tables>(session.replica);
  const { offline } = useStanding();
  const { accepted } = usePast();
  const conflicts = useConflictCount();
  const live = status?.live;
  const name = offline ? "off" : (live?.name ?? "closed");
  const words = offline ? "Offline" : WORDS[live?.name ?? "closed"];
  return (
    <section className="strip" aria-label="Sync" data-state={name}>
      <span role="status" aria-label="Connection" className="connection" title={live?.detail}>
        <span className="lamp" aria-hidden="true" />
        {words}
      </span>
      <Figure name="pending" text="Pending" count={status?.pending ?? 0} onClick={onDetails} />
      <Figure name="synced" text="Synced" count={accepted} onClick={onDetails} />
      <Figure
        name="rejected"
        text="Rejected"
        count={(status?.rejected ?? 0) + (status?.aside ?? 0)}
        onClick={onDetails}
      />
      <Figure name="conflicts" text="Conflicts" count={conflicts} onClick={onDetails} />
      <Timeline offline={offline} />
      <LagLine />
    </section>
  );
}

/** Registers that lost, until they are cleared. */
function useConflictCount(): number {
  const { session } = useDesk();
  const [count, setCount] = useState(0);
  useEffect(() => {
    const read = (): void =>
      void session.replica.conflicts().then(
        (all) => setCount(all.length),
        () => undefined,
      );
    read();
    const stop = session.replica.on((event) => event.kind === "conflict" && read());
    window.addEventListener("conflicts-cleared", read);
    return () => {
      stop();
      window.removeEventListener("conflicts-cleared", read);
    };
  }, [session]);
  return count;
}

interface FigureProps {
  readonly name: IconName;
  readonly text: string;
  readonly count: number;
  readonly onClick: () => void;
}

function Figure({ name, text, count, onClick }: FigureProps): ReactNode {
  return (
    <button
      type="button"
      className="figure"
      data-kind={name}
      data-some={count > 0}
      title={text}
      onClick={onClick}
    >
      <Icon name={name} size={16} />
      <span data-testid={name}>{count}</span>
      <span className="word">{text}</span>
    </button>
  );
}
