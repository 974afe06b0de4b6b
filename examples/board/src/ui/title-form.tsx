/** A button that becomes a field for a title, and stays one for the next. */

import { type ReactNode, useRef, useState } from "react";
import { focus } from "./focus.js";
import { Icon } from "./icons.js";

export interface TitleFormProps {
  readonly button: string;
  readonly label: string;
  readonly onTitle: (title: string) => Promise<void>;
}

export function TitleForm({ button, label, onTitle }: TitleFormProps): ReactNode {
  const [open, setOpen] = useState(false);
  const opener = useRef<HTMLButtonElement>(null);
  if (!open) {
    return (
      <button type="button" className="quiet add" ref={opener} onClick={() => setOpen(true)}>
        <Icon name="plus" size={16} /> {button}
      </button>
    );
  }
  const take = (input: HTMLInputElement): void => {
    const title = input.value.trim();
    input.value = "";
    if (title !== "") void onTitle(title);
  };
  return (
    <input
      className="add"
      aria-label={label}
      placeholder={label}
      maxLength={500}
      ref={focus}
      onBlur={(event) => {
        take(event.currentTarget);
        setOpen(false);
      }}
      onKeyDown={(event) => {
        if (event.key === "Enter" && !event.nativeEvent.isComposing) take(event.currentTarget);
        if (event.key !== "Escape") return;
        event.currentTarget.value = "";
        setOpen(false);
        requestAnimationFrame(() => opener.current?.focus());
      }}
    />
  );
}
