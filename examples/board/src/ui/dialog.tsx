/** A modal dialog: the browser keeps the focus inside, and Escape closes it. */

import { type ReactNode, useEffect, useId, useRef } from "react";
import { Icon } from "./icons.js";
import { NoticeLine } from "./notice-line.js";

export function Dialog(props: {
  title: ReactNode;
  label?: string;
  onClose: () => void;
  children: ReactNode;
}): ReactNode {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    dialog.current?.showModal();
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      aria-labelledby={props.label === undefined ? id : undefined}
      aria-label={props.label}
      onClose={props.onClose}
      onPointerDown={(event) => event.target === dialog.current && dialog.current?.close()}
    >
      <div className="sheet">
        <header>
          <h2 id={id}>{props.title}</h2>
          <button type="button" className="icon" aria-label="Close" onClick={() => dialog.current?.close()}>
            <Icon name="close" />
          </button>
        </header>
        {props.children}
      </div>
      <NoticeLine />
    </dialog>
  );
}
