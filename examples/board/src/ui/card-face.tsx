/** What a card shows of itself in a list. */

import type { ReactNode } from "react";
import type { Card } from "../tables.js";
import { Avatar } from "./avatar.js";
import { Icon } from "./icons.js";

export interface CardFaceProps {
  readonly card: Card;
  readonly comments: number;
  readonly viewers: readonly string[];
  readonly unsent?: boolean;
  readonly titleId?: string;
  readonly badgesId?: string;
}

export function CardFace({
  card,
  comments,
  viewers,
  unsent = false,
  titleId,
  badgesId,
}: CardFaceProps): ReactNode {
  const { title, labels, description, due } = card;
  const bare =
    !unsent &&
    labels.length === 0 &&
    description === "" &&
    due === null &&
    comments === 0 &&
    viewers.length === 0;
  return (
    <>
      <span className="card-title" id={titleId}>
        {title}
      </span>
      <span className="badges" id={badgesId} hidden={bare}>
        {unsent && (
          <span className="badge unsent">
            <Icon name="pending" size={14} />
            <span className="unseen">Not sent yet</span>
          </span>
        )}
        {labels.map((label) => (
          <span key={label} className="label" data-label={label}>
            {label}
          </span>
        ))}
        {due !== null && (
          <span className="badge">
            <Icon name="due" size={14} />
            <span className="unseen">Due </span>
            {due}
          </span>
        )}
        {description !== "" && (
          <span className="badge">
            <Icon name="description" size={14} />
            <span className="unseen">Has a description</span>
          </span>
        )}
        {comments > 0 && (
          <span className="badge">
            <Icon name="comment" size={14} />
            {comments}
            <span className="unseen">{comments === 1 ? " comment" : " comments"}</span>
          </span>
        )}
        {viewers.length > 0 && (
          <span className="viewers">
            <span className="unseen">{viewers.join(", ")} looking</span>
            {viewers.map((name) => (
              <Avatar key={name} name={name} />
            ))}
          </span>
        )}
      </span>
    </>
  );
}
