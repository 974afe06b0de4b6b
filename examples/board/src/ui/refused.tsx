/** A change that the server refused: why, and what can be done about it. */

import type { Queued } from "@syncd/client";
import { type FormEvent, type ReactNode, useState } from "react";
import { useDesk } from "./context.js";

type Texts = readonly (readonly [field: string, text: string])[];

export function Refused({
  queued,
  title,
  onDone,
}: {
  queued: Queued;
  title: string;
  onDone: () => void;
}): ReactNode {
  const { session, notices } = useDesk();
  const [editing, setEditing] = useState(false);
  const texts = textsOf(queued);
  const perform = (act: Promise<unknown>): void => {
    act.catch((error: Error) => notices.say(error.message)).finally(onDone);
  };
  const send = (event: FormEvent<HTMLFormElement>): void => {
    event.preventDefault();
    const given = new FormData(event.currentTarget);
    const fields = Object.fromEntries(texts.map(([field]) => [field, String(given.get(field) ?? "")]));
    perform(session.replica.fix(queued.changeId, fields));
  };
  return (
    <li className="refused">
      <span>
        <b>{title}</b>: {queued.detail ?? queued.code} <code>{queued.code}</code>
      </span>
      {editing ? (
        <form onSubmit={send}>
          {texts.map(([field, text]) => (
            <label key={field} className="field">
              {field}
              <textarea name={field} defaultValue={text} rows={3} />
            </label>
          ))}
          <button type="submit">Send</button>
        </form>
      ) : (
        <span className="choices">
          {texts.length > 0 && (
            <button type="button" onClick={() => setEditing(true)}>
              Edit and send
            </button>
          )}
          <button type="button" onClick={() => perform(session.replica.requeue(queued.changeId))}>
            Send again
          </button>
          <button
            type="button"
            className="danger"
            onClick={() => perform(session.replica.drop(queued.changeId))}
          >
            Drop
          </button>
        </span>
      )}
    </li>
  );
}

/** What people can edit of it. */
function textsOf({ change }: Queued): Texts {
  const fields = (change.fields ?? {}) as { readonly [field: string]: { readonly value: unknown } };
  return Object.entries(fields).flatMap(([field, { value }]) =>
    typeof value === "string" && ["title", "description", "text"].includes(field)
      ? [[field, value] as const]
      : [],
  );
}
