/** An instant as people say it. */

import type { ReactNode } from "react";

const DAY = 24 * 3600 * 1000;

export function Moment({ at }: { at: string }): ReactNode {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return null;
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const recent = Date.now() - date.getTime() < DAY;
  return (
    <time dateTime={at} title={at}>
      {recent ? time : `${date.toLocaleDateString()} ${time}`}
    </time>
  );
}
