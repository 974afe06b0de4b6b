/** The page: sign-in, or the board of who signed in. */

import { SyncdError } from "@syncd/client";
import { type ReactNode, useEffect, useState } from "react";
import { Actions } from "../actions.js";
import { Activity } from "../activity.js";
import { type Identity, remembered, signOut } from "../identity.js";
import { Notices } from "../notices.js";
import { Session } from "../session.js";
import { BoardPage } from "./board-page.js";
import { type Desk, DeskContext } from "./context.js";
import { SignIn } from "./sign-in.js";
import { UpdateOffer } from "./update-offer.js";

export function App(): ReactNode {
  const [identity, setIdentity] = useState(remembered);
  return (
    <>
      <UpdateOffer />
      {identity === null ? <SignIn onSignedIn={setIdentity} /> : <SignedIn identity={identity} />}
    </>
  );
}

function SignedIn({ identity }: { identity: Identity }): ReactNode {
  const [desk, setDesk] = useState<Desk | null>(null);
  const [fault, setFault] = useState("");
  useEffect(() => {
    openDesk(identity).then(setDesk, (error: unknown) => setFault(String(error)));
  }, [identity]);
  if (fault !== "") return <Broken fault={fault} />;
  if (desk === null) return null;
  return (
    <DeskContext value={desk}>
      <BoardPage onSignOut={leave} />
    </DeskContext>
  );
}

async function openDesk(identity: Identity): Promise<Desk> {
  const session = await Session.open(identity);
  const notices = new Notices();
  // A write that failed, say because the disk is full: nobody waits for it, and everybody should know.
  window.addEventListener("unhandledrejection", ({ reason }) => {
    if (reason instanceof SyncdError) notices.say(reason.message);
  });
  const actions = new Actions(session.replica, session.space, identity.name, notices);
  return { session, notices, actions, activity: new Activity(session.replica) };
}

/** The page goes, and the connection with it. Closing it here would tell the others that this user's other tabs left too. */
function leave(): void {
  signOut();
  location.reload();
}

function Broken({ fault }: { fault: string }): ReactNode {
  return (
    <main className="welcome">
      <div role="alert" className="panel">
        <h1>The board cannot be opened</h1>
        <p>{fault}</p>
        <button type="button" className="primary" onClick={() => location.reload()}>
          Try again
        </button>
      </div>
    </main>
  );
}
