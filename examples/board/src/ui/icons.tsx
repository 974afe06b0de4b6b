/** The few pictures that buttons have. Each is decoration: the button says what it does. */

import type { ReactNode } from "react";

const PATHS = {
  dots: "M5 12h.01M12 12h.01M19 12h.01",
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6L6 18",
  pending: "M12 19V6M6 12l6-6 6 6",
  synced: "M5 12.5l4.5 4.5L19 7.5",
  rejected: "M12 8v5M12 16.5h.01M12 3l9.5 17h-19z",
  conflicts: "M4 7h7l6 10h3M4 17h7l2-3.3M15 10.3L17 7h3",
  comment: "M5 5h14v10H10l-4 4v-4H5z",
  description: "M5 7h14M5 12h14M5 17h8",
  due: "M5 7h14v13H5zM5 11h14M9 4v4M15 4v4",
  wifi: "M3 9.5a13 13 0 0 1 18 0M6.5 13a8 8 0 0 1 11 0M10 16.5a3 3 0 0 1 4 0",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 18 }: { name: IconName; size?: number }): ReactNode {
  return (
    <svg
      width={size}
      height={size}
      viewBox="0 0 24 24"
      fill="none"
      stroke="currentColor"
      strokeWidth={name === "dots" ? 3 : 2}
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
    >
      <path d={PATHS[name]} />
    </svg>
  );
}
