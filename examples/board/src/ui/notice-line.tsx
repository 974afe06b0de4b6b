/** What happened just now, said to eyes and to screen readers. */

import type { ReactNode } from "react";
import { useDesk, useNotice } from "./context.js";

export function NoticeLine(): ReactNode {
  const { notices } = useDesk();
  const notice = useNotice();
  return (
    <div className="notice" data-shown={notice !== null}>
      <span role="status" data-testid="announcer">
        {notice?.text}
      </span>
      {notice?.undo && (
        <button type="button" onClick={notices.undo}>
          Undo
        </button>
      )}
    </div>
  );
}
