/** What a card shows of itself in a list. */

import type { ReactNode } from "react";
import type { Card } from "../tables.js";
import { Avatar } from "./avatar.js";
import { Icon, type IconName } from "./icons.js";

export interface CardFaceProps {
  readonly card: Card;
  readonly comments: number;
  readonly viewers: readonly string[];
  readonly unsent?: boolean;
}

export function CardFace(props: CardFaceProps): ReactNode {
  const { card, comments, viewers, unsent = false } = props;
  const { labels, description, due } = card;
  const some = unsent || labels.length + description.length + comments + viewers.length > 0 || due !== null;
  return (
    <>
      <span className="card-title">{card.title}</span>
      {/* The spaces are for who hears it: one word each, not one long one. */}{" "}
      <span className="badges" hidden={!some}>
        {unsent && <Badge icon="pending" said="Not sent yet" />}
        {labels.map((label) => (
          <span key={label} className="label" data-label={label}>
            {`${label} `}
          </span>
        ))}
        {due !== null && <Badge icon="due" said="Due" text={due} />}
        {description !== "" && <Badge icon="description" said="Has a description" />}
        {comments > 0 && <Badge icon="comment" said="Comments:" text={String(comments)} />}
        {viewers.length > 0 && <Viewers names={viewers} />}
      </span>
    </>
  );
}

/** A picture, what it says, and what it shows besides. */
function Badge({ icon, said, text }: { icon: IconName; said: string; text?: string }): ReactNode {
  return (
    <span className="badge" data-kind={icon}>
      <Icon name={icon} size={14} />
      <span className="unseen">{said} </span>
      {text}
    </span>
  );
}

function Viewers({ names }: { names: readonly string[] }): ReactNode {
  return (
    <span className="viewers">
      <span className="unseen">{names.join(", ")} looking</span>
      {names.map((name) => (
        <Avatar key={name} name={name} />
      ))}
    </span>
  );
}
