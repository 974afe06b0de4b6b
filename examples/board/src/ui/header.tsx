/** The top of the page: who is here, search, the offline switch, the user's own menu. */

import { type ReactNode, useMemo } from "react";
import type { Board } from "../board.js";
import { useDesk, useStanding } from "./context.js";
import { Icon } from "./icons.js";
import { Menu } from "./menu.js";
import { People, type Person } from "./people.js";

export interface HeaderProps {
  readonly board: Board;
  readonly others: readonly Person[];
  readonly onSearch: (sought: string) => void;
  readonly onDeleted: () => void;
  readonly onSignOut: () => void;
}

export function Header({ board, others, onSearch, onDeleted, onSignOut }: HeaderProps): ReactNode {
  const items = useMemo(
    () => [
      { text: "Deleted…", act: onDeleted },
      { text: "Sign out", act: onSignOut },
    ],
    [onDeleted, onSignOut],
  );
  return (
    <header className="top">
      <h1>Board</h1>
      <People others={others} board={board} />
      <input
        type="search"
        aria-label="Search cards"
        placeholder="Search cards"
        onChange={(event) => onSearch(event.target.value)}
      />
      <OfflineSwitch />
      <Menu label="Account" items={items}>
        <Icon name="dots" />
      </Menu>
    </header>
  );
}

function OfflineSwitch(): ReactNode {
  const { session } = useDesk();
  const { offline } = useStanding();
  return (
    <button
      type="button"
      role="switch"
      className="switch"
      aria-checked={offline}
      onClick={() => session.setOffline(!offline)}
    >
      <span className="track" aria-hidden="true" />
      Offline
    </button>
  );
}
