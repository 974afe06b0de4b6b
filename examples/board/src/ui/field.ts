/** A text that is written when it is left, and a second after the last key; what others write shows meanwhile. */

import { useEffect, useEffectEvent, useRef, useState } from "react";

/** Milliseconds. */
const PAUSE = 1000;

export interface TextField {
  readonly value: string;
  readonly onChange: (event: { readonly target: { readonly value: string } }) => void;
  readonly onBlur: () => void;
}

/** `write` is called with what was typed, where that is something else than `stored`. */
export function useTextField(stored: string, write: (text: string) => void): TextField {
  const [typed, setTyped] = useState<string | null>(null);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  // What is on its way to the store is not written a second time.
  const written = useRef<string | null>(null);
  const commit = useEffectEvent(() => {
    clearTimeout(timer.current);
    if (typed === null || typed === (written.current ?? stored)) return;
    written.current = typed;
    write(typed);
  });
  useEffect(() => {
    written.current = null;
    // What was typed is shown until it comes back from the store.
    setTyped((text) => (text === stored ? null : text));
  }, [stored]);
  useEffect(() => () => commit(), []);
  return {
    value: typed ?? stored,
    onChange: ({ target }) => {
      setTyped(target.value);
      clearTimeout(timer.current);
      timer.current = setTimeout(() => commit(), PAUSE);
    },
    onBlur: () => commit(),
  };
}
