/** A newer page waits: it is offered, so that nobody's half-written words are taken away. */

import { useRegisterSW } from "virtual:pwa-register/react";
import type { ReactNode } from "react";

/** How often a page that stays open asks for a newer one, in milliseconds. */
const ASKED_EVERY = 60 * 60 * 1000;

export function UpdateOffer(): ReactNode {
  const {
    needRefresh: [waits, setWaits],
    updateServiceWorker,
  } = useRegisterSW({
    onRegisteredSW: (_address, registration) => {
      setInterval(() => void registration?.update().catch(() => undefined), ASKED_EVERY);
    },
  });
  if (!waits) return null;
  return (
    <div role="alert" className="banner">
      <span>There is a newer version of this page.</span>
      <button type="button" onClick={() => void updateServiceWorker(true)}>
        Reload
      </button>
      <button type="button" className="quiet" onClick={() => setWaits(false)}>
        Later
      </button>
    </div>
  );
}
