/** What an answer says of the user's spaces: those that are new, or left, their names and the user's roles. */

import { listOf, objectOf, spaceKey, textOf, textOr } from "../data/change.js";
import type { JoinedSpace, SpacesChanged } from "../data/events.js";
import type { Transaction } from "../store/store.js";
import type { Page } from "./reply.js";

/**
 * Keeps what is told of spaces that the server has named, and takes note of up to where it was told. What is told of one that it
 * cannot read yet waits until it is named, and so does what was told before all is read again. Returns what is otherwise now;
 * undefined where nothing is. Raises BadReply.
 */
export async function keepRoles(tx: Transaction, page: Page): Promise<SpacesChanged | undefined> {
  const { roles, rolesUntil } = objectOf(page.wire.spaces ?? {});
  const said = listOf(roles).map(objectOf);
  const told = said.map(({ id, name, role }) => ({ id: textOf(id), name: textOf(name), role: textOf(role) }));
  const changed: JoinedSpace[] = [];
  const waiting = new Map(tx.meta.told?.map((space) => [space.id, space]));
  for (const id of [...page.left, ...page.joined]) waiting.delete(id);
  for (const space of told) {
    const held = await tx.get("spaces", [space.id]);
    if (held === undefined) {
      if (page.unreadable.includes(space.id)) waiting.set(space.id, space);
    } else if (held.name !== space.name || held.role !== space.role) {
      tx.put("spaces", space);
      if (spaceKey(space.id)) changed.push(space as JoinedSpace);
    }
  }
  const whole = tx.meta.restarting && !page.more;
  tx.meta.told = [...waiting.values()].filter(({ id }) => !whole || page.unreadable.includes(id));
  tx.meta.roles = textOr(rolesUntil, tx.meta.roles);
  const [joined, left] = [page.joined.filter(spaceKey), page.left.filter(spaceKey)];
  return joined[0] || left[0] || changed[0] ? { kind: "spaces", joined, left, role: changed } : undefined;
}
