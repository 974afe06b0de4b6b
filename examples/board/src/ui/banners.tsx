/** What stands above the board while it is not as usual. */

import type { ReactNode } from "react";
import { useDesk, useStanding } from "./context.js";

/** The first answer of the server may be long: what has come so far is there to use. */
export function FirstSync({ count }: { count: number }): ReactNode {
  const { arrived, offline, removed } = useStanding();
  if (arrived || offline || removed) return null;
  return (
    <div className="first-sync">
      <progress aria-label="First sync" />
      <span>{count === 0 ? "Fetching the board…" : `${count.toLocaleString()} cards are here`}</span>
    </div>
  );
}

export function Removed(): ReactNode {
  const { session, notices } = useDesk();
  const { removed } = useStanding();
  if (!removed) return null;
  return (
    <div role="alert" className="banner">
      <span>You were removed from this board, so it is not on this device any more.</span>
      <button
        type="button"
        onClick={() => void session.rejoin().catch((error: Error) => notices.say(error.message))}
      >
        Join again
      </button>
    </div>
  );
}
