/** What every part of the page may ask for. */

import { createContext, useContext, useSyncExternalStore } from "react";
import type { Actions } from "../actions.js";
import type { Activity, Past } from "../activity.js";
import type { Notice, Notices } from "../notices.js";
import type { Session, Standing } from "../session.js";

export interface Desk {
  readonly session: Session;
  readonly actions: Actions;
  readonly activity: Activity;
  readonly notices: Notices;
}

export const DeskContext = createContext<Desk | null>(null);

export function useDesk(): Desk {
  const desk = useContext(DeskContext);
  if (desk === null) throw new Error("outside of the desk");
  return desk;
}

export function useStanding(): Standing {
  const { session } = useDesk();
  return useSyncExternalStore(session.subscribe, () => session.standing);
}

export function usePast(): Past {
  const { activity } = useDesk();
  return useSyncExternalStore(activity.subscribe, () => activity.past);
}

export function useNotice(): Notice | null {
  const { notices } = useDesk();
  return useSyncExternalStore(notices.subscribe, () => notices.current);
}
