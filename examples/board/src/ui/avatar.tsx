/** A person as two letters in a colour of their own. */

import type { ReactNode } from "react";

/** Each is dark enough for white letters (4.5:1). */
const COLOURS = ["#4655c5", "#a3357a", "#0b6e69", "#9a4a0c", "#6b3fa8", "#2b6a30", "#a82d3b", "#1d6391"];

export function Avatar({ name, title }: { name: string; title?: string }): ReactNode {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) % 997;
  const letters = [...name.replace(/\s+/g, "")].slice(0, 2).join("");
  return (
    <span
      className="avatar"
      style={{ background: COLOURS[sum % COLOURS.length] }}
      title={title ?? name}
      aria-hidden="true"
    >
      {letters}
    </span>
  );
}
