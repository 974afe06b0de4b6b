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
  const latest = useRef<string | null>(null);
  latest.current = typed;
  const commit = useEffectEvent((leaving: boolean) => {
    clearTimeout(timer.current);
    const text = latest.current;
    if (text !== null && text !== stored) write(text);
    // Until it comes back from the store, what was typed is shown.
    if (leaving) latest.current = null;
  });
  useEffect(() => {
    if (typed !== null && typed === stored) setTyped(null);
  }, [typed, stored]);
  useEffect(() => () => commit(true), []);
  return {
    value: typed ?? stored,
    onChange: ({ target }) => {
      setTyped(target.value);
      clearTimeout(timer.current);
      timer.current = setTimeout(() => commit(false), PAUSE);
    },
    onBlur: () => commit(false),
  };
}
