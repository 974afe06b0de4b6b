/** What people said about a card. */

import { type FormEvent, type ReactNode, useId } from "react";
import type { Card, Comment } from "../tables.js";
import { Avatar } from "./avatar.js";
import { useDesk } from "./context.js";
import { Icon } from "./icons.js";
import { Moment } from "./moment.js";

export function Comments({ card, comments }: { card: Card; comments: readonly Comment[] }): ReactNode {
  const { actions, session } = useDesk();
  const id = useId();
  const send = (event: FormEvent<HTMLFormElement>): void => {
    event.preventDefault();
    const text = String(new FormData(event.currentTarget).get("text") ?? "").trim();
    if (text === "") return;
    event.currentTarget.reset();
    void actions.addComment(card, text);
  };
  return (
    <section className="comments" aria-labelledby={`${id}-heading`}>
      <h3 id={`${id}-heading`}>Comments</h3>
      {comments.length > 0 && (
        <ul aria-label="Comments">
          {comments.map(({ id: comment, author, text, at }) => (
            <li key={comment}>
              <Avatar name={author} />
              <div>
                <b>{author}</b> <Moment at={at} />
                <p>{text}</p>
              </div>
              {author === session.identity.name && (
                <button
                  type="button"
                  className="icon"
                  aria-label="Delete comment"
                  onClick={() => void actions.deleteComment(comment)}
                >
                  <Icon name="close" size={14} />
                </button>
              )}
            </li>
          ))}
        </ul>
      )}
      <form onSubmit={send}>
        <label className="unseen" htmlFor={`${id}-text`}>
          Comment
        </label>
        <input
          id={`${id}-text`}
          name="text"
          placeholder="Say something"
          maxLength={2000}
          autoComplete="off"
        />
        <button type="submit">Send</button>
      </form>
    </section>
  );
}
