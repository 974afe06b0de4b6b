/** A name, and in. */

import { type FormEvent, type ReactNode, useId, useState } from "react";
import { type Identity, signIn } from "../identity.js";
import { focus } from "./focus.js";

export function SignIn({ onSignedIn }: { onSignedIn: (identity: Identity) => void }): ReactNode {
  const [fault, setFault] = useState("");
  const [asking, setAsking] = useState(false);
  const name = useId();
  const submit = async (event: FormEvent<HTMLFormElement>): Promise<void> => {
    event.preventDefault();
    const given = String(new FormData(event.currentTarget).get("name") ?? "").trim();
    if (given === "") return setFault("A name is needed, any name.");
    setAsking(true);
    await signIn(given)
      .then(onSignedIn, (error: Error) => setFault(error.message))
      .finally(() => setAsking(false));
  };
  return (
    <main className="welcome">
      <form className="panel" onSubmit={(event) => void submit(event)} noValidate>
        <img src="/demo/icon.svg" alt="" width="56" height="56" />
        <h1>The demo board</h1>
        <p>One board for everybody here. Open it in two windows, take one offline, and edit in both.</p>
        <label htmlFor={name}>Your name</label>
        <input
          id={name}
          name="name"
          autoComplete="nickname"
          maxLength={40}
          ref={focus}
          aria-invalid={fault !== ""}
          aria-describedby={fault ? `${name}-fault` : undefined}
        />
        {fault && (
          <p id={`${name}-fault`} role="alert" className="fault">
            {fault}
          </p>
        )}
        <button type="submit" className="primary" disabled={asking}>
          Join the board
        </button>
      </form>
    </main>
  );
}
